// A value that changes, for one reader: who does not read has one value waiting, the latest.

export class LatestValue<T> {
  #pending: { readonly value: T } | null = null;
  #wake: () => void = () => {};

  /** Takes the place of a value that was not read yet. */
  put(value: T): void {
    this.#pending = { value };
    this.#wake();
  }

  /** The values as they come, until the signal is aborted. */
  async *values(signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    const leave = () => this.#wake();
    signal.addEventListener("abort", leave, { once: true });
    try {
      while (!signal.aborted) {
        const next = this.#pending;
        this.#pending = null;
        if (next) yield next.value;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }
}
