// The workers that live now: soft state, rebuilt from registrations and heartbeats within one interval. Knows no
// connection; who feeds it has checked the identities.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { spiffeId } from "../core/identity/spiffe.ts";
import { patternsOf } from "../core/image/repository-pattern.ts";
import { ASSIGNMENTS_MAX, isSaturated, PlacementIndex, type PlacementWorker } from "../core/placement/placement.ts";
import type { WorkerOffer, WorkerQuery } from "../wire/scheduler/mapping.ts";

/** A worker's present load. */
export interface WorkerLoad {
  readonly freeSlots: number;
  readonly queued: number;
  readonly draining: boolean;
}

export interface RegisteredWorker extends PlacementWorker {
  readonly offer: WorkerOffer;
}

/** One registration; a later one of the same worker takes its place. */
export interface RegistrationHandle {
  /** False when the registration has expired or was replaced: the worker must register again. */
  heartbeat(load: WorkerLoad): boolean;
  /** Forgets the worker, unless a later registration took over. */
  remove(): void;
}

export interface RegistryOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly expiryMs: number;
  readonly workersMax: number;
  /** Called with the images for which answers may have changed. */
  readonly changed: (images: readonly string[]) => void;
  /** Called when a worker has come, has changed its offer, or has gone (null). */
  readonly membership: (id: string, offer: WorkerOffer | null) => void;
}

/** The registry looks for silent workers this often within the expiry time. */
const SWEEPS_PER_EXPIRY = 4;

/** How the index knows what a worker would fetch: as an image of that name, which no digest is. */
function fetchedFrom(pattern: string): string {
  return `from ${pattern}`;
}

/** All that the answer to a question depends on, as `changed` is told of it. */
export function watchedNames({ image, repository }: WorkerQuery): string[] {
  return [image, ...(repository === undefined ? [] : patternsOf(repository).map(fetchedFrom))];
}

interface Entry {
  worker: RegisteredWorker;
  seenMs: number;
  readonly expired: () => void;
}

export class WorkerRegistry {
  readonly #options: RegistryOptions;
  readonly #index = new PlacementIndex<RegisteredWorker>();
  readonly #entries = new Map<string, Entry>();
  #sweep: Timer | null = null;

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Adds a worker, all slots free; `expired` is called when it falls silent or another registration replaces it. */
  register(offer: WorkerOffer, expired: () => void): RegistrationHandle {
    const id = spiffeId(offer.identity);
    const old = this.#entries.get(id);
    if (!old && this.#entries.size >= this.#options.workersMax)
      throw new HpccError("limit.exceeded", `this scheduler takes at most ${this.#options.workersMax} workers`);
    const { isolation, slots } = offer;
    const images = [...offer.images, ...(offer.repositories ?? []).map(fetchedFrom)];
    const worker = { id, offer, images, isolation, slots, freeSlots: slots, queued: 0, draining: false };
    const entry: Entry = { worker, seenMs: this.#options.clock.monotonicMs(), expired };
    this.#entries.set(id, entry);
    this.#index.set(worker);
    this.#options.logger.info("scheduler.worker.registered", { worker: id, slots, images: offer.images.length });
    if (old) old.expired();
    this.#options.membership(id, offer);
    this.#options.changed(old ? [...new Set([...images, ...old.worker.images])] : images);
    this.#startSweep();
    return {
      heartbeat: (load) => this.#heartbeat(id, entry, load),
      remove: () => {
        if (this.#entries.get(id) === entry) this.#forget(id, entry, "left");
      },
    };
  }

  /**
   * The workers that a client should use, best first: those that have the image and are free, those that would fetch it, and those
   * that have it and are busy.
   */
  find({ image, isolationMin, repository }: WorkerQuery, client: string): RegisteredWorker[] {
    const holders = this.#index.find({ client, image, isolationMin });
    if (repository === undefined) return holders;
    const busy = holders.findIndex(isSaturated);
    const free = busy === -1 ? holders : holders.slice(0, busy);
    const fetching = patternsOf(repository).flatMap((pattern) =>
      this.#index.find({ client, image: fetchedFrom(pattern), isolationMin }).filter((worker) => !isSaturated(worker)),
    );
    const all = [...free, ...fetching, ...holders];
    return [...new Map(all.map((worker) => [worker.id, worker])).values()].slice(0, ASSIGNMENTS_MAX);
  }

  /** Stops looking for silent workers. */
  close(): void {
    this.#sweep?.cancel();
    this.#sweep = null;
  }

  #heartbeat(id: string, entry: Entry, load: WorkerLoad): boolean {
    if (this.#entries.get(id) !== entry) return false;
    const { worker } = entry;
    entry.seenMs = this.#options.clock.monotonicMs();
    const freeSlots = Math.min(load.freeSlots, worker.slots);
    entry.worker = { ...worker, freeSlots, queued: load.queued, draining: load.draining };
    this.#index.set(entry.worker);
    // Only what moves a worker in an answer is news: a heartbeat with another load is not.
    if (worker.draining !== load.draining || isSaturated(worker) !== isSaturated(entry.worker))
      this.#options.changed(worker.images);
    return true;
  }

  #forget(id: string, entry: Entry, why: "left" | "silent"): void {
    this.#entries.delete(id);
    this.#index.delete(id);
    this.#options.logger.info("scheduler.worker.forgotten", { worker: id, why });
    this.#options.membership(id, null);
    this.#options.changed(entry.worker.images);
  }

  #startSweep(): void {
    this.#sweep ??= this.#options.clock.after(this.#options.expiryMs / SWEEPS_PER_EXPIRY, () => {
      this.#sweep = null;
      const silentSinceMs = this.#options.clock.monotonicMs() - this.#options.expiryMs;
      for (const [id, entry] of this.#entries)
        if (entry.seenMs <= silentSinceMs) {
          this.#forget(id, entry, "silent");
          entry.expired();
        }
      if (this.#entries.size > 0) this.#startSweep();
    });
  }
}
