// Which golden snapshots there are: one per binding, made once at a time, used until it is old or has many clones, the least used
// gone first. It knows of snapshots only their names; how they are made and dropped is an argument.
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import type { Digest } from "../../core/digest/digest.ts";

/** Failed attempts to make one golden wait so long for the next, doubled each time. */
const RETRY_MS = 30_000;
const RETRY_MS_MAX = 3_600_000;
/** Bindings whose failures are remembered. */
const FAILURES_MAX = 256;

export interface GoldenLimits {
  /** Goldens at a time, each a memory file on disk; 0 makes none. */
  readonly goldensMax: number;
  /** Clones of one golden share what the kernel drew at its boot, so it is replaced after so long ... */
  readonly maxAgeMs: number;
  /** ... or so many restores. */
  readonly restoresMax: number;
}

export const DEFAULT_GOLDEN_LIMITS: GoldenLimits = { goldensMax: 32, maxAgeMs: 24 * 3_600_000, restoresMax: 1_000 };

export interface GoldenShelfOptions {
  readonly limits: GoldenLimits;
  readonly drop: (snapshot: string) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A golden that is being restored. Release it once, however that ended. */
export interface GoldenLease {
  readonly snapshot: string;
  /** The restore failed: the golden is not used again. */
  failed(): void;
  release(): void;
}

interface Golden {
  readonly snapshot: string;
  readonly madeMs: number;
  restores: number;
  /** Restores that run. */
  leases: number;
  retired: boolean;
}

interface Failures {
  readonly count: number;
  readonly retryAtMs: number;
}

export class GoldenShelf {
  readonly #options: GoldenShelfOptions;
  /** In the order of their last use. */
  readonly #goldens = new Map<Digest, Golden>();
  readonly #making = new Map<Digest, Promise<void>>();
  readonly #failures = new Map<Digest, Failures>();
  /** One at a time: a golden that is made takes the memory of a machine that the pool does not count. */
  readonly #makers = new Semaphore(1);
  readonly #closing = new AbortController();

  constructor(options: GoldenShelfOptions) {
    this.#options = options;
  }

  /** Goldens that can be restored now. */
  get size(): number {
    return this.#goldens.size;
  }

  /** Whether there is a golden of this binding that is not due to be replaced. */
  has(binding: Digest): boolean {
    const golden = this.#goldens.get(binding);
    return golden !== undefined && !this.#isDue(golden);
  }

  /** The golden of a binding; null when there is none or it is due to be replaced, which drops it. */
  take(binding: Digest): GoldenLease | null {
    const golden = this.#goldens.get(binding);
    if (golden === undefined) return null;
    this.#goldens.delete(binding);
    if (this.#isDue(golden)) {
      this.#options.logger.info("vm.golden.rotated", { binding, restores: golden.restores });
      void this.#retire(golden);
      return null;
    }
    this.#goldens.set(binding, golden);
    golden.restores += 1;
    golden.leases += 1;
    let held = true;
    const release = (): void => {
      if (!held) return;
      held = false;
      golden.leases -= 1;
      if (golden.retired) void this.#retire(golden);
    };
    return {
      snapshot: golden.snapshot,
      failed: () => {
        if (this.#goldens.get(binding) === golden) this.#goldens.delete(binding);
        golden.retired = true;
        release();
      },
      release,
    };
  }

  /**
   * Sees to it that there is a golden of a binding: waits for the one that is being made, or makes it. `make` gives the name of its
   * snapshot and gives up when its signal aborts. Never rejects: a failure is logged, and not tried again for a while.
   */
  ensure(binding: Digest, make: (signal: AbortSignal) => Promise<string>): Promise<void> {
    const { goldensMax } = this.#options.limits;
    if (goldensMax === 0 || this.#closing.signal.aborted || this.has(binding)) return Promise.resolve();
    const before = this.#making.get(binding);
    if (before) return before;
    const { retryAtMs } = this.#failures.get(binding) ?? { retryAtMs: 0 };
    if (this.#options.clock.monotonicMs() < retryAtMs) return Promise.resolve();
    const making = this.#make(binding, make).finally(() => this.#making.delete(binding));
    this.#making.set(binding, making);
    return making;
  }

  /** Gives up what is being made and drops all; ends when they are dropped. */
  async close(): Promise<void> {
    this.#closing.abort(new HpccError("job.cancelled", "the worker ends"));
    await Promise.all(this.#making.values());
    await Promise.all([...this.#goldens.values()].map((golden) => this.#retire(golden)));
    this.#goldens.clear();
  }

  async #make(binding: Digest, make: (signal: AbortSignal) => Promise<string>): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#closing;
    const giveBack = await this.#makers.take(signal).catch(() => null);
    if (giveBack === null) return;
    const startedMs = clock.monotonicMs();
    try {
      signal.throwIfAborted();
      const snapshot = await make(signal);
      const golden = { snapshot, madeMs: clock.monotonicMs(), restores: 0, leases: 0, retired: false };
      this.#failures.delete(binding);
      logger.info("vm.golden.made", { binding, snapshot, ms: Math.round(golden.madeMs - startedMs) });
      if (signal.aborted) {
        await this.#retire(golden);
        return;
      }
      const former = this.#goldens.get(binding);
      if (former) void this.#retire(former);
      this.#goldens.delete(binding);
      this.#goldens.set(binding, golden);
      this.#makeRoom();
    } catch (error) {
      if (!signal.aborted) this.#failed(binding, error);
    } finally {
      giveBack();
    }
  }

  #failed(binding: Digest, error: unknown): void {
    const { clock, logger } = this.#options;
    const count = (this.#failures.get(binding)?.count ?? 0) + 1;
    const delayMs = Math.min(RETRY_MS * 2 ** (count - 1), RETRY_MS_MAX);
    this.#failures.delete(binding);
    this.#failures.set(binding, { count, retryAtMs: clock.monotonicMs() + delayMs });
    for (const oldest of this.#failures.keys()) {
      if (this.#failures.size <= FAILURES_MAX) break;
      this.#failures.delete(oldest);
    }
    logger.warn("vm.golden.failed", { binding, count, retryMs: delayMs, error: String(error) });
  }

  #makeRoom(): void {
    for (const [binding, golden] of this.#goldens) {
      if (this.#goldens.size <= this.#options.limits.goldensMax) return;
      this.#goldens.delete(binding);
      void this.#retire(golden);
    }
  }

  #isDue(golden: Golden): boolean {
    const { maxAgeMs, restoresMax } = this.#options.limits;
    return golden.restores >= restoresMax || this.#options.clock.monotonicMs() - golden.madeMs >= maxAgeMs;
  }

  /** Drops a golden that is on the shelf no more, once nobody restores it. Never rejects. */
  async #retire(golden: Golden): Promise<void> {
    golden.retired = true;
    if (golden.leases > 0) return;
    try {
      await this.#options.drop(golden.snapshot);
    } catch (error) {
      this.#options.logger.warn("vm.golden.not_dropped", { snapshot: golden.snapshot, error: String(error) });
    }
  }
}
