// Bounds how many do something at a time; the others wait in order.
import { HpccError } from "./errors.ts";

export class Semaphore {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(places: number) {
    this.#free = places;
  }

  /** Waits for a place; the returned function gives it back, once. Throws `job.cancelled` when the signal aborts first. */
  async take(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) throw new HpccError("job.cancelled", "given up while waiting for a place");
    if (this.#free > 0) this.#free -= 1;
    else await this.#wait(signal);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const [next] = this.#waiting;
      if (next === undefined) this.#free += 1;
      else next();
    };
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const given = () => {
        this.#waiting.delete(given);
        signal.removeEventListener("abort", left);
        resolve();
      };
      const left = () => {
        this.#waiting.delete(given);
        reject(new HpccError("job.cancelled", "given up while waiting for a place"));
      };
      this.#waiting.add(given);
      signal.addEventListener("abort", left, { once: true });
    });
  }
}
