// Prints what `hpcc explain` found, for people and as JSON. UNTRUSTED: paths and words are a checkout's: nothing of them moves a cursor.
import { type ByteString, displayText } from "../base/byte-string.ts";
import { BYPASS_REASONS } from "../core/compile/bypass-reasons.ts";
import type { Cause } from "../core/explain/causes.ts";
import { answerKind, type RecordedCall, type RecordedOutcome } from "../core/explain/recorded-call.ts";
import type { WordChange } from "../core/explain/word-changes.ts";
import type { BuildExplanation, CauseWithWay, FileExplanation } from "./explain.ts";
import { printable, table } from "./output.ts";

const GROUPS_SHOWN = 12;
const CAUSES_SHOWN = 20;
const WAY_SHOWN = 8;
const COMPILER_FILES_SHOWN = 3;

/** What a page of text is told by: where the person stands, and when. */
export interface Reader {
  readonly cwd: ByteString;
  readonly nowMs: number;
}

export const OUTCOME_TEXTS: Readonly<Record<RecordedOutcome, string>> = {
  replayed: "replayed by the launcher",
  local_hit: "from the local store",
  remote_hit: "from a worker's cache",
  remote_joined: "joined to an equal compile",
  local_compiled: "compiled here, kept",
  remote_compiled: "compiled by a worker",
  local: "local, in the image",
  host: "by the host's compiler",
  refused: "refused",
  cancelled: "given up",
};

export function printFileExplanation({ call, compiled, causes }: FileExplanation, reader: Reader): string {
  const lines = [titleOf(call, reader)];
  lines.push(`  last call    ${ago(call.startedMs, reader)}, ${OUTCOME_TEXTS[call.outcome]}${duration(call)}`);
  if (compiled === null) return `${[...lines, "  not compiled by any call that is known"].join("\n")}\n`;
  if (compiled.id !== call.id)
    lines.push(
      `  last compile ${ago(compiled.startedMs, reader)}, ${OUTCOME_TEXTS[compiled.outcome]}${duration(compiled)}`,
    );
  lines.push("", compiled.id === call.id ? "compiled because" : "last compiled because");
  for (const why of causes.slice(0, CAUSES_SHOWN)) {
    lines.push(`  ${causeText(why.cause, reader)}`);
    if (why.way !== null && why.way.length > 2) lines.push(`      ${wayText(why.way, reader)}`);
    const more = explanation(why.cause);
    if (more !== null) lines.push(`      ${more}`);
  }
  if (causes.length > CAUSES_SHOWN)
    lines.push(`  ... and ${causes.length - CAUSES_SHOWN} causes more (--json has all)`);
  return `${lines.join("\n")}\n`;
}

export function printBuildExplanation({ summary, groups, unexplained }: BuildExplanation, reader: Reader): string {
  const seconds = ((summary.endedMs - summary.startedMs) / 1000).toFixed(1);
  const lines = [`last build: ${summary.calls} calls in ${seconds} s, ended ${ago(summary.endedMs, reader)}`];
  const outcomes = (Object.keys(OUTCOME_TEXTS) as RecordedOutcome[]).flatMap((outcome) => {
    const count = summary.outcomes.get(outcome) ?? 0;
    return count === 0 ? [] : [[`  ${OUTCOME_TEXTS[outcome]}`, String(count)]];
  });
  if (summary.others > 0) outcomes.push(["  no compiles: links, preprocessing, questions", String(summary.others)]);
  lines.push(table(outcomes).trimEnd());
  if (groups.length === 0) return `${lines.join("\n")}\n`;
  lines.push("", `why ${summary.compiled} of ${summary.calls - summary.others} were compiled`);
  const width = String(summary.compiled).length;
  for (const { calls, example, why } of groups.slice(0, GROUPS_SHOWN)) {
    lines.push(`  ${String(calls).padStart(width)} of ${summary.compiled}: ${causeText(why.cause, reader, calls > 1)}`);
    const way = why.way !== null && why.way.length > 2 ? wayText(why.way, reader) : null;
    if (way !== null) lines.push(`${" ".repeat(width + 6)}such as ${way}`);
    else if (calls === 1 && example.source !== null && !("path" in why.cause))
      lines.push(`${" ".repeat(width + 6)}${shown(example.source, reader)}`);
  }
  if (groups.length > GROUPS_SHOWN)
    lines.push(`  ... and ${groups.length - GROUPS_SHOWN} causes more (--json has all)`);
  if (unexplained > 0) lines.push(`  ${unexplained} compiles more were not looked at`);
  lines.push("", "-> `hpcc explain FILE` tells all causes of one file");
  return `${lines.join("\n")}\n`;
}

function titleOf({ source, output }: RecordedCall, reader: Reader): string {
  const names = [source, output].flatMap((path) => (path === null ? [] : [shown(path, reader)]));
  return names.length === 0 ? "a call whose files are not known" : names.join(" -> ");
}

function duration({ durationMs, outcome }: RecordedCall): string {
  return answerKind(outcome) === "compiled" && durationMs > 0 ? `, in ${(durationMs / 1000).toFixed(2)} s` : "";
}

/** `many`: of a group of calls, which need not have the same details. */
export function causeText(cause: Cause, reader: Reader, many = false): string {
  switch (cause.kind) {
    case "first-time":
      return "first time: no earlier call for this output is known";
    case "uncacheable":
      return `not kept: ${printable(cause.reason)}${cause.detail === null || many ? "" : ` (${text(cause.detail)})`}`;
    case "evicted":
      return many
        ? "evicted: nothing changed, and the kept result is gone"
        : `evicted: the result was kept ${ago(cause.keptMs, reader)}, and is gone`;
    case "image":
      return `image changed: ${short(cause.before)} -> ${short(cause.now)}`;
    case "compiler":
      return compilerText(cause.files, reader);
    case "source-changed":
      return many ? "the source changed" : `${shown(cause.path, reader)} changed`;
    case "header-changed":
      return `${shown(cause.path, reader)} changed`;
    case "header-appeared":
      return `${shown(cause.path, reader)} is there now, and was not`;
    case "header-vanished":
      return `${shown(cause.path, reader)} is gone`;
    case "flag":
      return flagText(cause.change);
    case "working-folder":
      return `working folder changed: ${shown(cause.before, reader)} -> ${shown(cause.now, reader)}`;
    case "environment":
      return environmentText(cause.name, cause.before, cause.now);
    case "configuration":
      return `configuration changed: ${shown(cause.path, reader)}`;
    case "other-source":
      return `another source${cause.before === null || many ? "" : `: it was ${shown(cause.before, reader)}`}`;
    case "other-output":
      return `another output${cause.before === null || many ? "" : `: it was ${shown(cause.before, reader)}`}`;
    case "also-read":
      return `${shown(cause.path, reader)} is read now, and was not`;
    case "no-longer-read":
      return `${shown(cause.path, reader)} is no longer read`;
    case "nothing-kept-before":
      return cause.reason === null
        ? "the call before kept nothing: it failed or was given up"
        : `the call before kept nothing: ${printable(cause.reason)}`;
    case "worker-miss":
      return "nothing changed here: the worker that was asked did not have the result";
    case "surroundings":
      return "something else changed that the result depends on: umask, terminal or a setting";
    case "nothing-changed":
      return "nothing changed that is known";
  }
}

/** What a reason of the closed list means. */
function explanation(cause: Cause): string | null {
  const reason = cause.kind === "uncacheable" || cause.kind === "nothing-kept-before" ? cause.reason : null;
  return reason !== null && Object.hasOwn(BYPASS_REASONS, reason)
    ? BYPASS_REASONS[reason as keyof typeof BYPASS_REASONS]
    : null;
}

function flagText(change: WordChange): string {
  switch (change.kind) {
    case "added":
      return `flag added: ${text(change.words)}`;
    case "removed":
      return `flag removed: ${text(change.words)}`;
    case "changed":
      return `flag changed: ${text(change.before)} -> ${text(change.words)}`;
    case "moved":
      return `flag moved: ${text(change.words)}`;
  }
}

function compilerText(files: readonly ByteString[], reader: Reader): string {
  if (files.length === 0) return "compiler changed";
  const names = files.slice(0, COMPILER_FILES_SHOWN).map((file) => shown(file, reader));
  const more = files.length - names.length;
  return `compiler changed: ${names.join(", ")}${more > 0 ? ` and ${more} of its files more` : ""}`;
}

function environmentText(name: string, before: ByteString | null, now: ByteString | null): string {
  const variable = `variable ${printable(name)}`;
  if (before === null) return `${variable} is set now: ${text(now ?? ("" as ByteString))}`;
  return now === null ? `${variable} is no longer set` : `${variable} changed: ${text(before)} -> ${text(now)}`;
}

function wayText(way: readonly ByteString[], reader: Reader): string {
  const names = way.map((path) => shown(path, reader));
  const cut = names.length > WAY_SHOWN ? [...names.slice(0, 3), "...", ...names.slice(-3)] : names;
  return cut.join(" includes ").replaceAll(" includes ... includes ", " includes ... ");
}

const TEXT_MAX = 300;

function text(words: ByteString): string {
  const whole = printable(displayText(words));
  return whole.length > TEXT_MAX ? `${whole.slice(0, TEXT_MAX)}...` : whole;
}

/** A path as the person would name it from where they are. */
function shown(path: ByteString, { cwd }: Reader): string {
  if (path === cwd) return ".";
  const below = cwd === "/" ? "/" : `${cwd}/`;
  return text((path.startsWith(below) ? path.slice(below.length) : path) as ByteString);
}

function short(digest: string | null): string {
  return digest === null ? "none" : digest.slice(0, "sha256:".length + 12);
}

function ago(ms: number, { nowMs }: Reader): string {
  const seconds = Math.max(0, (nowMs - ms) / 1000);
  for (const [name, length] of [
    ["d", 86_400],
    ["h", 3_600],
    ["min", 60],
  ] as const)
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${name} ago`;
  return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s ago`;
}

export function fileExplanationForJson({ call, compiled, causes }: FileExplanation, reader: Reader): object {
  return {
    last_call: callForJson(call),
    last_compile: compiled === null ? null : callForJson(compiled),
    causes: causes.map((why) => causeForJson(why, reader)),
  };
}

export function buildExplanationForJson({ summary, groups, unexplained }: BuildExplanation, reader: Reader): object {
  return {
    calls: summary.calls,
    others: summary.others,
    compiled: summary.compiled,
    started_ms: summary.startedMs,
    ended_ms: summary.endedMs,
    outcomes: Object.fromEntries(summary.outcomes),
    groups: groups.map(({ calls, example, why }) => ({
      calls,
      cause: causeForJson(why, reader),
      example: callForJson(example),
    })),
    unexplained,
  };
}

function callForJson(call: RecordedCall): object {
  const { outcome, reason, detail, project, source, output, cwd, words, inputs, startedMs, durationMs } = call;
  const optional = (path: ByteString | null) => (path === null ? null : displayText(path));
  return {
    outcome,
    reason,
    detail: optional(detail),
    project: optional(project),
    source: optional(source),
    output: optional(output),
    cwd: displayText(cwd),
    words: words.map(displayText),
    inputs: inputs.length,
    started_ms: startedMs,
    duration_ms: durationMs,
  };
}

function causeForJson({ cause, way }: CauseWithWay, reader: Reader): object {
  // Byte strings are shown as text; kinds, names and digests are ASCII.
  const decoded = JSON.parse(JSON.stringify(cause), (_key, value: unknown) =>
    typeof value === "string" ? displayText(value as ByteString) : value,
  ) as object;
  return { ...decoded, text: causeText(cause, reader), include_chain: way === null ? null : way.map(displayText) };
}
