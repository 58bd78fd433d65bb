// Which calls were one build, and what they have in common: "308 of 312: config.h". Pure.
import type { BypassReason } from "../compile/bypass-reasons.ts";
import type { Cause } from "./causes.ts";
import { answerKind, type CallRow, type RecordedCall, type RecordedOutcome } from "./recorded-call.ts";

/** Nothing for that long ends a build. */
export const BUILD_GAP_MS = 10_000;

/** The last build's rows, oldest first, of rows that are newest first. A build makes each output once, and does not pause for long. */
export function lastBuild(rows: readonly CallRow[]): readonly CallRow[] {
  const build: CallRow[] = [];
  const outputs = new Set<string>();
  let startMs = rows[0]?.startedMs ?? 0;
  for (const row of rows) {
    if (row.startedMs + row.durationMs < startMs - BUILD_GAP_MS) break;
    if (row.outputKey !== null) {
      if (outputs.has(row.outputKey)) break;
      outputs.add(row.outputKey);
    }
    build.push(row);
    startMs = Math.min(startMs, row.startedMs);
  }
  return build.reverse();
}

export interface ExplainedCall {
  readonly call: RecordedCall;
  readonly causes: readonly Cause[];
}

/** Calls that have a cause in common. */
export interface CauseGroup {
  readonly cause: Cause;
  readonly calls: number;
  /** The first of them, for the way from its source to the cause. */
  readonly example: RecordedCall;
}

/** Reasons of calls that compile nothing: they link, preprocess or ask. Nothing of theirs is ever kept, which needs no explanation. */
const NO_COMPILE: ReadonlySet<string> = new Set<BypassReason>([
  "called_for_link",
  "called_for_preprocessing",
  "compiler_query",
  "no_input_file",
  "syntax_only",
]);

export interface BuildSummary {
  /** Those that compile nothing included. */
  readonly calls: number;
  /** Calls that link, preprocess or ask. */
  readonly others: number;
  readonly startedMs: number;
  readonly endedMs: number;
  /** Of those that compile. */
  readonly outcomes: ReadonlyMap<RecordedOutcome, number>;
  readonly compiled: number;
  /** By how many calls they explain, each call under one of its causes. */
  readonly groups: readonly CauseGroup[];
}

export function summarize(rows: readonly CallRow[], explained: readonly ExplainedCall[]): BuildSummary {
  const compiled = explained.filter(({ call }) => !NO_COMPILE.has(call.reason ?? ""));
  const others = new Set(explained.filter(({ call }) => NO_COMPILE.has(call.reason ?? "")).map(({ call }) => call.id));
  const compiles = rows.filter(({ id }) => !others.has(id));
  const outcomes = new Map<RecordedOutcome, number>();
  for (const { outcome } of compiles) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  const groups = new Map<string, { cause: Cause; calls: number; example: RecordedCall }>();
  const common = new Map<string, number>();
  for (const { causes } of compiled)
    for (const key of new Set(causes.map(groupKey))) common.set(key, (common.get(key) ?? 0) + 1);
  for (const { call, causes } of compiled) {
    const cause = tellingCause(causes, common);
    if (cause === undefined) continue;
    const key = groupKey(cause);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { cause, calls: 1, example: call });
    else group.calls += 1;
  }
  return {
    calls: rows.length,
    others: others.size,
    startedMs: Math.min(...rows.map(({ startedMs }) => startedMs)),
    endedMs: Math.max(...rows.map(({ startedMs, durationMs }) => startedMs + durationMs)),
    outcomes,
    compiled: compiles.filter(({ outcome }) => answerKind(outcome) === "compiled").length,
    groups: [...groups.values()].toSorted((a, b) => b.calls - a.calls),
  };
}

/** Kinds of which one is as good a cause as another, so that the one that explains most calls is told. */
const EQUAL_KINDS: ReadonlySet<Cause["kind"]> = new Set([
  "source-changed",
  "header-changed",
  "header-appeared",
  "header-vanished",
  "flag",
]);

/** The first cause, or one of its rank that more calls have. */
function tellingCause(causes: readonly Cause[], common: ReadonlyMap<string, number>): Cause | undefined {
  const [first] = causes;
  if (first === undefined || !EQUAL_KINDS.has(first.kind)) return first;
  const count = (cause: Cause) => common.get(groupKey(cause)) ?? 0;
  return causes
    .filter(({ kind }) => EQUAL_KINDS.has(kind))
    .reduce((best, cause) => (count(cause) > count(best) ? cause : best), first);
}

/** What makes two causes one: not the time of the eviction, nor the detail of a reason, nor which source it is that changed. */
function groupKey(cause: Cause): string {
  switch (cause.kind) {
    case "uncacheable":
      return `uncacheable ${cause.reason}`;
    case "nothing-kept-before":
      return `nothing-kept-before ${cause.reason ?? ""}`;
    case "first-time":
    case "evicted":
    case "source-changed":
    case "other-source":
    case "other-output":
    case "worker-miss":
    case "surroundings":
    case "nothing-changed":
      return cause.kind;
    case "image":
    case "compiler":
    case "header-changed":
    case "header-appeared":
    case "header-vanished":
    case "flag":
    case "working-folder":
    case "environment":
    case "configuration":
    case "also-read":
    case "no-longer-read":
      return JSON.stringify(cause);
  }
}
