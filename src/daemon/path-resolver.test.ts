import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { byteStringOfText } from "../base/byte-string.ts";
import { PROJECT_ROOT, type View } from "../core/compile/view.ts";
import { placePath } from "./path-resolver.ts";

let base = "";
let view: View;

before(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-paths-")));
  mkdirSync(join(base, "p/src"), { recursive: true });
  mkdirSync(join(base, "p/inc"));
  mkdirSync(join(base, "out"));
  writeFileSync(join(base, "p/src/a.c"), "");
  writeFileSync(join(base, "out/secret.h"), "");
  symlinkSync("../inc", join(base, "p/src/inside"));
  symlinkSync("../../out", join(base, "p/src/leaves"));
  symlinkSync(join(base, "p/inc"), join(base, "p/src/absolute"));
  symlinkSync("p", join(base, "alias"));
  symlinkSync("loop", join(base, "p/loop"));
  view = { roots: [{ host: byteStringOfText(join(base, "p")), guest: PROJECT_ROOT }] };
});
after(() => rmSync(base, { recursive: true }));

function place(path: string): string {
  const placed = placePath(view, byteStringOfText(path));
  return placed.kind === "view" ? placed.guest : `outside ${placed.host.slice(base.length)}`;
}

test("a path keeps its spelling below the root that it enters", () => {
  const rows: [string, string][] = [
    ["p/src/a.c", "/hpcc/project/src/a.c"],
    ["p", "/hpcc/project"],
    ["alias/src/a.c", "/hpcc/project/src/a.c"],
    ["p/./src//a.c", "/hpcc/project/src/a.c"],
    ["p/src/../src/a.c", "/hpcc/project/src/../src/a.c"],
    ["p/src/inside/x.h", "/hpcc/project/src/inside/x.h"],
    ["p/src/inside/../src/a.c", "/hpcc/project/src/inside/../src/a.c"],
    ["p/missing/x.h", "/hpcc/project/missing/x.h"],
    ["out/../p/src/a.c", "/hpcc/project/src/a.c"],
  ];
  for (const [path, expected] of rows) assert.equal(place(`${base}/${path}`), expected, path);
});

test("a path that leaves the view, by itself or by a link, is outside", () => {
  const rows: [string, string][] = [
    ["out/secret.h", "outside /out/secret.h"],
    ["p/../out/secret.h", "outside /out/secret.h"],
    ["p/src/leaves/secret.h", "outside /out/secret.h"],
    ["p/src/absolute/x.h", "outside /p/src/absolute"],
    ["p/loop", "outside /p/loop"],
    ["pp", "outside /pp"],
  ];
  for (const [path, expected] of rows) assert.equal(place(`${base}/${path}`), expected, path);
});

test("a path that leaves the root and comes back is placed where it comes back", () => {
  assert.equal(place(`${base}/p/../p/src/a.c`), "/hpcc/project/src/a.c");
});
