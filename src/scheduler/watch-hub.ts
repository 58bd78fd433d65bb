// The clients that watch: each gets an answer at once and another whenever its answer changes, at most one per push
// interval. A client that does not read has one answer waiting, the latest.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { LatestValue } from "../base/latest-value.ts";
import type { WorkerQuery } from "../wire/scheduler/mapping.ts";
import { PUSH_INTERVAL_MS } from "./limits.ts";
import { type RegisteredWorker, watchedNames } from "./registry.ts";

export interface WatchAnswer {
  readonly revision: bigint;
  readonly workers: readonly RegisteredWorker[];
}

export interface WatchHubOptions {
  readonly clock: Clock;
  readonly watchersMax: number;
  readonly watchersPerClientMax: number;
  readonly find: (query: WorkerQuery, client: string) => readonly RegisteredWorker[];
}

interface Watcher {
  readonly client: string;
  readonly query: WorkerQuery;
  revision: bigint;
  /** What the last answer looked like. */
  signature: string;
  readonly latest: LatestValue<WatchAnswer>;
}

export class WatchHub {
  readonly #options: WatchHubOptions;
  /** By all that a watcher's answer depends on. */
  readonly #byName = new Map<string, Set<Watcher>>();
  readonly #perClient = new Map<string, number>();
  #size = 0;
  #dirty = new Set<string>();
  #flush: Timer | null = null;
  #flushedMs = Number.NEGATIVE_INFINITY;

  constructor(options: WatchHubOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** The answers to one client, until its signal is aborted. */
  async *watch(query: WorkerQuery, client: string, signal: AbortSignal): AsyncGenerator<WatchAnswer, void, undefined> {
    const watcher: Watcher = { client, query, revision: 0n, signature: "", latest: new LatestValue() };
    this.#add(watcher);
    try {
      this.#answer(watcher, true);
      yield* watcher.latest.values(signal);
    } finally {
      this.#remove(watcher);
    }
  }

  /** Says that answers for these images may have changed. */
  changed(images: readonly string[]): void {
    for (const image of images) if (this.#byName.has(image)) this.#dirty.add(image);
    if (this.#dirty.size === 0 || this.#flush !== null) return;
    const waitMs = Math.max(0, this.#flushedMs + PUSH_INTERVAL_MS - this.#options.clock.monotonicMs());
    this.#flush = this.#options.clock.after(waitMs, () => {
      this.#flush = null;
      this.#flushedMs = this.#options.clock.monotonicMs();
      const dirty = this.#dirty;
      this.#dirty = new Set();
      const watchers = new Set([...dirty].flatMap((name) => [...(this.#byName.get(name) ?? [])]));
      for (const watcher of watchers) this.#answer(watcher, false);
    });
  }

  /** Pushes nothing more. */
  close(): void {
    this.#flush?.cancel();
    this.#flush = null;
  }

  #answer(watcher: Watcher, always: boolean): void {
    const workers = this.#options.find(watcher.query, watcher.client);
    const signature = workers
      .map(({ id, offer }) => `${id} ${offer.address.host} ${offer.address.port} ${offer.caDigest}`)
      .join("\n");
    if (!always && signature === watcher.signature) return;
    watcher.signature = signature;
    watcher.revision += 1n;
    watcher.latest.put({ revision: watcher.revision, workers });
  }

  #add(watcher: Watcher): void {
    const open = this.#perClient.get(watcher.client) ?? 0;
    if (this.#size >= this.#options.watchersMax)
      throw new HpccError("limit.exceeded", "this scheduler has too many clients");
    if (open >= this.#options.watchersPerClientMax)
      throw new HpccError("limit.exceeded", `at most ${this.#options.watchersPerClientMax} watches of one user`);
    this.#size += 1;
    this.#perClient.set(watcher.client, open + 1);
    for (const name of watchedNames(watcher.query)) {
      const set = this.#byName.get(name) ?? new Set();
      this.#byName.set(name, set.add(watcher));
    }
  }

  #remove(watcher: Watcher): void {
    for (const name of watchedNames(watcher.query)) {
      const set = this.#byName.get(name);
      if (!set?.delete(watcher)) return;
      if (set.size === 0) this.#byName.delete(name);
    }
    this.#size -= 1;
    const open = this.#perClient.get(watcher.client) ?? 1;
    if (open > 1) this.#perClient.set(watcher.client, open - 1);
    else this.#perClient.delete(watcher.client);
  }
}
