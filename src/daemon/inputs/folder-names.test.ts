import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { byteStringOfText } from "../../base/byte-string.ts";
import { FolderNamesCache, FolderNamesOnce } from "./folder-names.ts";

let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "hpcc-names-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A clock so much ahead. */
const at = (offsetMs: number) => ({ wallMs: () => Date.now() + offsetMs });
const read = (names: FolderNamesCache) => names.read(byteStringOfText(folder));

test("names by kind, and precompiled headers of both families", () => {
  writeFileSync(join(folder, "a.h"), "");
  writeFileSync(join(folder, "a.h.gch"), "");
  mkdirSync(join(folder, "b.h.pch"));
  symlinkSync("a.h", join(folder, "link"));
  execFileSync("mkfifo", [join(folder, "fifo")]);
  const found = read(new FolderNamesCache(at(0)));
  assert.deepEqual(Object.fromEntries(found?.kinds ?? []), {
    "a.h": "file",
    "a.h.gch": "file",
    "b.h.pch": "folder",
    link: "link",
    fifo: "other",
  });
  assert.deepEqual(found?.precompiled.toSorted(), ["a.h.gch", "b.h.pch"]);
});

test("an unchanged folder is listed once, a changed one again", () => {
  const names = new FolderNamesCache(at(60_000));
  const first = read(names);
  assert.equal(read(names), first);
  writeFileSync(join(folder, "new.h"), "");
  assert.deepEqual([...(read(names)?.kinds.keys() ?? [])], ["new.h"]);
});

test("a folder that has just changed is not remembered", () => {
  const changedMs = Math.floor(statSync(folder).ctimeMs);
  const after = (ms: number) => new FolderNamesCache({ wallMs: () => changedMs + ms });
  const [soon, later] = [after(50), after(51)];
  assert.notEqual(read(soon), read(soon));
  assert.equal(read(later), read(later));
});

test("one pass over many names looks at each folder once", () => {
  let looked = 0;
  const cache = new FolderNamesCache(at(60_000));
  const once = new FolderNamesOnce({
    read: (path) => {
      looked += 1;
      return cache.read(path);
    },
  });
  const path = byteStringOfText(folder);
  const missing = byteStringOfText(join(folder, "missing"));
  const first = once.read(path);
  writeFileSync(join(folder, "later.h"), "");
  assert.equal(once.read(path), first);
  assert.deepEqual([once.read(missing), once.read(missing), looked], [null, null, 2]);
});

test("what is no folder has no names", () => {
  const names = new FolderNamesCache(at(0));
  writeFileSync(join(folder, "file"), "");
  for (const name of ["file", "missing", "file/x"])
    assert.equal(names.read(byteStringOfText(join(folder, name))), null);
});
