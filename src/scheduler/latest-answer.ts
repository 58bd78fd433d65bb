// The answers to one watcher: who does not read has one answer waiting, the latest.

export class LatestAnswer<T> {
  #pending: { readonly answer: T } | null = null;
  #wake: () => void = () => {};

  /** Takes the place of an answer that was not read yet. */
  put(answer: T): void {
    this.#pending = { answer };
    this.#wake();
  }

  /** The answers as they come, until the signal is aborted. */
  async *answers(signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    const leave = () => this.#wake();
    signal.addEventListener("abort", leave, { once: true });
    try {
      while (!signal.aborted) {
        const next = this.#pending;
        this.#pending = null;
        if (next) yield next.answer;
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
