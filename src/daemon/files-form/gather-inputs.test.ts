import assert from "node:assert/strict";
import { linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, test } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import type { Stage } from "../call/stage.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { SteadyPlaces } from "../inputs/steady-places.ts";
import { type Gathered, gatherInputs } from "./gather-inputs.ts";
import { listFiles } from "./list-files.ts";

interface Case {
  readonly files: Readonly<Record<string, string>>;
  readonly argv?: string;
  /** Further things in the project's folder, before the call. */
  readonly prepare?: (root: string) => void;
  /** When the list was asked for, from now; all files are older unless this says otherwise. */
  readonly startedInMs?: number;
}

/** What a call's tree comes to, listed by the real compiler at the project's own path. */
async function gather(family: CompilerFamily, asked: Case): Promise<Stage<Gathered> & { readonly root: string }> {
  using made = new HostProject({ family });
  made.write(asked.files);
  asked.prepare?.(made.root);
  const prepared = made.prepare(made.call([family, ...(asked.argv ?? "-c a.c").split(" ")]));
  if (prepared.kind === "bypass") return { ...prepared, root: made.root };
  const listed = await listFiles(
    prepared.value,
    { attempt: 0, stripped: null },
    new HeaderHints({ logger: SILENT_LOGGER }),
  );
  if (listed.kind === "bypass") return { ...listed, root: made.root };
  const startedMs = Date.now() + (asked.startedInMs ?? 60_000);
  const before = { startedMs, steady: new SteadyPlaces(made.caches.folders, made.caches.names) };
  return { ...gatherInputs(prepared.value, listed.value.names, before, made.caches), root: made.root };
}

/** Names of the files and links of the tree, or the reason and what it is about. */
async function tree(family: CompilerFamily, asked: Case): Promise<string[]> {
  const gathered = await gather(family, asked);
  const short = (path: string) => path.replace(`${gathered.root}/`, "");
  if (gathered.kind === "bypass") return [`${gathered.reason} ${short(gathered.detail ?? "")}`.trim()];
  const { files, aliases, tree: taken } = gathered.value;
  return [
    ...files.map(({ path }) => short(path)),
    ...[...taken.links, ...aliases].map(({ path, target }) => `${short(path)} -> ${short(target)}`),
  ].sort();
}

type Row = Case & { readonly is: readonly string[]; readonly only?: CompilerFamily };

function rows(name: string, table: Readonly<Record<string, Row>>): void {
  describe(name, () => {
    for (const [what, row] of Object.entries(table))
      for (const family of row.only === undefined ? (["gcc", "clang"] as const) : [row.only])
        it(`${family}: ${what}`, async () => assert.deepEqual(await tree(family, row), row.is.toSorted()));
  });
}

const X = "int x;\n";
const HAS = '#if __has_include(<opt.h>)\n#endif\n#if __has_include("near.h")\n#endif\n';
/** In one second: GCC takes equal files of one time for one. */
const sameTime =
  (...names: string[]) =>
  (root: string) => {
    for (const name of names) utimesSync(join(root, name), 1_600_000_000, 1_600_000_000);
  };

rows("what the compiler lists and more", {
  "headers and the links that lead to them": {
    files: { "a.c": '#include "link.h"\n#include "dir/y.h"\n', "real.h": X, "inc/y.h": "" },
    prepare: (root) => {
      symlinkSync("real.h", join(root, "link.h"));
      symlinkSync("inc", join(root, "dir"));
    },
    is: ["a.c", "dir -> inc", "inc/y.h", "link.h -> real.h", "real.h"],
  },
  "__has_include asks for files that nothing includes": {
    files: { "src/a.c": HAS + X, "src/near.h": "", "inc/opt.h": "", "inc/other.h": "", "near.h": "" },
    argv: "-c src/a.c -Iinc",
    is: ["inc/opt.h", "src/a.c", "src/near.h"],
  },
  "what a header asks for beside the link by which it is included": {
    files: { "a.c": `#include "links/k.h"\n${X}`, "real/k.h": HAS, "links/near.h": "", "real/opt.h": "" },
    prepare: (root) => symlinkSync("../real/k.h", join(root, "links/k.h")),
    is: ["a.c", "links/k.h -> ../real/k.h", "links/near.h", "real/k.h"],
  },
  "what a file that is only asked for would ask for": {
    files: { "a.c": `#if __has_include("b.h")\n#endif\n${X}`, "b.h": '#if __has_include("c.h")\n#endif\n', "c.h": "" },
    is: ["a.c", "b.h", "c.h"],
  },
  "incbin, and .include with what it includes in turn": {
    files: {
      "src/a.c": '__asm__(".incbin \\"data.bin\\"\\n.include \\"one.inc\\"");\n',
      "data.bin": "d",
      "one.inc": '.include "two.inc"\n',
      "two.inc": '.incbin "more.bin"\n',
      "more.bin": "m",
      "unread.bin": "",
    },
    argv: "-c src/a.c",
    is: ["data.bin", "more.bin", "one.inc", "src/a.c", "two.inc"],
  },
  "what assembler text includes": {
    files: { "a.S": '.include "one.inc"\n', "inc/one.inc": '.incbin "b.bin"\n', "inc/b.bin": "", "b.bin": "" },
    argv: "-c a.S -Iinc",
    is: ["a.S", "b.bin", "inc/b.bin", "inc/one.inc"],
  },
  "names of #embed": {
    files: { "a.c": '#ifdef NO\n#embed "e.bin"\n#endif\nint x;\n', "e.bin": "1" },
    is: ["a.c", "e.bin"],
  },
  "files that line directives name, from which GCC quotes": {
    files: { "a.c": '#line 1 "gen.y"\nint x;\n# 7 "other.y"\n', "gen.y": "", "other.y": "" },
    only: "gcc",
    is: ["a.c", "gen.y", "other.y"],
  },
  "of line directives Clang reads nothing": {
    files: { "a.c": '#line 1 "gen.y"\nint x;\n', "gen.y": "" },
    only: "clang",
    is: ["a.c"],
  },
  "files that options name": {
    files: { "a.c": X, list: "" },
    argv: "-c a.c -fsanitize=address -fsanitize-ignorelist=list",
    only: "clang",
    is: ["a.c", "list"],
  },
});

const BRANCH = '#pragma GCC optimize("O3")\n#ifdef __OPTIMIZE__\n#include "fast.h"\n#else\n#include "slow.h"\n#endif\n';
rows("branches that only the compile takes", {
  "after a pragma that changes macros every branch is in the tree": {
    files: { "a.c": BRANCH, "fast.h": '#include "deep.h"\n', "slow.h": X, "deep.h": "" },
    only: "gcc",
    is: ["a.c", "deep.h", "fast.h", "slow.h"],
  },
  "without one the compiler's list is enough": {
    files: { "a.c": BRANCH.replace(/^.*\n/, ""), "fast.h": "", "slow.h": X },
    is: ["a.c", "slow.h"],
  },
  "a name that nothing answers": {
    files: { "a.c": BRANCH, "slow.h": X },
    only: "gcc",
    is: ["a.c", "slow.h"],
  },
  "a name that macros make": {
    files: { "a.c": `${BRANCH}#ifdef __AVX2__\n#include WHERE\n#endif\n`, "slow.h": X, "fast.h": "" },
    only: "gcc",
    is: ["unsupported_code_directive #include NAME"],
  },
});

const ONCE = "#pragma once\nint x;\n";
rows("files that are read once", {
  "equal ones of one second are one file to GCC": {
    files: { "a.c": '#include "b/h.h"\n#include "c/h.h"\n', "b/h.h": ONCE, "c/h.h": ONCE },
    prepare: sameTime("b/h.h", "c/h.h"),
    only: "gcc",
    is: ["a.c", "b/h.h", "c/h.h -> b/h.h"],
  },
  "those of other seconds are not": {
    files: { "a.c": '#include "b/h.h"\n#include "c/h.h"\n', "b/h.h": ONCE, "c/h.h": ONCE },
    prepare: (root) => {
      sameTime("b/h.h")(root);
      utimesSync(join(root, "c/h.h"), 1_600_000_001, 1_600_000_001);
    },
    only: "gcc",
    is: ["a.c", "b/h.h", "c/h.h"],
  },
  "Clang tells them by their place": {
    files: { "a.c": '#include "b/h.h"\n', "b/h.h": ONCE, "c/h.h": ONCE },
    prepare: sameTime("b/h.h", "c/h.h"),
    only: "clang",
    is: ["a.c", "b/h.h"],
  },
  "hard links are one file to Clang": {
    files: { "a.c": '#include "b.h"\n#include "c.h"\n', "b.h": "" },
    prepare: (root) => linkSync(join(root, "b.h"), join(root, "c.h")),
    only: "clang",
    is: ["hard_linked_input c.h"],
  },
});

rows("what forbids a guest", {
  "a precompiled header before the header of the image": {
    files: { "a.c": "#include <stdio.h>\n" },
    argv: "-c a.c -Iinc",
    prepare: (root) => {
      mkdirSync(join(root, "inc"));
      writeFileSync(join(root, "inc/stdio.h.gch"), "");
    },
    only: "clang",
    is: ["could_not_use_precompiled_header inc/stdio.h.gch"],
  },
  "one that is a folder of several": {
    files: { "a.c": "#include <stdio.h>\n", "inc/stdio.h.gch/one": "" },
    argv: "-c a.c -Iinc",
    is: ["could_not_use_precompiled_header inc/stdio.h.gch"],
  },
  "a time stamp": { files: { "a.c": "const char *s = __TIMESTAMP__;\n" }, is: ["date_time_macro"] },
  "a time stamp of the command line": {
    files: { "a.c": X },
    argv: "-c a.c -DNOW=__TIMESTAMP__",
    is: ["date_time_macro"],
  },
  "a date, with Clang, which says nothing of it under -w": {
    files: { "a.c": "const char *s = __DATE__;\n" },
    only: "clang",
    is: ["date_time_macro"],
  },
  "a date is GCC's own to refuse": { files: { "a.c": "const char *s = __DATE__;\n" }, only: "gcc", is: ["a.c"] },
  "a date in a comment": { files: { "a.c": "/* __DATE__ __TIMESTAMP__ */ int x;\n" }, is: ["a.c"] },
  "a test whose name macros make": {
    files: { "a.c": "#define N <x.h>\n#if __has_include(N)\n#endif\nint x;\n" },
    is: ["unsupported_code_directive __has_include(NAME)"],
  },
  "an incbin whose name macros make": {
    files: { "a.S": "#define D .incbin\nD NAME\n" },
    argv: "-c a.S",
    is: ["a.S"],
  },
  "a pragma that names a file": {
    files: { "a.c": '#pragma GCC dependency "a.c"\nint x;\n' },
    is: ["unsupported_code_directive #pragma GCC dependency"],
  },
  "a name that leads out of the project": {
    files: { "a.c": '#if __has_include("opt.h")\n#endif\nint x;\n' },
    prepare: (root) => {
      writeFileSync(join(root, "../opt.h"), "");
      symlinkSync("../opt.h", join(root, "opt.h"));
    },
    is: ["outside_view opt.h"],
  },
  "a header out of the project": {
    files: { "a.c": '#include "../opt.h"\n' },
    prepare: (root) => writeFileSync(join(root, "../opt.h"), ""),
    is: ["outside_view ../opt.h"],
  },
});

test("a compiler that cannot list its files has the last word", async () => {
  for (const family of ["gcc", "clang"] as const)
    assert.deepEqual(await tree(family, { files: { "a.c": '#include "none.h"\n' } }), ["preprocessor_error"]);
});

test("a file that changed after the list was asked for is none that was listed", async () => {
  const gathered = await gather("gcc", { files: { "a.c": X }, startedInMs: -60_000 });
  assert.equal(gathered.kind === "bypass" && gathered.reason, "modified_input_file");
});
