// Ends a job that takes longer than its client waits.
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Answer, Job, Layer } from "./layer.ts";

export class DeadlineLayer implements Layer {
  readonly #next: Layer;
  readonly #clock: Clock;

  constructor(next: Layer, clock: Clock) {
    this.#next = next;
    this.#clock = clock;
  }

  async run(job: Job): Promise<Answer> {
    const deadline = new AbortController();
    const late = () => deadline.abort(new HpccError("peer.deadline", "the job took longer than its client waits"));
    const timer = this.#clock.after(job.deadlineMs, late);
    try {
      return await this.#next.run({ ...job, signal: AbortSignal.any([job.signal, deadline.signal]) });
    } finally {
      timer.cancel();
    }
  }
}
