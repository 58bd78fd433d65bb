// Counts what became of calls, by outcome and by reason. Shown by `hpcc stats`; the tests' only proof that a job went where
// it should have gone.
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";

/**
 * Outcomes of a call: `remote_*` ones crossed a worker, `local_hit` came out of the local store, `local_compiled` went into it, `local`
 * ones ran the image's compiler here with a reason, `host` ones the host's. `replayed` ones were answered by a launcher alone.
 */
export type CallOutcome =
  | "local_hit"
  | "local_compiled"
  | "remote_compiled"
  | "remote_hit"
  | "remote_joined"
  | "local"
  | "host"
  | "refused"
  | "cancelled"
  | "replayed";

export interface CallCountsSnapshot {
  /** Calls answered since the counters were last zeroed. */
  readonly calls: number;
  readonly outcomes: Readonly<Record<CallOutcome, number>>;
  /** Calls by reason, for outcomes `local`, `host` and `refused`. */
  readonly reasons: Readonly<Record<string, number>>;
  /** Jobs sent to workers; every one has an audit row. */
  readonly jobs_sent: number;
  readonly sources: SourceCounts;
  /** Jobs for which no compiler was asked which files the call reads. */
  readonly lists_kept: number;
  /** Bytes of the jobs' sources that crossed the wire, before and after zstd. */
  readonly source_bytes: number;
  readonly source_wire_bytes: number;
  /** Result bytes that crossed the wire, before and after zstd. */
  readonly result_bytes: number;
  readonly result_wire_bytes: number;
  /** Time spent in compilers in guests by jobs that were compiled, in microseconds. */
  readonly compile_us: number;
}

type ByteCounter =
  | "jobs_sent"
  | "lists_kept"
  | "source_bytes"
  | "source_wire_bytes"
  | "result_bytes"
  | "result_wire_bytes"
  | "compile_us";

/** Calls that were made into jobs, by source form and by where the project stood. */
export interface SourceCounts {
  readonly files: number;
  readonly text: number;
  readonly shared_paths: number;
  readonly own_paths: number;
}

export class CallCounts {
  #outcomes = new Map<CallOutcome, number>();
  #reasons = new Map<BypassReason, number>();
  #sources = { files: 0, text: 0, shared_paths: 0, own_paths: 0 };
  #numbers = new Map<ByteCounter, number>();

  /** Counts a call that is done. */
  count(outcome: CallOutcome, reason: BypassReason | null = null): void {
    this.countMany(outcome, 1);
    if (reason !== null) this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
  }

  countMany(outcome: CallOutcome, calls: number): void {
    this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + calls);
  }

  /** Counts a call that was made into a job. */
  countForm(form: "files" | "text", paths: "shared" | "own"): void {
    this.#sources[form] += 1;
    this.#sources[`${paths}_paths`] += 1;
  }

  add(counter: ByteCounter, amount: number): void {
    this.#numbers.set(counter, (this.#numbers.get(counter) ?? 0) + amount);
  }

  zero(): void {
    this.#outcomes.clear();
    this.#reasons.clear();
    this.#numbers.clear();
    this.#sources = { files: 0, text: 0, shared_paths: 0, own_paths: 0 };
  }

  snapshot(): CallCountsSnapshot {
    const outcome = (name: CallOutcome) => this.#outcomes.get(name) ?? 0;
    const number = (name: ByteCounter) => this.#numbers.get(name) ?? 0;
    const outcomes = {
      local_hit: outcome("local_hit"),
      local_compiled: outcome("local_compiled"),
      remote_compiled: outcome("remote_compiled"),
      remote_hit: outcome("remote_hit"),
      remote_joined: outcome("remote_joined"),
      local: outcome("local"),
      host: outcome("host"),
      refused: outcome("refused"),
      cancelled: outcome("cancelled"),
      replayed: outcome("replayed"),
    };
    return {
      calls: Object.values(outcomes).reduce((sum, count) => sum + count, 0),
      outcomes,
      reasons: Object.fromEntries([...this.#reasons].sort(([a], [b]) => (a < b ? -1 : 1))),
      jobs_sent: number("jobs_sent"),
      sources: { ...this.#sources },
      lists_kept: number("lists_kept"),
      source_bytes: number("source_bytes"),
      source_wire_bytes: number("source_wire_bytes"),
      result_bytes: number("result_bytes"),
      result_wire_bytes: number("result_wire_bytes"),
      compile_us: number("compile_us"),
    };
  }
}
