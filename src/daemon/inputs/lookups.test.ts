import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type ByteString, byteStringOfText } from "../../base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { scanSource } from "../../core/compile/view/source-scan.ts";
import { PROJECT_ROOT, type View } from "../../core/compile/view/view.ts";
import { FolderNamesCache } from "./folder-names.ts";
import { absentNames, escapingLookup, type LookupPlaces, precompiledHeaders, type ReadText } from "./lookups.ts";
import { SourceTree } from "./source-tree.ts";

let base = "";
let project = "";
let view: View;
const names = new FolderNamesCache(SYSTEM_CLOCK);
const bytes = (text: string) => byteStringOfText(text);
const inView = (name: string) => `${PROJECT_ROOT}/${name}` as ByteString;

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
  view = { roots: [{ host: bytes(project), guest: PROJECT_ROOT }] };
});
after(() => rmSync(base, { recursive: true }));

interface Asked {
  readonly text?: string;
  /** Folder of the text, below the project; null for one of the image. */
  readonly of?: string | null;
  readonly forced?: readonly string[];
  readonly macros?: readonly string[];
  readonly folders?: readonly string[];
  readonly found?: readonly string[];
}

function placesOf({ forced = [], macros = [], folders = ["inc"], found = [] }: Asked): LookupPlaces {
  const tree = new SourceTree({ view, cwd: PROJECT_ROOT, imageRoot: bytes(""), imageEntries: new Set(["usr"]) });
  return {
    view,
    tree,
    names,
    folders: folders.map(inView),
    cwd: PROJECT_ROOT,
    forced: forced.filter((name) => !name.startsWith("/")).map(bytes),
    forcedPaths: forced.filter((name) => name.startsWith("/")).map(bytes),
    macros: macros.map(bytes),
    found: found.map(bytes),
  };
}

function escaping(asked: Asked): string | null {
  const { text = "", of = "." } = asked;
  const folder = of === null ? null : of === "." ? PROJECT_ROOT : inView(of);
  return escapingLookup([{ folder, scan: scanSource(Buffer.from(text), "c") }], placesOf(asked));
}

test("a name that the host finds through a link out of the view is named", () => {
  for (const line of [
    "#include <@>",
    '#include "@"',
    "#if __has_include(<@>)\n#endif",
    '#if __has_include("@")\n#endif',
  ]) {
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

test("the folder of the file itself is searched for quoted names alone", () => {
  symlinkSync(join(base, "outside.h"), join(project, "own.h"));
  assert.equal(escaping({ text: '#include "own.h"', folders: [] }), join(project, "own.h"));
  assert.equal(escaping({ text: "#include <own.h>", folders: [] }), null);
  assert.equal(escaping({ text: '#include "own.h"', folders: [], of: null }), null);
  assert.equal(escaping({ text: '#include "own.h"', folders: [], of: "inc" }), null);
  assert.equal(escaping({ forced: ["own.h"], folders: [] }), join(project, "own.h"));
  assert.equal(escaping({ text: '#define X "own.h"', folders: [] }), null);
});

test("names that macros make are sought among definitions", () => {
  assert.equal(escaping({ text: "#define X <link.h>\n#include X\n" }), join(project, "inc/link.h"));
  assert.equal(escaping({ text: "#include X\n", macros: ["X=<link.h>"] }), join(project, "inc/link.h"));
  assert.equal(escaping({ text: "#include X\n", macros: ['X="link.h"'] }), join(project, "inc/link.h"));
  assert.equal(escaping({ text: "#include X\n", macros: ["X=<inside.h>"] }), null);
  assert.equal(escaping({ text: "#define X <link.h>\n" }), null);
  const define = (value: string) => escaping({ text: `#define Y "${value}"\n#include X\n` });
  for (const folder of [base, `${base}/`, `${base}/none/`]) assert.equal(define(folder), null, "a folder is no header");
  assert.equal(define(`${base}/outside.h`), `${base}/outside.h`);
});

test("names that macros make of parts are the ends of what was found", () => {
  const text = "#define JOIN(a, b) <a.b>\n#include JOIN(link,h)\n";
  const link = join(project, "inc/link.h");
  for (const found of ["link.h", "later/link.h", "/hpcc/project/later/link.h", "/usr/include/link.h"])
    assert.equal(escaping({ text, found: [found] }), link, found);
  assert.equal(escaping({ text, found: ["/usr/include/near/deep.h", "inside.h"] }), null);
  assert.equal(escaping({ text, found: ["x/absolute/deep.h"] }), join(project, "inc/absolute/deep.h"));
  assert.equal(escaping({ text: "#include <inside.h>\n", found: ["later/link.h"] }), null, "nothing makes names");
  const places = placesOf({ folders: ["inc", "inc/real"], found: ["/hpcc/project/inc/real/deep.h"] });
  const absent = absentNames([{ folder: PROJECT_ROOT, scan: scanSource(Buffer.from(text), "c") }], places);
  const early = { folder: bytes(join(project, "inc")), name: bytes("deep.h") };
  assert.ok(absent.some(({ folder, names }) => folder === early.folder && names.includes(early.name)));
});

test("a header of the image that seeks a name leads out of the view as well", () => {
  assert.equal(escaping({ text: "#include <link.h>\n", of: null }), join(project, "inc/link.h"));
});

test("a link that appears later is seen", () => {
  const text = "#include <later.h>";
  assert.equal(escaping({ text }), null);
  symlinkSync(join(base, "outside.h"), join(project, "inc/later.h"));
  assert.equal(escaping({ text }), join(project, "inc/later.h"));
});

test("a precompiled header beside a file that was read, or before it on the include path", () => {
  mkdirSync(join(project, "pch/early"), { recursive: true });
  mkdirSync(join(project, "pch/late/all.h.gch"), { recursive: true });
  writeFileSync(join(project, "pch/early/other.h.gch"), "");
  writeFileSync(join(project, "pch/early/more.h.pch"), "");
  const find = (text: string, of: string, folders: string[], forced: string[] = []) => {
    const texts: ReadText[] = [{ folder: inView(`pch/${of}`), scan: scanSource(Buffer.from(text), "c") }];
    return precompiledHeaders(texts, placesOf({ folders: folders.map((folder) => `pch/${folder}`), forced }))[0];
  };
  assert.equal(find('#include "all.h"\n', "late", []), inView("pch/late/all.h.gch"));
  assert.equal(find('#include "x.h"\n', "late", ["early"]), undefined);
  assert.equal(find("#include <other.h>\n", "late", ["early"]), inView("pch/early/other.h.gch"));
  assert.equal(find("#include <sub/other.h>\n", "late", ["early"]), inView("pch/early/other.h.gch"));
  assert.equal(find("#if __has_include(<more.h>)\n#endif\n", "late", ["early"]), inView("pch/early/more.h.pch"));
  assert.equal(find("", "late", [], [inView("pch/early/other.h")]), inView("pch/early/other.h.gch"));
  assert.equal(find("", "late", ["early"], ["other.h"]), inView("pch/early/other.h.gch"));
});
