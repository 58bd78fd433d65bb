// `hpcc explain`: why a file was compiled again, or what a whole build was compiled for. Reads the history and, for the way from a source to a
// header, the files as they are now. UNTRUSTED: paths and words of the history are a checkout's.
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { findProjectRoot } from "../config/project-root.ts";
import { type Cause, causesOf } from "../core/explain/causes.ts";
import { includeChain, normalPath } from "../core/explain/include-chain.ts";
import { type BuildSummary, type ExplainedCall, lastBuild, summarize } from "../core/explain/last-build.ts";
import { answerKind, type CallHistory, type CallRow, type RecordedCall } from "../core/explain/recorded-call.ts";
import { workingFolder } from "./working-folder.ts";

/** Calls of a file that are looked through for its last compile. */
const CALLS_MAX = 200;
const BUILD_CALLS_MIN = 1_000;
const BUILD_CALLS_MAX = 100_000;
/** Compiles of a build whose causes are sought; more would take too long to wait for. */
const EXPLAINED_MAX = 20_000;
/** Calls that are looked through for one that read a file. */
const READERS_MAX = 1_000;
/** For reading files on the way to headers; after that causes are told without it. */
const CHAIN_MS_MAX = 2_000;
const BUILD_CHAIN_MS_MAX = 60;
const FILE_BYTES_MAX = 16 * 1024 * 1024;

/** A cause, and by which includes the source comes to its file; null when none was sought or found. */
export interface CauseWithWay {
  readonly cause: Cause;
  readonly way: readonly ByteString[] | null;
}

export interface FileExplanation {
  /** The last call for the file. */
  readonly call: RecordedCall;
  /** The last one that was compiled, which may be the same; null when no call that is known was. */
  readonly compiled: RecordedCall | null;
  readonly causes: readonly CauseWithWay[];
}

export interface BuildExplanation {
  readonly summary: BuildSummary;
  readonly groups: readonly { readonly calls: number; readonly example: RecordedCall; readonly why: CauseWithWay }[];
  /** Compiles beyond the limit, whose cause was not sought. */
  readonly unexplained: number;
}

/** Why the file was last compiled. Throws `argument.invalid` for a file of which no call is known. */
export function explainFile(history: CallHistory, file: string): FileExplanation {
  const calls = callsOfFile(history, file);
  const [call] = calls;
  if (call === undefined) throw unknownFile(history, file);
  const compiled = calls.find(({ outcome }) => answerKind(outcome) === "compiled") ?? null;
  if (compiled === null) return { call, compiled, causes: [] };
  const ways = new Ways(CHAIN_MS_MAX);
  return { call, compiled, causes: causesFrom(history, compiled).map((cause) => ways.withWay(compiled, cause)) };
}

function causesFrom(history: CallHistory, call: RecordedCall): readonly Cause[] {
  return causesOf(call, { before: history.callBefore(call), kept: history.keptBefore(call) });
}

/** What the last build was compiled for; of this project, or of whichever was built last if none of its calls is known. */
export function explainLastBuild(history: CallHistory, project: ByteString | null): BuildExplanation {
  const own = lastBuildOf(history, project);
  const rows = own.length > 0 ? own : lastBuildOf(history, null);
  if (rows.length === 0) throw new HpccError("argument.invalid", "no call is known yet; build something first");
  const compiled = rows.filter(({ outcome }) => answerKind(outcome) === "compiled");
  const explained = compiled.slice(0, EXPLAINED_MAX).flatMap(({ id }): ExplainedCall[] => {
    const call = history.call(id);
    return call === null ? [] : [{ call, causes: causesFrom(history, call) }];
  });
  const summary = summarize(rows, explained);
  const ways = new Ways(BUILD_CHAIN_MS_MAX);
  const groups = summary.groups.map(({ cause, calls, example }) => ({
    calls,
    example,
    why: ways.withWay(example, cause),
  }));
  return { summary, groups, unexplained: compiled.length - explained.length };
}

/** Asks for so many calls as the build has, and not for all that are known. */
function lastBuildOf(history: CallHistory, project: ByteString | null): readonly CallRow[] {
  for (let rowsMax = BUILD_CALLS_MIN; ; rowsMax *= 10) {
    const rows = history.newest(project, rowsMax);
    const build = lastBuild(rows);
    if (build.length < rows.length || rows.length < rowsMax || rowsMax >= BUILD_CALLS_MAX) return build;
  }
}

/** The file by the names that a call may know it by: as it was given, and with links resolved. */
function callsOfFile(history: CallHistory, file: string): readonly RecordedCall[] {
  const name = byteStringOfText(file);
  const path = normalPath(name.startsWith("/") ? name : `${workingFolder()}/${name}`) as ByteString;
  const names = new Set([path, realPath(path), realFolder(path)]);
  return [...names]
    .flatMap((name) => history.callsOf(name, CALLS_MAX))
    .toSorted((a, b) => b.id - a.id)
    .filter(({ id }, at, all) => id !== all[at - 1]?.id);
}

/** The root of the project in which the command runs; null outside of any. */
export function currentProject(): ByteString | null {
  return findProjectRoot(workingFolder(), (path) => existsSync(bytesOf(path)));
}

function realPath(path: ByteString): ByteString {
  try {
    return byteStringOf(realpathSync.native(bytesOf(path), "buffer"));
  } catch {
    return path;
  }
}

/** An output that is gone still lies in a folder that is there. */
function realFolder(path: ByteString): ByteString {
  const at = path.lastIndexOf("/");
  const folder = realPath((path.slice(0, at) || "/") as ByteString);
  return `${folder === "/" ? "" : folder}${path.slice(at)}` as ByteString;
}

function unknownFile(history: CallHistory, file: string): HpccError {
  const end = normalPath(byteStringOfText(file));
  const readers = history
    .newest(null, READERS_MAX)
    .flatMap(({ id }) => history.call(id) ?? [])
    .filter(({ inputs }) => inputs.some(({ path }) => path.endsWith(end)));
  const [reader] = readers;
  if (reader?.source != null)
    return new HpccError("argument.invalid", `${file} is neither source nor output of a call that is known`, {
      hint: `Calls read such a file: ask about one of them, as in \`hpcc explain ${displayText(reader.source)}\`.`,
    });
  const oldest = history.oldestMs();
  const since =
    oldest === null
      ? "no call is known"
      : `calls are known since ${new Date(oldest).toISOString()}; links are not known by their files`;
  return new HpccError("argument.invalid", `no call for ${file} is known`, {
    hint: `Name a source or an object that was compiled through hpcc; ${since}.`,
  });
}

/** Finds ways from sources to headers, reading each file once and stopping when the time is over. */
class Ways {
  readonly #endMs: number;
  readonly #texts = new Map<ByteString, Uint8Array | null>();

  constructor(msMax: number) {
    this.#endMs = performance.now() + msMax;
  }

  withWay(call: RecordedCall, cause: Cause): CauseWithWay {
    if (!("path" in cause) || cause.kind === "configuration" || cause.kind === "source-changed" || call.source === null)
      return { cause, way: null };
    const { source, cwd, words } = call;
    const inputs = [...call.inputs.map(({ path }) => path), cause.path];
    const read = (path: ByteString) => this.#read(path);
    return { cause, way: includeChain({ source, cwd, words, inputs, read }, cause.path) };
  }

  #read(path: ByteString): Uint8Array | null {
    const known = this.#texts.get(path);
    if (known !== undefined) return known;
    if (performance.now() > this.#endMs) return null;
    const text = readText(path);
    this.#texts.set(path, text);
    return text;
  }
}

function readText(path: ByteString): Uint8Array | null {
  try {
    const { size } = statSync(bytesOf(path));
    return size > FILE_BYTES_MAX ? null : readFileSync(bytesOf(path));
  } catch {
    return null;
  }
}
