// How long a VM worked on a job. What the guest says of it is the guest's word, and one that its user owns may say that a compile took
// nothing; so the worker measures too, from the moment when all input is on its way.
import type { Clock } from "../../base/clock.ts";
import type { ExecutionProgress } from "../../vm/execution.ts";

export class VmTime {
  readonly #clock: Clock;
  #beganMs: number | null = null;
  #endedMs: number | null = null;
  #saidUs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  readonly onProgress = ({ t }: ExecutionProgress): void => {
    if (t === "sent") this.#beganMs ??= this.#clock.monotonicMs();
    else this.#endedMs ??= this.#clock.monotonicMs();
  };

  /** What the guest says that all processors took. */
  said(cpuUs: number): void {
    this.#saidUs = cpuUs;
  }

  /** The longer of both; 0 for a job that no VM began. */
  get us(): number {
    if (this.#beganMs === null) return this.#saidUs;
    const endMs = this.#endedMs ?? this.#clock.monotonicMs();
    return Math.max(this.#saidUs, Math.round((endMs - this.#beganMs) * 1000));
  }
}
