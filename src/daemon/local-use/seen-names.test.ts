import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { FolderNamesCache } from "../inputs/folder-names.ts";
import { type ForeignFiles, SeenNames } from "./seen-names.ts";

function inFolder(check: (root: string, seen: (foreign?: ForeignFiles) => SeenNames) => void): void {
  const root = mkdtempSync(join(tmpdir(), "hpcc-seen-"));
  try {
    check(root, (foreign) => {
      const options = { cwd: byteStringOfText(root), foreign: foreign ?? null };
      return new SeenNames(new FolderNamesCache(SYSTEM_CLOCK), options);
    });
  } finally {
    rmSync(root, { recursive: true });
  }
}

test("a name is absent unless a compiler would open it, or stumble over it", () => {
  inFolder((root, seen) => {
    mkdirSync(join(root, "a/sys"), { recursive: true });
    mkdirSync(join(root, "a/folder.h"));
    mkdirSync(join(root, "a/pre.h.gch"));
    writeFileSync(join(root, "a/f.h"), "");
    writeFileSync(join(root, "a/sys/g.h"), "");
    mkdirSync(join(root, "a/sys/deep/folder.h"), { recursive: true });
    writeFileSync(join(root, "a/sys/deep/d.h"), "");
    symlinkSync("sys", join(root, "a/linked"));
    symlinkSync("../f.h", join(root, "a/sys/up.h"));
    symlinkSync("/proc/self", join(root, "a/process"));
    symlinkSync("f.h", join(root, "a/link.h"));
    symlinkSync("gone.h", join(root, "a/dangling.h"));
    symlinkSync("loop.h", join(root, "a/loop.h"));
    const names = seen();
    const kind = (name: string) => names.kind(ascii("a"), ascii(name));
    for (const name of [
      "f.h",
      "sys/g.h",
      "../a/f.h",
      "./f.h",
      "link.h",
      "loop.h",
      "pre.h.gch",
      "sys/deep/d.h",
      "sys/up.h",
      "sys/../f.h",
      "linked/g.h",
      "linked/deep/d.h",
      "process/x.h",
    ])
      assert.equal(kind(name), "file", name);
    for (const name of [
      "x.h",
      "sys/x.h",
      "sys",
      "none/g.h",
      "../f.h",
      "folder.h",
      "dangling.h",
      "f.h/x.h",
      "sys/deep/x.h",
      "sys/deep/folder.h",
      "sys/none/x.h",
      "linked/x.h",
    ])
      assert.equal(kind(name), "absent", name);
    assert.equal(names.kind(ascii("none"), ascii("f.h")), "absent");
    assert.equal(names.kind(ascii("."), ascii("a/f.h")), "file");
    assert.equal(names.kind(ascii(""), ascii("proc/self/stat")), "file");
  });
});

test("an image's names are read where the image lies", () => {
  inFolder((root, seen) => {
    mkdirSync(join(root, "image/usr/include"), { recursive: true });
    writeFileSync(join(root, "image/usr/include/i.h"), "");
    const names = seen({
      has: (path) => path.startsWith("/usr/"),
      find: (path) => byteStringOfText(join(root, "image", path)),
    });
    assert.equal(names.kind(ascii("/usr/include"), ascii("i.h")), "file");
    assert.equal(names.kind(ascii("/usr/include"), ascii("stdio.h")), "absent");
    assert.equal(names.isForeign(ascii("/usr/include/i.h")), true);
    assert.equal(names.isForeign(ascii("usr/x.h")), false);
  });
});
