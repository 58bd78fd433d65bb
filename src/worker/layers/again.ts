// Sends jobs that are to be compiled again, whatever is known of them, past look-up and keeping.
import type { Answer, Job, Layer } from "./layer.ts";

export class AgainLayer implements Layer {
  readonly #next: Layer;
  readonly #compile: Layer;

  /** `compile` asks no cache and fills none. */
  constructor(next: Layer, compile: Layer) {
    this.#next = next;
    this.#compile = compile;
  }

  run(job: Job): Promise<Answer> {
    return (job.again ? this.#compile : this.#next).run(job);
  }
}
