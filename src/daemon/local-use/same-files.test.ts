import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { folderState } from "../call/folder-state.ts";
import { folderKinds, sameFiles } from "./same-files.ts";

const input = (text: string, ino: bigint, seconds: bigint) => ({
  path: ascii(`${ino}.h`),
  digest: sha256(Buffer.from(text)),
  stamp: { dev: 1n, ino, size: 1n, mtimeNs: seconds * 1_000_000_000n + ino, ctimeNs: 0n, mode: 0n },
});

test("files are one by inode, or by content and second", () => {
  assert.deepEqual(sameFiles([input("a", 1n, 1n), input("b", 2n, 1n), input("a", 3n, 2n)]), []);
  assert.deepEqual(sameFiles([input("a", 1n, 1n), input("b", 2n, 1n), input("a", 3n, 1n)]), [0, 2]);
  assert.deepEqual(sameFiles([input("a", 1n, 1n), input("b", 1n, 2n)]), [0, 1]);
});

test("folders are told that are not there, no folders, or the same one", () => {
  const root = mkdtempSync(join(tmpdir(), "hpcc-same-"));
  try {
    mkdirSync(join(root, "a"));
    mkdirSync(join(root, "b"));
    symlinkSync("a", join(root, "c"));
    symlinkSync("d", join(root, "d"));
    writeFileSync(join(root, "f"), "");
    const kinds = (names: string) =>
      folderKinds(names.split(" ").map((name) => folderState(byteStringOfText(join(root, name)))));
    assert.equal(kinds("a b c d e f"), "0 1 0 - - f");
    assert.equal(kinds("b a"), "0 1");
  } finally {
    rmSync(root, { recursive: true });
  }
});
