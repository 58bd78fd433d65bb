import assert from "node:assert/strict";
import { linkSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { parseGnu } from "../../core/compile/grammar/gnu-parse.ts";
import { FolderNamesCache } from "../inputs/folder-names.ts";
import { FileDigests } from "./file-digests.ts";
import { findInputs, TextScans } from "./find-inputs.ts";
import { searchPath } from "./search-path.ts";
import { SeenNames } from "./seen-names.ts";

interface Given {
  readonly files: Readonly<Record<string, string>>;
  readonly argv?: string;
  /** `@` is the folder. */
  readonly listed?: readonly string[];
  readonly listsAll?: boolean;
  readonly prepare?: (root: string) => void;
  /** Of the start of the compile against the files' last change. */
  readonly startedAfterMs?: number;
  /** Comes to pass while the compile runs. */
  readonly meanwhile?: (root: string) => void;
}

/** Longer than a tick of the file system's clock. */
const TICKS_MS = 30;

/** The time at which a compile begins that trusts what is there now. */
function begin(): number {
  const now = Date.now();
  while (Date.now() < now + TICKS_MS);
  return Date.now();
}

/** What is found, relative to the folder; or why it is not. */
function found({
  files,
  argv = "gcc -Ia -Ib -isystem s -c x.c",
  listed,
  listsAll = true,
  prepare,
  startedAfterMs = 60_000,
  meanwhile,
}: Given) {
  const root = mkdtempSync(join(tmpdir(), "hpcc-inputs-"));
  try {
    for (const name of ["a", "b", "s"]) mkdirSync(join(root, name));
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), text);
    }
    prepare?.(root);
    const startedMs = meanwhile === undefined ? Date.now() + startedAfterMs : begin();
    meanwhile?.(root);
    const parsed = parseGnu(argv.split(" ").map(ascii), { family: "gcc", readResponseFile: () => null });
    assert.equal(parsed.kind, "compile");
    if (parsed.kind !== "compile") throw new Error("unreachable");
    const stage = findInputs(
      {
        invocation: parsed.invocation,
        listed: (listed ?? [parsed.invocation.source]).map((name) => ascii(name.replace("@", root))),
        listsAll,
        folders: searchPath(parsed.invocation, new Map(), []),
        seen: new SeenNames(new FolderNamesCache(SYSTEM_CLOCK), { cwd: byteStringOfText(root), foreign: null }),
        startedMs,
        datesAreKnown: false,
      },
      new FileDigests(SYSTEM_CLOCK),
      new TextScans(),
    );
    if (stage.kind === "bypass") return { reason: stage.reason, inputs: [] as string[], absent: [] as string[] };
    return {
      reason: null,
      inputs: stage.value.inputs.map(({ path }) => path as string),
      absent: stage.value.absent.flatMap(({ folder, names }) => names.map((name) => `${folder}/${name}`)),
    };
  } finally {
    rmSync(root, { recursive: true });
  }
}

test("names are absent wherever they are sought, before and behind the place that has them", () => {
  const { inputs, absent } = found({
    files: { "x.c": '#include "h.h"\n#include <k.h>\n', "b/h.h": "", "a/k.h": "" },
    listed: ["x.c", "b/h.h", "a/k.h"],
  });
  assert.deepEqual(inputs, ["x.c", "b/h.h", "a/k.h"]);
  for (const name of ["./h.h", "a/h.h", "s/h.h", "b/k.h", "s/k.h", "./h.h.gch", "a/h.h.gch", "a/stdc-predef.h"])
    assert.ok(absent.includes(name), name);
  assert.ok(!absent.includes("b/h.h") && !absent.includes("./k.h"));
});

test("a precompiled header of a name that a macro makes is held as absent", () => {
  for (const text of ['#define N "h.h"\n#include N\n', "#define P(x) <x.h>\n#include P(h)\n"]) {
    const { absent } = found({ files: { "x.c": text, "a/h.h": "" }, listed: ["x.c", "a/h.h"] });
    assert.ok(absent.includes("a/h.h.gch"), text);
  }
});

test("a header that includes itself by a longer path each time is followed once", () => {
  const { inputs, reason } = found({
    files: {
      "x.c": '#include "a/k.h"\n#include "link/k.h"\n',
      "a/k.h": '#pragma once\n#include "../a/k.h"\n#include "self/k.h"\n#include "n.h"\n',
      "a/n.h": "",
    },
    listed: ["x.c", "a/k.h", "a/n.h"],
    prepare: (root) => {
      symlinkSync(".", join(root, "a/self"));
      symlinkSync("a", join(root, "link"));
    },
  });
  assert.equal(reason, null);
  assert.deepEqual(inputs.slice(0, 3), ["x.c", "a/k.h", "a/n.h"]);
  assert.ok(inputs.length <= 20, inputs.join());
});

test("the kernel's files are never younger than a compile that did not read them", () => {
  const given = {
    files: { "x.c": '#define MOUNTED "m.h"\n#define OTHER "h.h"\n#include OTHER /* any */\n', "a/h.h": "" },
    listed: ["x.c", "a/h.h"],
    prepare: (root: string) => symlinkSync("/proc/self/mounts", join(root, "b/m.h")),
    meanwhile: () => undefined,
  };
  assert.equal(found(given).reason, null);
  assert.equal(found({ ...given, listed: [...given.listed, "b/m.h"] }).reason, "modified_input_file");
});

test("a header that is read by two spellings is held beside both", () => {
  const { inputs, absent } = found({
    files: {
      "x.c": '#include "a/k.h"\n#include "link/k.h"\n',
      "a/k.h": '#if __has_include("opt.h")\n#include "opt.h"\n#endif\n#include "n.h"\n',
      "a/n.h": "#pragma once\n",
    },
    listed: ["x.c", "a/k.h", "a/n.h", "link/k.h"],
    prepare: (root) => symlinkSync("a", join(root, "link")),
  });
  assert.ok(inputs.includes("link/n.h") && absent.includes("link/opt.h"), JSON.stringify({ inputs, absent }));
});

test("a file that is a header and what an assembler reads is looked at as both", () => {
  const { reason } = found({
    files: {
      "x.c": '#include "d.h"\n__asm__(".include \\"d.inc\\"");\n',
      "d.h": '#if 0\n.macro m a\n.\\a "e.q"\n.endm\nm include\n#endif\n',
    },
    listed: ["x.c", "d.h"],
    prepare: (root) => symlinkSync("d.h", join(root, "d.inc")),
  });
  assert.equal(reason, "unsupported_code_directive");
});

test("an absolute name is beside no text, however often that is read", () => {
  const { reason } = found({
    files: {
      "x.c": '#include "a/k.h"\n#include "link/k.h"\n',
      "a/k.h": '#define NULL_DEVICE "/dev/null"\n#define NAME "n.h"\n#include NAME /* any */\n',
      "a/n.h": "",
    },
    listed: ["x.c", "a/k.h", "a/n.h", "link/k.h"],
    prepare: (root) => symlinkSync("a", join(root, "link")),
  });
  assert.equal(reason, null);
});

test("what cannot be a file's name is sought nowhere", () => {
  const odd = ["/", ".", "a/..", "b/", "n".repeat(256)].map((name, at) => `#define A${at} "${name}"\n`);
  const files = { "x.c": `${odd.join("")}#define D "h.h"\n#include D /* any */\n`, "a/h.h": "" };
  const { inputs, absent } = found({ files, listed: ["x.c", "a/h.h"] });
  assert.deepEqual(inputs, ["x.c", "a/h.h"]);
  assert.ok(absent.includes("./h.h"));
  assert.deepEqual(
    absent.filter((name) => /(?:^|\/)(?:\.{0,2}|n{256})$/.test(name)),
    [],
  );
});

test("what __has_include asks for is an input where it is, and absent where it is not", () => {
  const files = { "x.c": "#if __has_include(<q.h>) || __has_include(<r.h>)\n#endif\n", "b/q.h": "" };
  const { inputs, absent } = found({ files });
  assert.deepEqual(inputs, ["x.c", "b/q.h"]);
  for (const name of ["a/q.h", "a/r.h", "b/r.h", "s/r.h"]) assert.ok(absent.includes(name), name);
});

test("a header in a branch that is not taken is no input", () => {
  const files = { "x.c": "#ifdef NO\n#include <n.h>\n#endif\n", "a/n.h": "" };
  assert.deepEqual(found({ files }).inputs, ["x.c"]);
});

test("a list without system headers is completed with all that they may read", () => {
  const files = {
    "x.c": '#include <sys.h>\n#include "own.h"\n#ifdef NO\n#include <own-not.h>\n#endif\n',
    "s/sys.h": '#include "part.h"\n#ifdef NO\n#include <deep.h>\n#endif\n#include <from-own.h>\n',
    "s/part.h": "",
    "s/deep.h": "#include_next <deep.h>\n",
    "a/from-own.h": "",
    "a/own-not.h": "",
    "own.h": "#pragma GCC system_header\n#include <hidden.h>\n",
    "b/hidden.h": "",
  };
  const { inputs } = found({ files, listed: ["x.c", "own.h"], listsAll: false });
  assert.deepEqual(inputs.sort(), ["a/from-own.h", "b/hidden.h", "own.h", "s/deep.h", "s/part.h", "s/sys.h", "x.c"]);
});

test("a file that a compiler takes for one that it has read is an input, too", () => {
  const once = "#pragma once\nint once;\n";
  const files = { "x.c": "#include <one.h>\n#include <two.h>\n#include <three.h>\n", "a/one.h": once, "b/two.h": once };
  const listed = ["x.c", "a/one.h"];
  const prepare = (root: string) => linkSync(join(root, "a/one.h"), join(root, "b/three.h"));
  assert.deepEqual(found({ files, listed, prepare }).inputs, ["x.c", "a/one.h", "b/two.h", "b/three.h"]);
  // GCC reads no file twice that is imported.
  const imported = { "x.c": "#import <one.h>\n#include <two.h>\n", "a/one.h": "int i;", "b/two.h": "int i;" };
  assert.deepEqual(found({ files: imported, listed }).inputs, ["x.c", "a/one.h", "b/two.h"]);
});

test("a system header that was listed by its real path is held by the way that led to it", () => {
  const files = { "q/h.h": "", "v1/h.h": "int v;\n", "long/x": "" };
  const computed = "#define P(x) <x.h>\n#include P(h)\n";
  const includes = { "x.c": "#include <h.h>\n", "computed/x.c": computed };
  const prepare = (root: string) => symlinkSync("../v1", join(root, "long/cur"));
  for (const source of ["x.c", "computed/x.c"]) {
    const given = { files: { ...files, ...includes }, argv: `gcc -iquote q -isystem long/cur -c ${source}`, prepare };
    const { reason, inputs } = found({ ...given, listed: [source, "@/v1/h.h"] });
    assert.equal(reason, null);
    assert.ok(inputs.includes("long/cur/h.h"), inputs.join());
  }
  // A link that is the header itself has a name of its own, which the real path does not tell.
  const linked = (root: string) => symlinkSync("../v1/h.h", join(root, "s/other.h"));
  const one = { files: { ...files, "x.c": computed.replace("P(h)", "P(other)") }, prepare: linked };
  assert.equal(found({ ...one, listed: ["x.c", "@/v1/h.h"] }).reason, "unsupported_code_directive");
});

test("a name that is made of parts may lead to a system header that the list lacks", () => {
  const files = { "x.c": "#define P(x) <x.h>\n#include P(k)\n", "s/k.h": "", "a/k.h": "" };
  const listed = ["x.c"];
  assert.equal(found({ files, listed, listsAll: false }).reason, "unsupported_code_directive");
  // A call that searches no system folder has none, as a kernel's.
  const own = { files, argv: "gcc -nostdinc -Ia -c x.c", listed: ["x.c", "a/k.h"], listsAll: false };
  assert.equal(found(own).reason, null);
  const told = { ...files, "x.c": "#define P <k.h>\n#include P\n" };
  assert.ok(found({ files: told, argv: "gcc -isystem s -c x.c", listed, listsAll: false }).inputs.includes("s/k.h"));
});

test("what an assembler reads is followed", () => {
  const files = {
    "x.S": '.include "p.inc"\n.incbin "blob"\n',
    "p.inc": '.include "q.inc"\n',
    "a/q.inc": "",
    blob: "",
  };
  const { inputs, absent } = found({ files, argv: "gcc -Ia -c x.S", listed: ["x.S"] });
  assert.deepEqual(inputs, ["x.S", "p.inc", "blob", "a/q.inc"]);
  assert.ok(absent.includes("a/blob") && absent.includes("./q.inc"));
});

test("names of line directives are read for quotations", () => {
  const { inputs, absent } = found({ files: { "x.c": '#line 1 "y.y"\n#line 2 "z.y"\n', "y.y": "" } });
  assert.deepEqual(inputs, ["x.c", "y.y"]);
  assert.ok(absent.includes("./z.y"));
});

test("names that macros make are those of what was read", () => {
  const files = { "x.c": "#define STR(x) #x\n#include STR(made.h)\n", "b/made.h": "" };
  const { absent } = found({ files, listed: ["x.c", "b/made.h"] });
  assert.ok(absent.includes("a/made.h") && absent.includes("./made.h"), absent.join(" "));
});

test("a macro that is the whole operand names what its definitions hold, and no other names are sought", () => {
  const others = '#define OTHER "other.h"\n#define NAME "h.h"\n';
  const given = (text: string, more: Partial<Given> = {}) =>
    found({ files: { "x.c": text, "a/h.h": "" }, listed: ["x.c", "a/h.h"], ...more }).absent;
  const one = given(`${others}#ifdef Y\n#undef NAME\n#define NAME "y.h"\n#endif\n#include NAME\n`);
  for (const name of ["./h.h", "b/h.h", "a/y.h", "s/y.h"]) assert.ok(one.includes(name), name);
  assert.ok(!one.some((name) => name.endsWith("other.h")), one.join());
  const two = given(`${others}#define HEADER NAME\n#include HEADER\n`);
  assert.ok(two.includes("./h.h") && !two.some((name) => name.endsWith("other.h")));
  const word = given("#ifdef NAME\n#include NAME\n#endif\n#include <h.h>\n", {
    argv: 'gcc -Ia -Ib -isystem s -DNAME="w.h" -c x.c',
  });
  assert.ok(word.includes("a/w.h"));
  // What else may be read must be sought wherever any macro's string may lead.
  for (const text of [
    "#define HEADER <h.h>\n#include HEADER\n",
    '#define HEADER(x) x\n#include HEADER("h.h")\n',
    '#define HEADER "h." "h"\n#include HEADER\n',
    "#include NAME // h.h\n",
    "#include __BASE_FILE__\n",
    '#define/**/NAME "h.h"\n#include NAME\n',
    "#define NA\\\nME 1\n#include NAME\n",
    '#define\0HEADER "h.h"\n#include HEADER\n',
    `#define${" ".repeat(5000)}HEADER "h.h"\n#include HEADER\n`,
    `#define HEADER "h.h"\n#include HEADER\n${"HEADER\n".repeat(1_000)}`,
    '#if 0\n#define __FILE__ "h.h"\n#endif\n#include __FILE__\n',
  ])
    assert.ok(given(`${others}${text}`).includes("a/other.h"), text);
  for (const word of ['-DNAME(x)="h.h"', '-Wp,-DNAME="h.h"', "-DNAME"]) {
    const argv = `gcc -Ia -Ib -isystem s ${word} -c x.c`;
    assert.ok(given(`${others}#include NAME\n`, { argv }).includes("a/other.h"), word);
  }
});

test("a system header that is asked for first and included then is read, too", () => {
  const files = {
    "x.c": '#if __has_include(<sy.h>)\n#endif\n#include "b.h"\n',
    "a/b.h": "#include <sy.h>\n",
    "s/sy.h": "#include <sub.h>\n",
    "s/sub.h": "",
  };
  const { inputs, absent } = found({ files, listed: ["x.c", "a/b.h"], listsAll: false });
  assert.ok(inputs.includes("s/sub.h") && absent.includes("a/sub.h"), JSON.stringify({ inputs, absent }));
});

test("what may make a header the system's, or be read once, is found across continued lines and in markers", () => {
  for (const text of ["#pragma GCC system_\\\nheader\n", '# 2 "a/b.h" 3\n']) {
    const files = { "x.c": '#include "b.h"\n', "a/b.h": `${text}#include "c.h"\n`, "a/c.h": "" };
    assert.ok(found({ files, listed: ["x.c", "a/b.h"], listsAll: false }).inputs.includes("a/c.h"), text);
  }
  const once = { "x.c": '#include "p.h"\n#include "r.h"\n', "a/p.h": "#pragma on\\\nce\n" };
  const twins = found({ files: { ...once, "b/r.h": once["a/p.h"] }, listed: ["x.c", "a/p.h"] });
  assert.ok(twins.inputs.includes("b/r.h"), twins.inputs.join());
});

test("names that a compiler reads in another encoding, or with trigraphs, are refused", () => {
  const reason = (text: string, argv = "gcc -Ia -std=c99 -c x.c") => found({ files: { "x.c": text }, argv }).reason;
  assert.equal(reason('#ifdef NO\n#include "a??(b.h"\n#endif\n'), "unsupported_code_directive");
  assert.equal(reason('#define N "a??(b.h"\n#ifdef NO\n#include N\n#endif\n'), "unsupported_code_directive");
  const accent = '#ifdef NO\n#include "\u00e9.h"\n#endif\n';
  assert.equal(reason(accent), null);
  assert.equal(reason(accent, "gcc -Ia -finput-charset=ISO-8859-1 -c x.c"), "unsupported_code_directive");
});

test("what cannot be told is refused, each with its reason", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["const char *d = __DATE__;\n", "date_time_macro"],
    ["const char *d = __TIMESTAMP__;\n", "date_time_macro"],
    ["#if __has_include(NAME)\n#endif\n", "unsupported_code_directive"],
    ['#pragma GCC dependency "y"\n', "unsupported_code_directive"],
    ['#define D incbin\n__asm__("." D " \\"x\\"");\n#embed NAME\n', "unsupported_code_directive"],
  ];
  for (const [text, reason] of cases) assert.equal(found({ files: { "x.c": text } }).reason, reason, text);
  assert.equal(
    found({ files: { "x.c": "", "pre.h": "" }, argv: "gcc -DWHEN=__TIME__ -c x.c" }).reason,
    "date_time_macro",
  );
  const precompiled = { "x.c": "#include <h.h>\n", "a/h.h": "", "a/h.h.gch": "" };
  assert.equal(found({ files: precompiled, listed: ["x.c", "a/h.h"] }).reason, "could_not_use_precompiled_header");
  const folder = (root: string) => mkdirSync(join(root, "a/h.h.gch"));
  const inFolder = { files: { "x.c": "#include <h.h>\n", "a/h.h": "" }, listed: ["x.c", "a/h.h"], prepare: folder };
  assert.equal(found(inFolder).reason, "could_not_use_precompiled_header");
});

test("a header that may have come after the compiler had looked for it is not passed over", () => {
  const files = { "x.c": "#include <h.h>\n#include <sys/k.h>\n", "b/h.h": "", "b/sys/k.h": "", "new/k.h": "" };
  const listed = ["x.c", "b/h.h", "b/sys/k.h"];
  const at = (meanwhile: (root: string) => void) => found({ files, listed, meanwhile }).reason;
  assert.equal(
    at(() => {}),
    null,
  );
  assert.equal(
    at((root) => writeFileSync(join(root, "a/h.h"), "")),
    "modified_input_file",
  );
  // A folder keeps its files' times when it is moved.
  assert.equal(
    at((root) => renameSync(join(root, "new"), join(root, "a/sys"))),
    "modified_input_file",
  );
});

test("a folder that changes matters to a header in it only where a branch that was taken may name it", () => {
  const text = "#ifdef NO\n#include <sub/n.h>\n#endif\n#include <q.h>\n";
  const files = { "x.c": text, "a/sub/n.h": "n", "b/q.h": "#define Q" };
  const made = (root: string) => writeFileSync(join(root, "a/sub/made.o"), "");
  const reason = (given: Partial<Given>) =>
    found({ files, listed: ["x.c", "b/q.h"], meanwhile: made, ...given }).reason;
  assert.equal(reason({}), null);
  assert.equal(reason({ listsAll: false }), null);
  const beside = { "sub/x.c": '#include "../k.h"\n', "k.h": '#include "sub/q.h"\n', "sub/q.h": "" };
  const again = { files: beside, argv: "gcc -I. -c sub/x.c", listed: ["sub/x.c", "sub/../k.h", "sub/../sub/q.h"] };
  const object = (root: string) => writeFileSync(join(root, "sub/made.o"), "");
  assert.equal(reason({ ...again, meanwhile: object }), null, "by another spelling");
  const link = (root: string) => {
    mkdirSync(join(root, "b/sub"));
    linkSync(join(root, "b/q.h"), join(root, "b/sub/n.h"));
  };
  const cases: Readonly<Record<string, Partial<Given>>> = {
    "another of its name was read": { files: { ...files, "b/n.h": "" }, listed: ["x.c", "b/q.h", "b/n.h"] },
    "another one is a file that was read": { prepare: link },
    "it was read by another spelling, and a link leads to it": {
      files: { ...files, "x.c": "#include <sub/n.h>\n" },
      listed: ["x.c", "c/n.h"],
      prepare: (root) => symlinkSync("a/sub", join(root, "c")),
      meanwhile: (root) => symlinkSync("../a/sub", join(root, "b/sub")),
    },
    "another one may be a file that is read once": {
      files: { ...files, "b/q.h": "#pragma once", "b/sub/n.h": "#pragma ONCE" },
    },
    "the system has another one": { files: { ...files, "s/sub/n.h": "" } },
    "the system has another one, which the list lacks": { files: { ...files, "s/sub/n.h": "" }, listsAll: false },
    "the file itself is new": { meanwhile: (root) => writeFileSync(join(root, "a/sub/n.h"), "m") },
  };
  for (const [name, given] of Object.entries(cases)) assert.equal(reason(given), "modified_input_file", name);
});

test("a new file matters to an absolute name only where a branch that was taken may name it", () => {
  // Macros that name devices, as paths.h has them, where a header is included by a macro's name.
  const text = '#define CONSOLE "@/console"\n#define NAME "q.h"\n#include NAME /* any */\n';
  const reason = (listed: readonly string[], listsAll: boolean) => {
    const prepare = (root: string) => writeFileSync(join(root, "x.c"), text.replace("@", root));
    const meanwhile = (root: string) => writeFileSync(join(root, "console"), "new");
    const files = { "x.c": "", "b/q.h": "", "b/console": "" };
    return found({ files, listed, listsAll, prepare, meanwhile }).reason;
  };
  for (const listsAll of [true, false]) {
    assert.equal(reason(["x.c", "b/q.h"], listsAll), null);
    assert.equal(reason(["x.c", "b/q.h", "b/console"], listsAll), "modified_input_file");
  }
});

test("a header that a link leads to may have come while the compiler looked for it", () => {
  const files = { "x.c": "#include <h.h>\n", "b/h.h": "" };
  const prepare = (root: string) => {
    mkdirSync(join(root, "gen"));
    symlinkSync("../gen/h.h", join(root, "a/h.h"));
  };
  const made = (root: string) => writeFileSync(join(root, "gen/h.h"), "");
  const listed = ["x.c", "b/h.h"];
  assert.equal(found({ files, listed, prepare, meanwhile: made }).reason, "modified_input_file");
  const before = (root: string) => {
    prepare(root);
    made(root);
  };
  assert.equal(found({ files, listed, prepare: before, meanwhile: () => {} }).reason, null);
});

test("a file that is as new as the compile, or gone, is not trusted", () => {
  assert.equal(found({ files: { "x.c": "" }, startedAfterMs: -1 }).reason, "modified_input_file");
  assert.equal(found({ files: { "x.c": "" }, listed: ["x.c", "gone.h"] }).reason, "modified_input_file");
  const loop = (root: string) => symlinkSync("y.h", join(root, "y.h"));
  assert.equal(found({ files: { "x.c": "" }, listed: ["x.c", "y.h"], prepare: loop }).reason, "modified_input_file");
});
