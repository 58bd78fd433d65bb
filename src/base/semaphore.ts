// Bounds how much is done at a time, in places, bytes or whatever a weight counts; the others wait in order.
import { HpccError } from "./errors.ts";

interface Waiting {
  readonly weight: number;
  readonly given: () => void;
}

export class Semaphore {
  readonly #total: number;
  #free: number;
  readonly #waiting = new Set<Waiting>();

  constructor(places: number) {
    this.#total = places;
    this.#free = places;
  }

  /**
   * Waits for places, one unless `weight` says otherwise; more than there are means all of them. The returned function gives them back, once.
   * Throws `job.cancelled` when the signal aborts first.
   */
  async take(signal: AbortSignal, weight = 1): Promise<() => void> {
    if (signal.aborted) throw new HpccError("job.cancelled", "given up while waiting for a place");
    const wanted = Math.min(weight, this.#total);
    if (this.#waiting.size === 0 && this.#free >= wanted) this.#free -= wanted;
    else await this.#wait(signal, wanted);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#free += wanted;
      this.#give();
    };
  }

  #give(): void {
    for (const next of this.#waiting) {
      if (next.weight > this.#free) return;
      this.#free -= next.weight;
      this.#waiting.delete(next);
      next.given();
    }
  }

  #wait(signal: AbortSignal, weight: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        weight,
        given: () => {
          signal.removeEventListener("abort", left);
          resolve();
        },
      };
      const left = () => {
        this.#waiting.delete(waiting);
        reject(new HpccError("job.cancelled", "given up while waiting for a place"));
        // It may have stood before somebody who needs less.
        this.#give();
      };
      this.#waiting.add(waiting);
      signal.addEventListener("abort", left, { once: true });
    });
  }
}
