import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import type { Cause } from "./causes.ts";
import { BUILD_GAP_MS, type ExplainedCall, lastBuild, summarize } from "./last-build.ts";
import type { CallRow, RecordedCall } from "./recorded-call.ts";

let ids = 0;
const row = (startedMs: number, outputKey: string | null, durationMs = 100): CallRow => {
  ids += 1;
  return { id: ids, outcome: "local_compiled", outputKey, startedMs, durationMs };
};
const startsOf = (rows: readonly CallRow[]) => lastBuild(rows.toReversed()).map(({ startedMs }) => startedMs);

test("a build ends where nothing was called for long", () => {
  assert.deepEqual(startsOf([row(0, "a"), row(BUILD_GAP_MS + 101, "b"), row(BUILD_GAP_MS + 500, "c")]), [
    BUILD_GAP_MS + 101,
    BUILD_GAP_MS + 500,
  ]);
  assert.deepEqual(startsOf([row(0, "a"), row(BUILD_GAP_MS + 100, "b")]).length, 2);
  // A long compile is no pause, and calls are kept in the order of their ends.
  assert.deepEqual(startsOf([row(0, "a", 60_000), row(61_000, "b"), row(60_500, "c")]).length, 3);
  assert.deepEqual(startsOf([]), []);
});

test("a build makes an output once", () => {
  assert.deepEqual(
    startsOf([row(0, "a"), row(1, "b"), row(2, "a"), row(3, null), row(4, null), row(5, "b")]),
    [2, 3, 4, 5],
  );
});

test("calls are counted under the cause that explains most of them", () => {
  const header: Cause = { kind: "header-changed", path: ascii("/p/config.h") };
  const source = (path: string): Cause => ({ kind: "source-changed", path: ascii(path) });
  const explained: ExplainedCall[] = Array.from({ length: 10 }, (_, index) => ({
    call: { id: index, source: ascii(`/p/${index}.c`) } as RecordedCall,
    causes: index === 0 ? [source("/p/0.c"), header] : index === 9 ? [source("/p/9.c")] : [header],
  }));
  const uncacheable = {
    call: explained[0]!.call,
    causes: [{ kind: "uncacheable", reason: "date_time_macro", detail: null }, header] satisfies Cause[],
  };
  const rows = [...explained, uncacheable].map((_, index) => row(index, `${index}`));
  const { groups, calls, compiled, startedMs, endedMs } = summarize(
    [...rows, { ...row(50, "hit"), outcome: "local_hit" }],
    [...explained, uncacheable],
  );
  assert.deepEqual({ calls, compiled, startedMs, endedMs }, { calls: 12, compiled: 11, startedMs: 0, endedMs: 150 });
  assert.deepEqual(
    groups.map((group) => [group.calls, group.cause.kind]),
    [
      [9, "header-changed"],
      [1, "source-changed"],
      [1, "uncacheable"],
    ],
  );
});

test("calls that compile nothing are told apart", () => {
  const called = (id: number, reason: string | null): ExplainedCall => ({
    call: { id, reason, source: ascii("/p/a.c") } as RecordedCall,
    causes: reason === null ? [{ kind: "first-time" }] : [{ kind: "uncacheable", reason, detail: null }],
  });
  const rows = ["a.o", "b.o", "program", null].map((key, at) => row(at, key));
  const reasons = [null, "date_time_macro", "called_for_link", "compiler_query"];
  const explained = reasons.map((reason, at) => called(rows[at]!.id, reason));
  const summary = summarize(rows, explained);
  assert.deepEqual([summary.calls, summary.others, summary.compiled], [4, 2, 2]);
  assert.deepEqual([...summary.outcomes], [["local_compiled", 2]]);
  assert.deepEqual(
    summary.groups.map(({ cause }) => cause.kind),
    ["first-time", "uncacheable"],
  );
});
