// A token bucket per key. Memory is bounded: the key used longest ago is forgotten first.
import type { Clock } from "./clock.ts";

export interface RateRule {
  readonly burst: number;
  readonly perSecond: number;
  readonly keysMax: number;
}

export class RateLimit {
  readonly #rule: RateRule;
  readonly #clock: Clock;
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();

  constructor(rule: RateRule, clock: Clock) {
    this.#rule = rule;
    this.#clock = clock;
  }

  /** Takes one token; false when the key has none left. */
  take(key: string): boolean {
    const nowMs = this.#clock.monotonicMs();
    const old = this.#buckets.get(key) ?? { tokens: this.#rule.burst, atMs: nowMs };
    const filled = Math.min(this.#rule.burst, old.tokens + ((nowMs - old.atMs) / 1000) * this.#rule.perSecond);
    const allowed = filled >= 1;
    this.#buckets.delete(key);
    this.#buckets.set(key, { tokens: allowed ? filled - 1 : filled, atMs: nowMs });
    if (this.#buckets.size > this.#rule.keysMax) {
      const [oldest] = this.#buckets.keys();
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    return allowed;
  }
}
