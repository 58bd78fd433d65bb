// A call as the history keeps it, and the port through which it is read. Explaining works on these alone, so that it needs neither a daemon
// nor the files as they were. UNTRUSTED: paths and words are a checkout's.
import type { ByteString } from "../../base/byte-string.ts";
import { NumberTable } from "../../base/number-table.ts";
import type { Digest } from "../digest/digest.ts";

/** Outcomes of calls by the numbers that stand for them in the history. */
export const RECORDED_OUTCOMES = new NumberTable({
  remote_compiled: 1,
  remote_hit: 2,
  remote_joined: 3,
  local: 4,
  host: 5,
  refused: 6,
  cancelled: 7,
  local_hit: 8,
  local_compiled: 9,
  replayed: 10,
} as const);

export type RecordedOutcome = (typeof RECORDED_OUTCOMES)["names"][number];

/** How a call was answered: by running a compiler, from what was kept, or not at all. */
export type AnswerKind = "compiled" | "kept" | "none";

const ANSWER_KINDS: Readonly<Record<RecordedOutcome, AnswerKind>> = {
  remote_compiled: "compiled",
  local_compiled: "compiled",
  local: "compiled",
  host: "compiled",
  remote_hit: "kept",
  remote_joined: "kept",
  local_hit: "kept",
  replayed: "kept",
  refused: "none",
  cancelled: "none",
};

export function answerKind(outcome: RecordedOutcome): AnswerKind {
  return ANSWER_KINDS[outcome];
}

/** A file and what was in it. */
export interface RecordedFile {
  readonly path: ByteString;
  readonly digest: Digest;
}

export interface RecordedCompiler {
  readonly identity: Digest;
  readonly image: Digest | null;
  readonly files: readonly RecordedFile[];
}

export interface RecordedCall {
  /** Grows with each call. */
  readonly id: number;
  readonly outcome: RecordedOutcome;
  /** Why it was compiled with nothing kept; null otherwise. */
  readonly reason: string | null;
  readonly detail: ByteString | null;
  readonly project: ByteString | null;
  readonly compiler: RecordedCompiler | null;
  readonly source: ByteString | null;
  readonly output: ByteString | null;
  readonly cwd: ByteString;
  readonly words: readonly ByteString[];
  readonly environment: Readonly<Record<string, ByteString>>;
  /** Of all that the result depends on beside files; null when unknown. */
  readonly callDigest: Digest | null;
  /** Empty when unknown. */
  readonly inputs: readonly RecordedFile[];
  /** Names that were sought in vain, absolute. */
  readonly absent: readonly ByteString[];
  /** Configuration files; the digest is of what told them from others, not of their bytes. */
  readonly configuration: readonly RecordedFile[];
  /** Whether its result may be given again. */
  readonly kept: boolean;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly durationMs: number;
}

/** What is needed of a call to tell builds apart. */
export interface CallRow {
  readonly id: number;
  readonly outcome: RecordedOutcome;
  /** The same for calls with the same output; null when the output is unknown. */
  readonly outputKey: string | null;
  readonly startedMs: number;
  readonly durationMs: number;
}

/** How often a reason kept calls from being kept, and examples of it, the newest first. */
export interface ReasonCount {
  readonly reason: string;
  readonly calls: number;
  readonly examples: readonly { readonly source: ByteString | null; readonly detail: ByteString | null }[];
}

export interface CallHistory {
  /** Calls that had the file as their output or source, newest first. */
  callsOf(path: ByteString, callsMax: number): readonly RecordedCall[];
  /** The call before it for the same output; else for the same source and words. */
  callBefore(call: RecordedCall): RecordedCall | null;
  /** The last earlier call that depended on the same and whose result was kept. */
  keptBefore(call: RecordedCall): RecordedCall | null;
  call(id: number): RecordedCall | null;
  /** Of one project, or of all for null; newest first. */
  newest(project: ByteString | null, rowsMax: number): readonly CallRow[];
  /** Since when; of one project, or of all for null. */
  outcomes(project: ByteString | null): ReadonlyMap<RecordedOutcome, number>;
  reasons(project: ByteString | null, sinceMs: number): readonly ReasonCount[];
  /** When the oldest call began that is known; null when none is. */
  oldestMs(): number | null;
  close(): void;
}
