import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { SourceTree } from "./source-tree.ts";

const root = mkdtempSync(join(tmpdir(), "ht-"));
mkdirSync(join(root, "a/b"), { recursive: true });
for (const name of ["a/x.h", "a/b/y.h"]) writeFileSync(join(root, name), "");
symlinkSync("a/b", join(root, "l"));
after(() => rmSync(root, { recursive: true }));

function tree(): SourceTree {
  const view = { roots: [{ guest: ascii("/hpcc/project"), host: root as ByteString }] };
  return new SourceTree({ view, cwd: ascii("/hpcc/project/a"), imageRoot: ascii("/none"), imageEntries: new Set() });
}

const kindAndGuest = (one: SourceTree, name: string) => {
  const found = one.look(ascii(name));
  return found.kind === "file" ? found.guest : found.kind;
};

test("a second name in a folder leads where it would lead first", () => {
  const names = [
    "x.h",
    "b/y.h",
    "b/../x.h",
    "../l/y.h",
    "../l/../x.h",
    "none/x.h",
    "x.h/y.h",
    "/hpcc/project/a/x.h",
    "/etc/x",
  ];
  const one = tree();
  for (const name of [...names, ...names]) assert.equal(kindAndGuest(one, name), kindAndGuest(tree(), name), name);
  assert.equal(kindAndGuest(one, "../l/../x.h"), "/hpcc/project/a/x.h");
});

test("what leads to a file is taken with each of its names, a folder that was only looked at before included", () => {
  const one = tree();
  one.look(ascii("../l/y.h"));
  one.look(ascii("b/y.h"));
  assert.equal(one.links.length, 0);
  one.add(ascii("../l/y.h"));
  one.add(ascii("b/y.h"));
  assert.deepEqual(
    one.links.map(({ path, target }) => `${path} ${target}`),
    ["/hpcc/project/l a/b"],
  );
  assert.ok(one.has(ascii("/hpcc/project/a/b/y.h")));
  assert.ok(one.folders.includes(ascii("/hpcc/project/a/b")));
});
