// For which tenants and images clean VMs are to be started ahead of the next job. It counts nothing itself: a job notes its
// demand, and the demand is over when there are enough spares, or when it is too long ago.
import type { PoolKey } from "./pool-key.ts";

interface Demanded {
  readonly key: PoolKey;
  readonly rootfs: string;
  readonly sinceMs: number;
}

export class SpareDemand {
  readonly #keptMs: number;
  readonly #demands = new Map<string, Demanded>();

  /** A demand is forgotten after `keptMs`. */
  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  /** A job of this key was given a clean VM. */
  note(key: PoolKey, rootfs: string, nowMs: number): void {
    this.#demands.delete(key.spareText);
    this.#demands.set(key.spareText, { key, rootfs, sinceMs: nowMs });
  }

  /** There are enough spares for this key, or one could not be started. */
  settle(key: PoolKey): void {
    this.#demands.delete(key.spareText);
  }

  /** What is wanted now, the oldest demand first. */
  wanted(nowMs: number): readonly Demanded[] {
    for (const [text, { sinceMs }] of this.#demands) if (sinceMs + this.#keptMs <= nowMs) this.#demands.delete(text);
    return [...this.#demands.values()];
  }
}
