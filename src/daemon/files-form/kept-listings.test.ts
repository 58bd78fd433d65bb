// A list of files that an earlier call made is used again exactly while a new one would be the same: held against a new one each time.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { globSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, it, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { HostProject } from "../../../test/support/host-project.ts";
import { ascii } from "../../base/byte-string.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { DiskLocalStore } from "../../store/local/disk-local-store.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import type { Stage } from "../call/stage.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { KeptListings } from "./kept-listings.ts";
import { prepareFiles } from "./prepare-files.ts";

const BYTES_MAX = 1024 * 1024;

interface Prepared {
  readonly job: Stage<PreparedJob>;
  readonly runs: number;
}

/** Unless told otherwise the clock is ahead, so that all files are older than the call. */
async function prepare(
  made: HostProject,
  argv: string,
  listings: KeptListings,
  wallMs = () => Date.now() + 60_000,
): Promise<Prepared> {
  const call = made.call([made.compiler.family, ...argv.split(" ")]);
  const prepared = made.prepare(call);
  assert.ok(prepared.kind === "next");
  const clock = { ...SYSTEM_CLOCK, wallMs };
  const headers = new HeaderHints({ logger: SILENT_LOGGER });
  const job = await prepareFiles(prepared.value, { ...made.caches, listings, headers, clock });
  return { job, runs: call.ran.length };
}

/** A job as two that must be equal are compared. */
function shown({ job }: Prepared): unknown {
  if (job.kind === "bypass") return job;
  const { source, action, dependencyText } = job.value;
  return { manifest: Buffer.from(source.manifest).toString("latin1"), action, dependencyText };
}

interface Row {
  readonly files: Readonly<Record<string, string>>;
  readonly argv?: string;
  readonly prepare?: (root: string) => void;
  readonly edit: (root: string) => void;
  readonly only?: CompilerFamily;
}

async function check(family: CompilerFamily, row: Row, keeps: boolean): Promise<void> {
  using made = new HostProject({ family });
  made.write(row.files);
  row.prepare?.(made.root);
  const argv = row.argv ?? "-c a.c -Ione -Itwo -MD";
  const listings = new KeptListings(BYTES_MAX);
  const first = await prepare(made, argv, listings);
  assert.ok(first.job.kind === "next" && first.runs > 0, JSON.stringify(first.job));
  const again = await prepare(made, argv, listings);
  assert.equal(again.runs, 0);
  assert.deepEqual(shown(again), shown(first));
  row.edit(made.root);
  const edited = await prepare(made, argv, listings);
  const fresh = await prepare(made, argv, new KeptListings(BYTES_MAX));
  assert.deepEqual(shown(edited), shown(fresh));
  assert.equal(edited.runs === 0, keeps, `${edited.runs} runs`);
}

function rows(name: string, keeps: boolean, table: Readonly<Record<string, Row>>): void {
  describe(name, () => {
    for (const [what, row] of Object.entries(table))
      for (const family of row.only === undefined ? (["gcc", "clang"] as const) : [row.only])
        it(`${family}: ${what}`, () => check(family, row, keeps));
  });
}

const write = (name: string, text: string) => (root: string) => {
  mkdirSync(join(root, name, ".."), { recursive: true });
  writeFileSync(join(root, name), text);
};
const MAIN = '#include "x.h"\n#if defined(A) && A > 1\n#include <y.h>\n#endif\nint f(void) { return X; }\n';
const FILES = { "a.c": MAIN, "two/x.h": "#define X 1\n#define A 2\nint x;\n", "two/y.h": "int y;\n" };

rows("a list is kept", true, {
  "when nothing changed but times": { files: FILES, edit: (root) => utimesSync(join(root, "a.c"), 5, 5) },
  "when code changed": { files: FILES, edit: write("a.c", MAIN.replace("return X", "int i = 0;\nreturn X + i")) },
  "when code of a header changed": {
    files: FILES,
    edit: write("two/x.h", "#define X 1\n#define A 2\nlong x; // new\n"),
  },
  "when lines moved": { files: FILES, edit: write("two/x.h", "\n\n#define X 1\n/* a\n b */\n#define A 2\n") },
  "when a file changed that nobody reads": {
    files: { ...FILES, "two/z.h": "" },
    edit: write("two/z.h", "#define A 1\n"),
  },
  "when a file came that nobody seeks": { files: FILES, edit: write("one/z.h", "int z;\n") },
  "when a file came later on the path": {
    files: FILES,
    argv: "-c a.c -Ione -Itwo -Ithree",
    edit: write("one/o.o", ""),
  },
  "of a C++ file with headers of the image": {
    files: { "a.cc": "#include <vector>\n#include <cassert>\nint f() { return 1; }\n" },
    argv: "-c a.cc -MMD",
    edit: write("a.cc", "#include <vector>\n#include <cassert>\nint f() { return (int)std::vector<int>{1}.size(); }\n"),
  },
  "when a macro that logs its line moved": {
    files: { ...FILES, "two/y.h": "#define LOG() log(__FILE__, __LINE__)\n" },
    edit: write("a.c", `\n${MAIN}`),
  },
});

rows("a list is made again", false, {
  "when a directive changed": { files: FILES, edit: write("two/x.h", "#define X 1\n#define A 1\nint x;\n") },
  "when a directive is hidden by a comment": {
    files: FILES,
    edit: write("two/x.h", "/*\n#define X 1\n*/\n#define A 2\n"),
  },
  "when an include came": { files: FILES, edit: write("a.c", `#include <y.h>\n${MAIN}`) },
  "when the included file is in another folder earlier on the path": { files: FILES, edit: write("one/x.h", "") },
  "when one came beside the file that includes it": { files: FILES, edit: write("x.h", "") },
  "when it is gone and a later one answers": {
    files: { ...FILES, "one/x.h": "#define X 2\n" },
    edit: (root) => rmSync(join(root, "one/x.h")),
  },
  "when a link on the way leads elsewhere": {
    files: {
      "a.c": '#include "link/x.h"\nint f(void) { return X; }\n',
      "p/x.h": "#define X 1\n",
      "q/x.h": "#define X 1\n",
    },
    prepare: (root) => symlinkSync("p", join(root, "link")),
    edit: (root) => {
      rmSync(join(root, "link"));
      symlinkSync("q", join(root, "link"));
    },
  },
  "when a folder of the path was swapped for another": {
    files: { ...FILES, "other/x.h": "#define X 3\n" },
    edit: (root) => {
      renameSync(join(root, "two"), join(root, "old"));
      renameSync(join(root, "other"), join(root, "two"));
    },
  },
  "when a file came that is asked for": {
    files: { "a.c": '#if __has_include("opt.h")\nint y;\n#endif\nint x;\n' },
    edit: write("two/opt.h", "int o;\n"),
  },
  "when a line of a condition moved": {
    files: { "a.c": '#if __LINE__ == 1\n#include "x.h"\n#endif\nint x;\n', "x.h": "" },
    edit: write("a.c", '\n#if __LINE__ == 1\n#include "x.h"\n#endif\nint x;\n'),
  },
  "when code counts": {
    files: { "a.c": '#define N __COUNTER__\n#if N == 0\n#include "x.h"\n#endif\nint x;\n', "x.h": "" },
    edit: write("a.c", '#define N __COUNTER__\nint y = N;\n#if N == 0\n#include "x.h"\n#endif\nint x;\n'),
  },
  "when code changes macros": {
    files: { "a.c": '#pragma push_macro("N")\n#define N 1\n;\n#if N\n#include "x.h"\n#endif\nint x;\n', "x.h": "" },
    edit: write(
      "a.c",
      '#pragma push_macro("N")\n#define N 1\n_Pragma("pop_macro(\\"N\\")")\n#if N\n#include "x.h"\n#endif\nint x;\n',
    ),
  },
  "when a raw string takes lines in": {
    files: { "a.cc": 'const char *s = R"(\n)";\n#include "x.h"\n', "x.h": "" },
    argv: "-c a.cc",
    edit: write("a.cc", 'const char *s = R"(\n#include "x.h"\n)";\n'),
  },
  "when code ends a raw string that a header began": {
    files: { "a.cc": '#include "x.h"\nint x;\n#include "y.h"\n)";\n', "x.h": 'const char *s = R"(\n', "y.h": "" },
    argv: "-c a.cc",
    edit: write("a.cc", '#include "x.h"\n)";\n#include "y.h"\n)";\n'),
    only: "gcc",
  },
  "when a copy that is read once is one no more": {
    files: {
      "a.c": '#include "x.h"\n#include "two/y.h"\nint x;\n',
      "x.h": "#pragma once\nint a;\n",
      "two/y.h": "#pragma once\nint a;\n",
    },
    prepare: (root) => {
      for (const name of ["x.h", "two/y.h"]) utimesSync(join(root, name), 1_600_000_000, 1_600_000_000);
    },
    edit: write("two/y.h", "#pragma once\nint b;\n"),
    only: "gcc",
  },
});

test("the key of a list knows all that the compiler is told", async () => {
  using made = new HostProject({ family: "gcc" });
  made.write({ ...FILES, "b.c": MAIN });
  const listings = new KeptListings(BYTES_MAX);
  const argvs = [
    "-c a.c -Itwo",
    "-c b.c -Itwo",
    "-c a.c -Itwo -DA=0",
    "-c a.c -Itwo -O2",
    "-c a.c -Itwo -std=c99",
    "-c a.c -Ione -Itwo",
    "-c a.c -Itwo -MD",
    "-c a.c -Itwo -MD -MP",
    "-c a.c -Itwo -MD -MT other",
    "-c a.c -Itwo -MMD",
    "-c a.c -Itwo -isystem one",
  ];
  for (const argv of argvs) assert.equal((await prepare(made, argv, listings)).runs, 1, argv);
  for (const argv of argvs) assert.equal((await prepare(made, argv, listings)).runs, 0, argv);
});

test("no list is kept where a macro names a file, or where preprocessing fails", async () => {
  using made = new HostProject({ family: "gcc" });
  made.write({ "a.c": '#define H "x.h"\n#include H\nint x;\n', "x.h": "", "b.c": "#error no\n" });
  const listings = new KeptListings(BYTES_MAX);
  for (const argv of ["-c a.c", "-c b.c"])
    for (let time = 0; time < 2; time++) assert.ok((await prepare(made, argv, listings)).runs > 0, argv);
});

test("a name that came about while the list was made keeps it from being kept", async () => {
  using made = new HostProject({ family: "gcc" });
  // Sought only in a branch that is not taken, and there since a moment before the list.
  made.write({ "a.c": "#if 0\n#include <y.h>\n#endif\nint x;\n", "two/other.h": "" });
  await prepare(made, "-c a.c -Itwo -DOTHER", new KeptListings(0));
  const changedMs = (name: string) => statSync(join(made.root, name)).ctimeMs;
  do made.write({ "two/y.h": "" });
  while (changedMs("two/y.h") - changedMs("a.c") < 50);
  const runs = async (argv: string, afterMs: number) => {
    const listings = new KeptListings(BYTES_MAX);
    const asked = () => prepare(made, argv, listings, () => changedMs("two/y.h") + afterMs);
    return [(await asked()).runs, (await asked()).runs];
  };
  assert.deepEqual(await runs("-c a.c -Itwo", 5), [1, 1]);
  assert.deepEqual(await runs("-c a.c -Itwo", 40), [1, 0]);
});

const keyOf = (n: number) => sha256(Buffer.from(`${n}`));
const ROOT = ascii("/p");

test("the oldest lists go first when the bytes are used up", async () => {
  const listings = new KeptListings(5_000);
  const listing = { names: [ascii("a.c"), ascii("\u00ff.h")], dependencyText: null };
  for (let n = 0; n < 20; n++) {
    const one = { ...listing, basis: keyOf(1000 + n) };
    listings.set(keyOf(n), one, ROOT);
    assert.deepEqual(await listings.get(keyOf(n)), one);
    assert.notEqual(await listings.get(keyOf(0)), null, "used each time");
  }
  assert.equal(await listings.get(keyOf(1)), null);
  assert.notEqual(await listings.get(keyOf(19)), null);
});

test("lists outlive the daemon in the local store, and no damage there is believed", async () => {
  using made = new HostProject({ family: "gcc" });
  made.write(FILES);
  const root = join(made.base, "cache");
  const open = () => new DiskLocalStore({ root, sizeBytesMax: 1e9, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
  const records = () => ({ store: open(), logger: SILENT_LOGGER });
  const argv = "-c a.c -Itwo -MD";
  const first = await prepare(made, argv, new KeptListings(BYTES_MAX, records()));
  const [record] = await written(root);
  const again = await prepare(made, argv, new KeptListings(BYTES_MAX, records()));
  assert.equal(again.runs, 0);
  assert.deepEqual(shown(again), shown(first));
  const store = open();
  const key = `sha256:${basename(record!)}` as Digest;
  const bytes = Buffer.from((await store.readRecord(key))!);
  for (const damaged of [Buffer.alloc(0), bytes.subarray(0, -3), randomBytes(50), zstdCompressSync(randomBytes(50))]) {
    await store.writeRecord(key, damaged, null, []);
    const other = await prepare(made, argv, new KeptListings(BYTES_MAX, records()));
    assert.equal(other.runs, 1);
    assert.deepEqual(shown(other), shown(first));
    // The list is written after it was used, and must not come after the next damage.
    while (damaged.equals((await store.readRecord(key)) ?? damaged))
      await new Promise((resolve) => void setTimeout(resolve, 5));
  }
  write("two/x.h", "#define X 1\n#define A 1\nint x;\n")(made.root);
  assert.equal((await prepare(made, argv, new KeptListings(BYTES_MAX, records()))).runs, 1);
});

/** Resolves once there is a record. */
async function written(root: string): Promise<string[]> {
  for (;;) {
    const found = globSync(join(root, "v1/records/*/*"));
    if (found.length > 0) return found;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
