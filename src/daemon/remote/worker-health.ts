// What is known of workers that gave no answer or have a fault of their own: who is left alone, and when a silent one is probed.
import { type BackoffRule, backoffMs } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";

export interface WorkerHealthOptions {
  readonly clock: Clock;
  /** In [0, 1): spreads the probes of many daemons. */
  readonly random: () => number;
}

type WorkerState =
  /** Gave no answer; a probe may begin at `probeAtMs` (monotonic). */
  | { readonly t: "silent"; readonly failures: number; readonly probeAtMs: number }
  | { readonly t: "probing"; readonly failures: number }
  /** Answered a probe, but no job yet: if it falls silent again, the pauses go on growing. */
  | { readonly t: "back"; readonly failures: number }
  /** Answers, with faults of its own such as a full disk. */
  | { readonly t: "unfit"; readonly untilMs: number };

/** Pauses before the probes of a silent worker. */
const PROBE_BACKOFF: BackoffRule = { firstMs: 1_000, maxMs: 60_000 };
/** How long a worker with a fault of its own is left alone. */
const UNFIT_MS = 15_000;
/** Workers that are remembered; the one noted first is forgotten for one more. */
const WORKERS_MAX = 4_096;

/** Workers without a state are well. A worker's key is its identity and address. */
export class WorkerHealth {
  readonly #options: WorkerHealthOptions;
  readonly #states = new Map<string, WorkerState>();

  constructor(options: WorkerHealthOptions) {
    this.#options = options;
  }

  /** Whether a job may be sent there now. */
  usable(worker: string): boolean {
    const state = this.#states.get(worker);
    if (state === undefined || state.t === "back") return true;
    return state.t === "unfit" && state.untilMs <= this.#options.clock.monotonicMs();
  }

  /** It could not be reached, or fell silent. Calls that learn the same of one silence count once. */
  fellSilent(worker: string): void {
    if (!this.usable(worker)) return;
    const state = this.#states.get(worker);
    this.#silence(worker, state?.t === "back" ? state.failures : 0);
  }

  /** A job failed there by a fault of the worker's own. */
  isUnfit(worker: string): void {
    this.#note(worker, { t: "unfit", untilMs: this.#options.clock.monotonicMs() + UNFIT_MS });
  }

  /** It gave a sign of life for a job. */
  answered(worker: string): void {
    if (this.#states.get(worker)?.t !== "unfit") this.#states.delete(worker);
  }

  /** Whether the caller is to probe it now; `probed` must follow. */
  beginProbe(worker: string): boolean {
    const state = this.#states.get(worker);
    if (state?.t !== "silent" || state.probeAtMs > this.#options.clock.monotonicMs()) return false;
    this.#note(worker, { t: "probing", failures: state.failures });
    return true;
  }

  probed(worker: string, isBack: boolean): void {
    const state = this.#states.get(worker);
    if (state?.t !== "probing") return;
    if (isBack) this.#note(worker, { t: "back", failures: state.failures });
    else this.#silence(worker, state.failures);
  }

  #silence(worker: string, failuresBefore: number): void {
    const { clock, random } = this.#options;
    const failures = failuresBefore + 1;
    const probeAtMs = clock.monotonicMs() + backoffMs(PROBE_BACKOFF, failures, random());
    this.#note(worker, { t: "silent", failures, probeAtMs });
  }

  #note(worker: string, state: WorkerState): void {
    const [first] = this.#states.keys();
    if (first !== undefined && this.#states.size >= WORKERS_MAX && !this.#states.has(worker))
      this.#states.delete(first);
    this.#states.set(worker, state);
  }
}
