import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { FileDigests } from "./file-digests.ts";

test("a digest is that of the bytes, whatever size and time say", () => {
  const root = mkdtempSync(join(tmpdir(), "hpcc-digests-"));
  try {
    const file = join(root, "f");
    const path = byteStringOfText(file);
    // Far later, so that what is read is remembered.
    const files = new FileDigests({ wallMs: () => Date.now() + 60_000 });
    const long = new Date("2020-01-01T00:00:00Z");
    for (const text of ["one", "two", "one"]) {
      writeFileSync(join(root, "new"), text);
      utimesSync(join(root, "new"), long, long);
      renameSync(join(root, "new"), file);
      const digest = sha256(Buffer.from(text));
      assert.deepEqual([files.digest(path)?.digest, files.digest(path)?.digest], [digest, digest]);
      assert.equal(files.read(path)?.stamp.ino, statSync(file, { bigint: true }).ino);
    }
    writeFileSync(file, "six");
    utimesSync(file, long, long);
    assert.equal(files.digest(path)?.digest, sha256(Buffer.from("six")));
    assert.equal(files.digest(byteStringOfText(root)), null);
    assert.equal(files.digest(ascii("/dev/null")), null);
  } finally {
    rmSync(root, { recursive: true });
  }
});
