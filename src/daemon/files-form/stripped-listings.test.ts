// A call listed by stripped headers of the image has the list that it has by the headers as they are, whatever the headers do to prevent it:
// each row is prepared both ways by the machine's own compilers and compared.
import assert from "node:assert/strict";
import { describe, it, test } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import type { Stage } from "../call/stage.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { KeptListings } from "./kept-listings.ts";
import { prepareFiles } from "./prepare-files.ts";
import { StrippedUse } from "./stripped-use.ts";

interface Row {
  /** The image's. */
  readonly headers: Readonly<Record<string, string>>;
  /** The project's; the source is `a.c`. */
  readonly files: Readonly<Record<string, string>>;
  readonly argv?: string;
  /** How many times the compiler ran: 1 for a list by stripped headers, more where the headers as they are were asked. */
  readonly runs: number;
  /** Whether the call is one that is compiled here. */
  readonly fails?: boolean;
  readonly only?: CompilerFamily;
}

async function prepare(
  made: HostProject,
  argv: string,
  strippedUse: StrippedUse | null,
): Promise<{ readonly job: Stage<PreparedJob>; readonly runs: number }> {
  const call = made.call([made.compiler.family, ...argv.split(" "), "-isystem", made.imageFolder]);
  const prepared = made.prepare(call);
  assert.ok(prepared.kind === "next");
  const place = { ...prepared.value.place, ...(strippedUse === null && { listingNamespace: async () => null }) };
  const options = {
    ...made.caches,
    listings: new KeptListings(0),
    strippedUse: strippedUse ?? new StrippedUse(),
    headers: new HeaderHints({ logger: SILENT_LOGGER }),
    clock: { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 },
  };
  const job = await prepareFiles({ ...prepared.value, place }, options);
  return { job, runs: call.ran.length };
}

function shown(job: Stage<PreparedJob>): unknown {
  if (job.kind === "bypass") return job;
  const { source, action, dependencyText } = job.value;
  return { manifest: Buffer.from(source.manifest).toString("latin1"), action, dependencyText };
}

async function check(
  family: CompilerFamily,
  { headers, files, argv = "-c a.c -I. -MD", runs, fails }: Row,
): Promise<void> {
  using made = new HostProject({ family, imageHeaders: headers });
  made.write(files);
  const stripped = await prepare(made, argv, new StrippedUse());
  const whole = await prepare(made, argv, null);
  assert.ok(fails || whole.job.kind === "next", JSON.stringify(whole.job));
  assert.deepEqual(shown(stripped.job), shown(whole.job));
  assert.equal(stripped.runs, runs);
}

const SOURCE = "#include <t.h>\n#ifdef WANTED\n#include <wanted.h>\n#else\n#include <other.h>\n#endif\n";
/** Headers of which the call reads one. */
const EITHER = { "wanted.h": "int wanted;\n", "other.h": "int other;\n" };
const of = (text: string, more: Partial<Row> = {}): Row => ({
  headers: { ...EITHER, "t.h": text },
  files: { "a.c": SOURCE, "b.h": "int b;\n" },
  runs: 1,
  ...more,
});

const ROWS: Readonly<Record<string, Row>> = {
  "code alone": of("/* a\n#define WANTED\n*/\nint t; // b\n"),
  "a directive after code": of("int t;\n  #  define WANTED\nint u;\n"),
  "a directive that is continued": of("#define \\\n  WANTED \\\n  1\nint t;\n"),
  "no directive on a continued line": of("int t = 1 \\\n#define WANTED\n  ;\n"),
  "a digraph": of("int t;\n%:define WANTED\n"),
  "a directive behind the end of a comment": of("/*\n*/ #define WANTED\n"),
  "a comment that begins on a directive": of("#define WANTED /* x\n#undef WANTED\n*/\n"),
  "a comment in a string": of('char *t = "/*";\n#define WANTED\nchar *u = "*/";\n'),
  "an apostrophe before a comment": of("#if 0\nit's /* don't\n#endif\n#define WANTED\n#if 0\n*/\n#endif\n"),
  "a raw string": of('char *t = R"(\n#define WANTED\n)";\n', { argv: "-c -xc++ a.c -I. -MD" }),
  "a raw string that is left open": of('char *t = R"(\n', {
    argv: "-c -xc++ a.c -I. -MD",
    files: { "a.c": '#include <t.h>\n#define WANTED\n)";\n#ifdef WANTED\n#include <wanted.h>\n#endif\n' },
    runs: 2,
    only: "gcc",
  }),
  "digits in parts": of("int t = 1'0 + '/*';\n#define WANTED\n", { argv: "-c -xc++ a.c -I. -MD" }),
  "a trigraph": of("??=define WANTED\n", { argv: "-c a.c -I. -MD -std=c99" }),
  "a trigraph that is an apostrophe to others": of("int t = 1 ??' 2; /* ' \n#define WANTED\n*/\n", {
    argv: "-c a.c -I. -MD -std=c99",
  }),
  "a backslash before blanks": of("int t; \\  \n#define WANTED\n"),
  "a carriage return": of("int t;\r#define WANTED\r\n"),
  "a NUL": of("int t;\n\0#define WANTED\n"),
  "a white space of Unicode's": of("int t;\n\u00a0#define WANTED\n"),
  "a mark of the byte order": of("\ufeff#define WANTED\n"),
  "no end of the last line": of("int t;\n#define WANTED"),
  "a backslash as the last byte": of("int t;\n#define WANTED \\"),
  "a form feed": of("int t;\n\f#define WANTED\n"),
  "a line comment where there is none": of("int t; // x /*\n#define WANTED\n// */\n", {
    argv: "-c a.c -I. -MD -std=c90",
  }),
  "a pragma amid code that changes a macro": of(
    '#define WANTED\n_Pragma("push_macro(\\"WANTED\\")")\n#undef WANTED\n_Pragma("pop_macro(\\"WANTED\\")")\n',
    { runs: 2 },
  ),
  "a pragma of the project's macro amid code": of("#define WANTED\nSAVE\n#undef WANTED\nBACK\n", {
    files: {
      "a.c": `#define SAVE _Pragma("push_macro(\\"WANTED\\")")\n#define BACK _Pragma("pop_macro(\\"WANTED\\")")\n${SOURCE}`,
    },
    runs: 2,
  }),
  "a pragma of the command line's macro amid code": of("#define WANTED\nSAVE\n#undef WANTED\nBACK\n", {
    argv: '-c a.c -I. -MD -DSAVE=_Pragma("push_macro(\\"WANTED\\")") -DBACK=_Pragma("pop_macro(\\"WANTED\\")")',
  }),
  "a header that asks amid code to be read once": of(
    '_Pragma("once")\n#ifdef SEEN\n#define WANTED\n#endif\n#define SEEN\n',
    { files: { "a.c": `#include <t.h>\n${SOURCE}` }, runs: 2 },
  ),
  "a header that says amid code that it is a system's": of('_Pragma("GCC system_header")\n#include <wanted.h>\n', {
    argv: "-c a.c -I. -MMD",
    runs: 2,
    only: "gcc",
  }),
  "the same where all files are listed apart": of('_Pragma("GCC system_header")\n#include <wanted.h>\n', {
    argv: "-c a.c -I. -MMD",
    runs: 4,
    only: "clang",
  }),
  "a count of uses": of("int t = __COUNTER__;\n", {
    files: { "a.c": `#include <t.h>\n#if __COUNTER__ == 1\n#define WANTED\n#endif\n${SOURCE}` },
    runs: 2,
  }),
  "a count of uses that the command line's macro tells": of("int t = __COUNTER__;\n", {
    argv: "-c a.c -I. -MD -DNOW=__COUNTER__",
    files: { "a.c": `#include <t.h>\n#if NOW == 1\n#define WANTED\n#endif\n${SOURCE}` },
  }),
  "the number of a line": of("int t;\n\n/*\n*/ int u;\n#if __LINE__ == 5\n#define WANTED\n#endif\n"),
  "the number of a line behind continued ones": of(
    "#define A \\\n  1\nint \\\n t;\n#if __LINE__ == 5\n#define WANTED\n#endif\n",
  ),
  "the number of a line in a project's condition": of("int t;\nint u;\n", {
    files: { "a.c": `#define WHERE __LINE__\n#include <t.h>\n#if WHERE == 3\n#define WANTED\n#endif\n${SOURCE}` },
  }),
  "headers of equal directives that are read once": of("#pragma once\n#include <u.h>\nint t = 1;\n", {
    headers: {
      ...EITHER,
      "t.h": "#pragma once\n#include <u.h>\nint t = 1;\n",
      "u.h": "#pragma once\n#include <u.h>\nint u = 2;\n",
    },
  }),
  "equal headers that are imported": of("int t;\n", {
    headers: { ...EITHER, "t.h": "int t;\n", "u.h": "int t;\n", "v.h": "int v;\n" },
    files: { "a.c": `#import <t.h>\n#import <u.h>\n#import <v.h>\n${SOURCE}` },
  }),
  "an empty header": of("", { headers: { ...EITHER, "t.h": "" } }),
  "a project's header for one of the image": of(
    'int t;\n#include <b.h>\n#if __has_include("c.h")\n#define WANTED\n#endif\n',
    {
      files: { "a.c": SOURCE, "b.h": "#include_next <wanted.h>\n", "c.h": "" },
    },
  ),
  "a name that a macro tells": of("int t;\n#define NAME <wanted.h>\n", {
    files: { "a.c": `#include <t.h>\n#include NAME\n${SOURCE}` },
  }),
  "a header in the middle of a declaration": of("1,\n#define WANTED\n2,\n", {
    files: { "a.c": `int all[] = {\n${SOURCE}};\n` },
  }),
  "a header in the middle of a call of a macro": of("1)\n#define WANTED\n", {
    files: { "a.c": `#define CALL(x) x\nint all = CALL(\n${SOURCE};\n` },
    only: "gcc",
  }),
  "the same where that is an error": of("1)\n#define WANTED\n", {
    files: { "a.c": `#define CALL(x) x\nint all = CALL(\n${SOURCE};\n` },
    argv: "-c a.c -I.",
    runs: 3,
    only: "clang",
  }),
  "another way to read comments": of("int t; /* a */#define WANTED\n", {
    argv: "-c a.c -I. -MD -traditional-cpp",
    only: "gcc",
  }),
  "a forced header": of("int t;\n#define WANTED\n", { argv: "-c a.c -I. -MD -include t.h" }),
  "a source that cannot be preprocessed": of("int t;\n#error no\n", { argv: "-c a.c -I.", runs: 3 }),
};

for (const family of ["gcc", "clang"] as const)
  describe(`stripped headers and ${family}`, () => {
    for (const [name, row] of Object.entries(ROWS))
      if (row.only === undefined || row.only === family) it(name, () => check(family, row));
  });

test("a project whose lists are mostly made again is listed by the headers as they are", async () => {
  using made = new HostProject({ imageHeaders: { "t.h": "int t = __COUNTER__;\n" } });
  made.write({ "a.c": "#include <t.h>\n#if __COUNTER__ == 1\n#endif\n" });
  const strippedUse = new StrippedUse();
  const runs: number[] = [];
  for (let calls = 0; calls < 7; calls += 1) runs.push((await prepare(made, "-c a.c", strippedUse)).runs);
  assert.deepEqual(runs, [2, 2, 2, 2, 2, 1, 1]);
});
