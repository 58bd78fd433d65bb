import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { sha256 } from "../digest/digest.ts";
import { type Cause, causesOf } from "./causes.ts";
import type { RecordedCall, RecordedFile } from "./recorded-call.ts";

const digest = (text: string) => sha256(Buffer.from(text));
const file = (path: string, text: string): RecordedFile => ({ path: ascii(path), digest: digest(text) });

const BEFORE: RecordedCall = {
  id: 1,
  outcome: "local_compiled",
  reason: null,
  detail: null,
  project: ascii("/p"),
  compiler: { identity: digest("gcc 12"), image: null, files: [file("/usr/bin/gcc", "1"), file("/usr/lib/cc1", "1")] },
  source: ascii("/p/a.c"),
  output: ascii("/p/a.o"),
  cwd: ascii("/p"),
  words: ["-c", "-O2"].map(ascii),
  environment: { LANG: ascii("C") },
  callDigest: digest("call"),
  inputs: [file("/p/a.c", "a"), file("/p/b.h", "b"), file("/p/config.h", "c")],
  absent: [ascii("/p/inc/b.h"), ascii("/p/inc/config.h")],
  configuration: [file("/p/hpcc.toml", "1")],
  kept: true,
  startedMs: 1_000,
  durationMs: 10,
};

type Change = Partial<RecordedCall>;

function kinds(change: Change, before: Change | null = {}, kept: RecordedCall | null = null): string[] {
  const call: RecordedCall = { ...BEFORE, id: 2, startedMs: 2_000, ...change };
  return causesOf(call, { before: before === null ? null : { ...BEFORE, ...before }, kept }).map(nameOf);
}

function nameOf(cause: Cause): string {
  const detail =
    "path" in cause ? cause.path : "name" in cause ? cause.name : "files" in cause ? cause.files.join(",") : null;
  const more =
    cause.kind === "flag" ? `${cause.change.kind} ${cause.change.words}` : "reason" in cause ? cause.reason : detail;
  return more === null ? cause.kind : `${cause.kind} ${more}`;
}

const other = digest("other call");
const inputs = (...files: RecordedFile[]) => ({ inputs: files });
const [SOURCE, B, CONFIG] = BEFORE.inputs as [RecordedFile, RecordedFile, RecordedFile];

test("each thing that changed is named, and nothing else", () => {
  for (const [change, expected] of [
    [inputs(file("/p/a.c", "new"), B, CONFIG), ["source-changed /p/a.c"]],
    [inputs(SOURCE, B, file("/p/config.h", "new")), ["header-changed /p/config.h"]],
    [inputs(SOURCE, file("/p/inc/b.h", "b"), CONFIG), ["header-appeared /p/inc/b.h", "no-longer-read /p/b.h"]],
    [
      { ...inputs(SOURCE, B, file("/q/config.h", "c")), absent: [ascii("/p/config.h")] },
      ["header-vanished /p/config.h", "also-read /q/config.h"],
    ],
    [inputs(file("/p/a.c", "new"), B, CONFIG, file("/p/new.h", "n")), ["source-changed /p/a.c", "also-read /p/new.h"]],
    [{ words: ["-c", "-O2", "-g"].map(ascii), callDigest: other }, ["flag added -g"]],
    [{ words: ["-c"].map(ascii), callDigest: other }, ["flag removed -O2"]],
    [{ words: ["-c", "-O3"].map(ascii), callDigest: other }, ["flag changed -O3"]],
    [{ cwd: ascii("/p/build"), callDigest: other }, ["working-folder"]],
    [{ environment: { LANG: ascii("C"), CPATH: ascii("/x") }, callDigest: other }, ["environment CPATH"]],
    [{ environment: {}, callDigest: other }, ["environment LANG"]],
    [
      {
        compiler: {
          ...BEFORE.compiler!,
          identity: digest("13"),
          files: [file("/usr/bin/gcc", "1"), file("/usr/lib/cc1", "2")],
        },
      },
      ["compiler /usr/lib/cc1"],
    ],
    [{ compiler: { identity: digest("i"), image: digest("i"), files: [] } }, ["image"]],
    [{ configuration: [file("/p/hpcc.toml", "2")], callDigest: other }, ["configuration /p/hpcc.toml"]],
    [{ source: ascii("/p/c.c"), ...inputs(file("/p/c.c", "c"), B, CONFIG), callDigest: other }, ["other-source"]],
    [{ output: ascii("/p/build/a.o"), callDigest: other }, ["other-output"]],
    [{ callDigest: other }, ["surroundings"]],
    [{}, ["evicted"]],
    [{ outcome: "remote_compiled" }, ["worker-miss"]],
    [{ outcome: "local", reason: "date_time_macro" }, ["uncacheable date_time_macro"]],
    [{ outcome: "local", reason: "called_for_link", inputs: [], absent: [] }, ["uncacheable called_for_link"]],
  ] as const satisfies readonly (readonly [Change, readonly string[]])[])
    assert.deepEqual(kinds(change), expected, JSON.stringify(change));
});

test("several causes are all told, the most telling first", () => {
  assert.deepEqual(
    kinds({
      ...inputs(file("/p/a.c", "new"), file("/p/b.h", "new"), CONFIG, file("/p/new.h", "n")),
      compiler: { identity: digest("13"), image: null, files: [file("/usr/bin/clang", "1")] },
      words: ["-c", "-O3"].map(ascii),
      cwd: ascii("/q"),
    }),
    [
      "compiler /usr/bin/clang,/usr/bin/gcc,/usr/lib/cc1",
      "source-changed /p/a.c",
      "header-changed /p/b.h",
      "flag changed -O3",
      "working-folder",
      "also-read /p/new.h",
    ],
  );
  const local = { outcome: "local", reason: "remote_unavailable" } as const;
  const changed = inputs(SOURCE, B, file("/p/config.h", "new"));
  assert.deepEqual(kinds({ ...local, ...changed, words: ["-c"].map(ascii) }), [
    "uncacheable remote_unavailable",
    "header-changed /p/config.h",
    "flag removed -O2",
  ]);
});

test("without a call before it is the first time, unless an equal call was kept", () => {
  assert.deepEqual(kinds({}, null), ["first-time"]);
  assert.deepEqual(kinds({}, null, { ...BEFORE, output: ascii("/q/a.o") }), ["evicted"]);
  assert.deepEqual(kinds({ outcome: "local", reason: "no_image" }, null), ["uncacheable no_image"]);
});

test("a file that changed back to what was kept once was evicted, and that comes first", () => {
  const change = inputs(SOURCE, B, file("/p/config.h", "old"));
  const kept = { ...BEFORE, id: 0, ...change };
  assert.deepEqual(kinds(change, {}, kept), ["evicted", "header-changed /p/config.h"]);
  const remote = { ...kept, outcome: "remote_compiled" } as const;
  assert.deepEqual(kinds({ ...change, outcome: "remote_compiled" }, {}, remote), [
    "worker-miss",
    "header-changed /p/config.h",
  ]);
});

test("a call after one that kept nothing says so, with its reason", () => {
  assert.deepEqual(kinds({}, { kept: false }), ["nothing-kept-before"]);
  assert.deepEqual(kinds({}, { kept: false, outcome: "local", reason: "remote_failed" }), [
    "nothing-kept-before remote_failed",
  ]);
});

test("what was not compiled has no cause", () => {
  for (const outcome of ["local_hit", "remote_hit", "remote_joined", "replayed", "refused", "cancelled"] as const)
    assert.deepEqual(kinds({ outcome, words: [] }), []);
});
