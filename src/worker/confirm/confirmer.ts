// Compiles what a warm VM made a second time in a clean one, when the worker has nothing else to do, and shares the result with the
// tenant when both gave the same bytes. When they did not, nothing is shared: that is an alarm.
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ResultKey } from "../../core/action/result-keys.ts";
import { encodeSourceManifest, sourceDigest } from "../../core/action/source-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { CachedAction } from "../../store/action-cache.ts";
import type { CompileJob } from "../layers/layer.ts";
import type { JobEvent } from "../layers/observer.ts";
import { ConfirmQueue, type QueueLimits } from "./confirm-queue.ts";
import type { SecondCompiles } from "./second-compile.ts";
import type { ConfirmOutcome, ToConfirm } from "./to-confirm.ts";

export interface ConfirmCounters {
  /** Waiting now. */
  readonly waiting: number;
  readonly equal: number;
  /** Alarms. */
  readonly different: number;
  /** There was no room for it. */
  readonly dropped: number;
  /** Revoked, evicted or shared before its turn came. */
  readonly forgotten: number;
  /** No second compile came to its end. */
  readonly failed: number;
}

export interface ConfirmerOptions {
  readonly compiles: SecondCompiles;
  /** Places where nothing compiles; fewer than one while jobs wait. */
  readonly freePlaces: () => number;
  /** Second compiles at a time. */
  readonly atOnceMax: number;
  readonly policyDigest: () => Digest | null;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits?: QueueLimits;
}

const LIMITS = { entriesMax: 4096, perTenantMax: 1024 } as const;
const ATTEMPTS_MAX = 3;
/** Whether the worker is idle is looked at so often while something waits and no job ends. */
const LOOK_MS = 1_000;
/** Principals' keys that gave different results; they are not compiled a second time again. Others' are, or one user could keep all from sharing. */
const DIFFERENT_REMEMBERED_MAX = 10_000;

export class Confirmer {
  readonly #options: ConfirmerOptions;
  readonly #queue: ConfirmQueue<ToConfirm>;
  readonly #running = new Map<AbortController, Promise<void>>();
  readonly #different = new Set<Digest>();
  readonly #counts = { equal: 0, different: 0, dropped: 0, forgotten: 0, failed: 0 };
  #timer: Timer | null = null;
  #closed = false;

  constructor(options: ConfirmerOptions) {
    this.#options = options;
    this.#queue = new ConfirmQueue(options.limits ?? LIMITS);
  }

  get counters(): ConfirmCounters {
    return { waiting: this.#queue.size, ...this.#counts };
  }

  /** To be given to the layers as an observer. */
  readonly observe = (event: JobEvent): void => {
    if (event.t === "stored") this.#stored(event.job, event.key, event.action);
    // It is about to ask for a place.
    else if (event.t === "received") this.#giveWay();
    else if (event.t === "answered" || event.t === "failed") this.#look();
  };

  /** Gives up what runs; what waits is forgotten. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    for (const cancel of this.#running.keys()) cancel.abort(new HpccError("job.cancelled", "the worker ends"));
    await Promise.all(this.#running.values());
  }

  #stored(job: CompileJob, { key, scope }: ResultKey, action: CachedAction): void {
    const { shared } = job.keys;
    // What waits for a key that is shared by now is found out when its turn comes.
    if (scope === "tenant") return;
    if (job.policy.sharing !== "confirm" || shared === null || action.life === "clean") return;
    if (this.#different.has(key)) return;
    const entry: ToConfirm = {
      tenant: job.principal.tenant,
      principal: job.principal,
      action: job.action,
      sourceDigest: sourceDigest(encodeSourceManifest(job.source)),
      policy: job.policy,
      policyDigest: this.#options.policyDigest(),
      sharedKey: shared.key,
      ownKey: key,
      first: action,
      build: job.build,
      attempts: 0,
    };
    if (!this.#queue.add(entry)) this.#counts.dropped++;
    this.#look();
  }

  /** The newest second compile ends when jobs need its place. */
  #giveWay(): void {
    let lacking = this.#running.size + 1 - this.#options.freePlaces();
    for (const cancel of [...this.#running.keys()].toReversed()) {
      if (lacking-- <= 0) return;
      cancel.abort(new HpccError("job.cancelled", "a job needs the place"));
    }
  }

  #look(): void {
    while (!this.#closed && this.#queue.size > 0 && this.#hasPlace()) {
      const entry = this.#queue.take();
      if (entry !== null) this.#start(entry);
    }
    if (this.#closed || this.#queue.size === 0 || this.#timer !== null) return;
    this.#timer = this.#options.clock.after(LOOK_MS, () => {
      this.#timer = null;
      this.#look();
    });
  }

  #hasPlace(): boolean {
    const { freePlaces, atOnceMax } = this.#options;
    return this.#running.size < Math.min(freePlaces(), atOnceMax);
  }

  #start(entry: ToConfirm): void {
    const cancel = new AbortController();
    const running = this.#run(entry, cancel.signal).finally(() => {
      this.#running.delete(cancel);
      this.#look();
    });
    this.#running.set(cancel, running);
  }

  async #run(entry: ToConfirm, signal: AbortSignal): Promise<void> {
    let outcome: ConfirmOutcome;
    try {
      outcome = await this.#options.compiles.run(entry, signal);
    } catch (error) {
      this.#failed(entry, signal.aborted, error);
      return;
    }
    this.#counts[outcome]++;
    if (outcome !== "different") return;
    this.#different.add(entry.ownKey);
    for (const oldest of this.#different) {
      if (this.#different.size <= DIFFERENT_REMEMBERED_MAX) break;
      this.#different.delete(oldest);
    }
  }

  #failed(entry: ToConfirm, gaveWay: boolean, error: unknown): void {
    const attempts = entry.attempts + (gaveWay ? 0 : 1);
    if (attempts < ATTEMPTS_MAX) {
      if (!this.#closed && !this.#queue.add({ ...entry, attempts })) this.#counts.dropped++;
      return;
    }
    this.#counts.failed++;
    this.#options.logger.warn("worker.confirmation.failed", { key: entry.sharedKey, error: String(error) });
  }
}
