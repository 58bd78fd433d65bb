// What callers wait for so long that a person at a terminal wonders: an image that is unpacked, a microVM that boots. One of those who wait
// is told of it.
import type { Clock } from "../../base/clock.ts";

interface Work {
  readonly text: string;
  /** By the monotonic clock. */
  readonly spokenOfMs: number;
}

/** The same is said no more often. */
const AGAIN_MS = 30_000;
const TOLD_MAX = 100;

export class LongWork {
  readonly #clock: Clock;
  readonly #works = new Set<Work>();
  /** When each text was told last. */
  readonly #toldMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Begins something that the text names for a person, and that is spoken of when it takes longer; what is returned ends it. */
  begin(text: string, longerThanMs: number): () => void {
    const work = { text, spokenOfMs: this.#clock.monotonicMs() + longerThanMs };
    this.#works.add(work);
    return () => void this.#works.delete(work);
  }

  /** What one who waits is told now; null for nothing, or nothing new. */
  tell(): string | null {
    const nowMs = this.#clock.monotonicMs();
    for (const { text, spokenOfMs } of this.#works) {
      if (nowMs < spokenOfMs) continue;
      const toldMs = this.#toldMs.get(text);
      if (toldMs !== undefined && nowMs - toldMs < AGAIN_MS) continue;
      if (this.#toldMs.size >= TOLD_MAX) this.#toldMs.clear();
      this.#toldMs.set(text, nowMs);
      return text;
    }
    return null;
  }
}
