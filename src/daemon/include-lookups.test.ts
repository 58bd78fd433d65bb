import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readlinkSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { byteStringOf, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { type PathMapper, viewPathMapper } from "../core/compile/view/path-map.ts";
import { PROJECT_ROOT } from "../core/compile/view/view.ts";
import { escapingLookup, FolderLinks, lookupsOf, precompiledHeader } from "./include-lookups.ts";

let base = "";
let project = "";
let mapper: PathMapper;
const links = new FolderLinks(SYSTEM_CLOCK);
const bytes = (text: string) => byteStringOfText(text);

before(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-lookups-")));
  project = join(base, "p");
  mkdirSync(join(project, "inc/real"), { recursive: true });
  writeFileSync(join(base, "outside.h"), "");
  writeFileSync(join(project, "inc/inside.h"), "");
  writeFileSync(join(project, "inc/real/deep.h"), "");
  symlinkSync("../../outside.h", join(project, "inc/link.h"));
  symlinkSync("real", join(project, "inc/near"));
  symlinkSync(join(project, "inc/real"), join(project, "inc/absolute"));
  symlinkSync("/nonexistent/x.h", join(project, "inc/dangling.h"));
  mapper = viewPathMapper({
    view: { roots: [{ host: bytes(project), guest: PROJECT_ROOT }] },
    cwd: bytes(project),
    imageEntries: new Set(["usr"]),
    readlink: (path) => {
      try {
        return byteStringOf(readlinkSync(bytesOf(path), { encoding: "buffer" }));
      } catch {
        return null;
      }
    },
  });
});
after(() => rmSync(base, { recursive: true }));

interface Asked {
  readonly text?: string;
  readonly forced?: readonly string[];
  readonly macros?: readonly string[];
  readonly folders?: readonly string[];
}

function escaping({ text = "", forced = [], macros = [], folders = ["inc"] }: Asked): string | null {
  return escapingLookup({
    reads: [{ path: bytes(join(project, "a.c")), bytes: Buffer.from(text) }],
    folders: folders.map((folder) => bytes(join(project, folder))),
    cwd: bytes(project),
    forced: forced.map(bytes),
    macros: macros.map(bytes),
    mapper,
    links,
  });
}

test("names are found in every spelling, and a mere test for the operator is none", () => {
  const text = [
    "#ifdef __has_include",
    "#if defined(__has_include) && __has_include(<a/b.h>)",
    '#if __has_include ( "c.h" ) || __has_include_next(<d.h>)',
    "#include <e.h> // text",
    '  #  include_next"f.h"',
    "/* a */ # /* no */ define X <g.h>",
    '#define Y "h.h"',
    "// #include <i.h>",
  ].join("\n");
  const { names, definitions, computedInclude, computedTest } = lookupsOf(Buffer.from(text));
  assert.deepEqual(names, ["a/b.h", "c.h", "d.h", "e.h", "f.h"]);
  assert.deepEqual(definitions, ["h.h"]);
  assert.deepEqual([computedInclude, computedTest], [false, false]);
  assert.equal(lookupsOf(Buffer.from("#include MACRO\n")).computedInclude, true);
  assert.equal(lookupsOf(Buffer.from("#if __has_include(MACRO)\n")).computedTest, true);
});

test("a name that the host finds through a link out of the view is named", () => {
  for (const line of ["#include <@>", '#include "@"', "#if __has_include(<@>)"]) {
    const ask = (name: string) => escaping({ text: line.replace("@", name) });
    for (const harmless of [
      "inside.h",
      "missing.h",
      "near/deep.h",
      "real/deep.h",
      "dangling.h",
      "../../nothing.h",
      "/usr/x.h",
    ])
      assert.equal(ask(harmless), null, `${line} ${harmless}`);
    assert.equal(ask("link.h"), join(project, "inc/link.h"));
    assert.equal(ask("absolute/deep.h"), join(project, "inc/absolute/deep.h"));
    assert.equal(ask("../../outside.h"), `${project}/inc/../../outside.h`);
    assert.equal(ask(join(base, "outside.h")), join(base, "outside.h"));
    assert.equal(ask(join(project, "inc/inside.h")), join(project, "inc/inside.h"));
  }
});

test("the folder of the file itself is searched", () => {
  symlinkSync(join(base, "outside.h"), join(project, "own.h"));
  assert.equal(escaping({ text: '#include "own.h"', folders: [] }), join(project, "own.h"));
  assert.equal(escaping({ forced: ["own.h"], folders: [] }), join(project, "own.h"));
  assert.equal(escaping({ text: '#define X "own.h"', folders: [] }), null);
});

test("names that macros make are sought among definitions", () => {
  assert.equal(escaping({ text: "#define X <link.h>\n#include X\n" }), join(project, "inc/link.h"));
  assert.equal(escaping({ text: "#include X\n", macros: ["X=<link.h>"] }), join(project, "inc/link.h"));
  assert.equal(escaping({ text: "#include X\n", macros: ["X=<inside.h>"] }), null);
  assert.notEqual(escaping({ text: "#if __has_include(X)\n" }), null);
});

test("a link that appears later is seen", () => {
  const text = "#include <later.h>";
  assert.equal(escaping({ text }), null);
  symlinkSync(join(base, "outside.h"), join(project, "inc/later.h"));
  assert.equal(escaping({ text }), join(project, "inc/later.h"));
});

test("a precompiled header beside a file that was read, or before it on the include path", () => {
  const at = (name: string) => bytes(join(project, "pch", name));
  mkdirSync(join(project, "pch/early"), { recursive: true });
  mkdirSync(join(project, "pch/late/all.h.gch"), { recursive: true });
  writeFileSync(join(project, "pch/early/other.h.gch"), "");
  const find = (read: string, folders: string[], forced: string[] = []) =>
    precompiledHeader({
      reads: [{ path: at(read), bytes: new Uint8Array() }],
      folders: folders.map(at),
      forced: forced.map(bytes),
      cwd: bytes(project),
      links,
    });
  assert.equal(find("late/all.h", []), at("late/all.h.gch"));
  assert.equal(find("late/x.h", ["early"]), null);
  assert.equal(find("late/other.h", ["early/"]), at("early/other.h.gch"));
  assert.equal(find("late/x.h", ["early"], ["other.h"]), at("early/other.h.gch"));
});
