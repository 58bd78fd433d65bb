// Why a call was compiled, by holding it against the call before it: every cause, the most telling first. Pure: knows neither disk nor clock.
import type { ByteString } from "../../base/byte-string.ts";
import type { Digest } from "../digest/digest.ts";
import { answerKind, type RecordedCall, type RecordedCompiler, type RecordedFile } from "./recorded-call.ts";
import { type WordChange, wordChanges } from "./word-changes.ts";

export type Cause =
  /** No call for this output or source is known. */
  | { readonly kind: "first-time" }
  /** It cannot be kept, whatever changed. */
  | { readonly kind: "uncacheable"; readonly reason: string; readonly detail: ByteString | null }
  /** Nothing is different from a call whose result was kept, and that result is gone. */
  | { readonly kind: "evicted"; readonly keptMs: number }
  | { readonly kind: "image"; readonly before: Digest | null; readonly now: Digest | null }
  /** `files`: those that changed, came or went; empty when only the whole is known to differ. */
  | { readonly kind: "compiler"; readonly files: readonly ByteString[] }
  | { readonly kind: "source-changed"; readonly path: ByteString }
  | { readonly kind: "header-changed"; readonly path: ByteString }
  /** A file is there now that was sought in vain. */
  | { readonly kind: "header-appeared"; readonly path: ByteString }
  /** A file that was read is sought in vain. */
  | { readonly kind: "header-vanished"; readonly path: ByteString }
  | { readonly kind: "flag"; readonly change: WordChange }
  | { readonly kind: "working-folder"; readonly before: ByteString; readonly now: ByteString }
  /** Null where it is not set. */
  | {
      readonly kind: "environment";
      readonly name: string;
      readonly before: ByteString | null;
      readonly now: ByteString | null;
    }
  | { readonly kind: "configuration"; readonly path: ByteString }
  /** The call before it was another source's or another output's. */
  | { readonly kind: "other-source"; readonly before: ByteString | null }
  | { readonly kind: "other-output"; readonly before: ByteString | null }
  /** Read now and not before, or before and not now, with nothing said about it yet. */
  | { readonly kind: "also-read"; readonly path: ByteString }
  | { readonly kind: "no-longer-read"; readonly path: ByteString }
  /** The call before it kept nothing: the reason, or null when it failed or was given up. */
  | { readonly kind: "nothing-kept-before"; readonly reason: string | null }
  /** Nothing changed here, and the worker that was asked did not have the result. */
  | { readonly kind: "worker-miss" }
  /** Something else that the result depends on, such as umask, terminal or a setting. */
  | { readonly kind: "surroundings" }
  | { readonly kind: "nothing-changed" };

export interface EarlierCalls {
  /** The call before it for the same output. */
  readonly before: RecordedCall | null;
  /** The last earlier call that depended on just the same and whose result was kept. */
  readonly kept: RecordedCall | null;
}

/** Why the call was compiled; empty for one that was not. */
export function causesOf(call: RecordedCall, { before, kept }: EarlierCalls): readonly Cause[] {
  if (answerKind(call.outcome) !== "compiled") return [];
  const causes: Cause[] = [];
  if (call.reason !== null) causes.push({ kind: "uncacheable", reason: call.reason, detail: call.detail });
  if (before === null) {
    if (causes.length === 0) causes.push(kept === null ? { kind: "first-time" } : evicted(call, kept));
    return causes;
  }
  const changes = changesBetween(before, call);
  const files = fileChanges(before, call);
  if (call.reason !== null) return [...causes, ...changesByRank(changes, files)];
  const same = changes.length + files.telling.length + files.following.length === 0;
  if (kept !== null && !(same && kept.id === before.id)) causes.push(evicted(call, kept));
  causes.push(...changesByRank(changes, files));
  // Without inputs or a digest of the rest nobody knows that all is the same.
  if (same) causes.push(...whenSame(before, call));
  return causes;
}

function evicted(call: RecordedCall, kept: RecordedCall): Cause {
  return call.outcome === "remote_compiled" && kept.outcome.startsWith("remote")
    ? { kind: "worker-miss" }
    : { kind: "evicted", keptMs: kept.startedMs };
}

function whenSame(before: RecordedCall, call: RecordedCall): Cause[] {
  if (!before.kept && (before.reason !== null || answerKind(before.outcome) !== "kept"))
    return [{ kind: "nothing-kept-before", reason: before.reason }];
  if (before.callDigest !== null && call.callDigest !== null && before.callDigest !== call.callDigest)
    return [{ kind: "surroundings" }];
  if (call.outcome === "remote_compiled") return [{ kind: "worker-miss" }];
  return before.kept ? [{ kind: "evicted", keptMs: before.startedMs }] : [{ kind: "nothing-changed" }];
}

/** Files tell more than flags, flags more than the rest; what only follows from another cause comes last. */
function changesByRank(changes: readonly Cause[], files: FileChanges): Cause[] {
  const first = changes.filter(({ kind }) => kind === "image" || kind === "compiler");
  const rest = changes.filter((cause) => !first.includes(cause));
  return [...first, ...files.telling, ...rest, ...files.following];
}

/** What changed beside the files that it reads. */
function changesBetween(before: RecordedCall, call: RecordedCall): Cause[] {
  const causes: Cause[] = compilerCauses(before.compiler, call.compiler);
  for (const change of wordChanges(before.words, call.words)) causes.push({ kind: "flag", change });
  if (before.cwd !== call.cwd) causes.push({ kind: "working-folder", before: before.cwd, now: call.cwd });
  if (before.source !== call.source) causes.push({ kind: "other-source", before: before.source });
  if (before.output !== call.output) causes.push({ kind: "other-output", before: before.output });
  const names = new Set([...Object.keys(before.environment), ...Object.keys(call.environment)]);
  for (const name of [...names].sort()) {
    const [was, now] = [before.environment[name] ?? null, call.environment[name] ?? null];
    if (was !== now) causes.push({ kind: "environment", name, before: was, now });
  }
  for (const path of changedPaths(before.configuration, call.configuration))
    causes.push({ kind: "configuration", path });
  return causes;
}

function compilerCauses(before: RecordedCompiler | null, now: RecordedCompiler | null): Cause[] {
  if (before === null || now === null || before.identity === now.identity) return [];
  if (before.image !== now.image) return [{ kind: "image", before: before.image, now: now.image }];
  return [{ kind: "compiler", files: changedPaths(before.files, now.files) }];
}

function changedPaths(before: readonly RecordedFile[], now: readonly RecordedFile[]): ByteString[] {
  const was = new Map(before.map(({ path, digest }) => [path, digest]));
  const is = new Map(now.map(({ path, digest }) => [path, digest]));
  const changed = [...was.keys(), ...is.keys()].filter((path) => was.get(path) !== is.get(path));
  // What is there now says more than what is no longer there.
  return [...new Set(changed)].toSorted((a, b) => Number(is.has(b)) - Number(is.has(a)));
}

interface FileChanges {
  readonly telling: readonly Cause[];
  /** Files that are read, or no longer read, because of something else. */
  readonly following: readonly Cause[];
}

const NO_CHANGES: FileChanges = { telling: [], following: [] };

function fileChanges(before: RecordedCall, call: RecordedCall): FileChanges {
  if (before.inputs.length === 0 || call.inputs.length === 0) return NO_CHANGES;
  // Most are the very same objects, which a set tells sooner than their paths.
  const [shared, present] = [new Set(before.inputs), new Set(call.inputs)];
  const was = new Map(before.inputs.filter((file) => !present.has(file)).map(({ path, digest }) => [path, digest]));
  const now = new Map(call.inputs.filter((file) => !shared.has(file)).map(({ path, digest }) => [path, digest]));
  const changed: Cause[] = [];
  const [came, went] = [new Set<ByteString>(), new Set<ByteString>()];
  for (const [path, digest] of now) {
    const earlier = was.get(path);
    if (earlier === undefined) came.add(path);
    else if (earlier !== digest)
      changed.push({ kind: path === call.source ? "source-changed" : "header-changed", path });
  }
  for (const path of was.keys()) if (!now.has(path)) went.add(path);
  // The source by another name is told as such.
  if (before.source !== null) went.delete(before.source);
  if (call.source !== null) came.delete(call.source);
  const [wereAbsent, areAbsent] = [
    new Set(came.size > 0 ? before.absent : []),
    new Set(went.size > 0 ? call.absent : []),
  ];
  return {
    telling: [
      ...changed.toSorted((a, b) => Number(b.kind === "source-changed") - Number(a.kind === "source-changed")),
      ...paths(came, (path) => wereAbsent.has(path), "header-appeared"),
      ...paths(went, (path) => areAbsent.has(path), "header-vanished"),
    ],
    following: [
      ...paths(came, (path) => !wereAbsent.has(path), "also-read"),
      ...paths(went, (path) => !areAbsent.has(path), "no-longer-read"),
    ],
  };
}

function paths(
  all: ReadonlySet<ByteString>,
  take: (path: ByteString) => boolean,
  kind: "header-appeared" | "header-vanished" | "also-read" | "no-longer-read",
): Cause[] {
  return [...all].filter(take).map((path) => ({ kind, path }));
}
