// The layer below the worker's own look-up: what missed here is asked of peers before it is compiled. What they give becomes an
// entry of the own cache once the job's row is durable, with its maker's statement, and is told on like an own one.
import type { Logger } from "../../base/log.ts";
import type { ResultKey } from "../../core/action/result-keys.ts";
import type { CachedAction } from "../../store/action-cache.ts";
import { openAction, putUnlessOutranked } from "../cached-result.ts";
import type { Answer, Job, Layer } from "../layers/layer.ts";
import type { Announcer } from "./announcer.ts";
import type { WantedResult } from "./check-found.ts";
import type { PeerCounters } from "./counters.ts";
import type { PeerSearch } from "./search.ts";

export interface PeerLookUpOptions {
  readonly search: PeerSearch;
  readonly announcer: Announcer;
  readonly counters: PeerCounters;
  readonly logger: Logger;
}

/** What was found for all who wanted the same at the same time. */
interface Shared {
  readonly action: CachedAction;
  kept: Promise<void> | null;
}

export class PeerLookUp implements Layer {
  readonly #next: Layer;
  readonly #options: PeerLookUpOptions;
  /** Searches under way: equal ones are made once. Each ends by its own deadlines, whoever leaves. */
  readonly #searches = new Map<string, Promise<Shared | null>>();

  constructor(next: Layer, options: PeerLookUpOptions) {
    this.#next = next;
    this.#options = options;
  }

  async run(job: Job): Promise<Answer> {
    return (await this.#ask(job)) ?? this.#next.run(job);
  }

  async #ask(job: Job): Promise<Answer | null> {
    // What a principal paid for alone is nobody else's business, and no other worker has it.
    const keys = job.keys.candidates.filter(({ scope }) => scope === "tenant");
    if (keys.length > 0) this.#options.counters.looked += 1;
    for (const key of keys) {
      const shared = await this.#search(job, key);
      const answer = shared && (await this.#answer(job, key, shared));
      if (answer !== null) return answer;
    }
    return null;
  }

  async #search(job: Job, { key, tier }: ResultKey): Promise<Shared | null> {
    const { action, isolationMin, policy, principal, store, signal } = job;
    const wanted: WantedResult = { tenant: principal.tenant, tier, key, action, isolationMin, life: policy.life };
    const name = `${key} ${isolationMin} ${policy.life}`;
    const search = this.#searches.get(name) ?? this.#begin(name, wanted, store);
    const { promise: left, reject: leave } = Promise.withResolvers<never>();
    const onAbort = () => leave(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      signal.throwIfAborted();
      return await Promise.race([search, left]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  #begin(name: string, wanted: WantedResult, store: Job["store"]): Promise<Shared | null> {
    const search = this.#options.search
      .find(wanted, store, new AbortController().signal)
      .then((action): Shared | null => action && { action, kept: null })
      .catch((error: unknown) => {
        this.#options.logger.error("worker.peers.bug", { error: String((error as Error | null)?.stack ?? error) });
        return null;
      })
      .finally(() => this.#searches.delete(name));
    this.#searches.set(name, search);
    return search;
  }

  async #answer(job: Job, key: ResultKey, shared: Shared): Promise<Answer | null> {
    const { action } = shared;
    const result = await openAction(action, job.store.blobs);
    if (result === null) return null;
    return {
      outcome: "hit",
      key,
      provenance: { from: action.worker, compiledRow: action.row, confirmedBy: action.confirmedBy },
      result,
      afterRow: async () => {
        await (shared.kept ??= this.#keep(job, key, action));
      },
    };
  }

  async #keep({ store }: Job, { key }: ResultKey, action: CachedAction): Promise<void> {
    try {
      if (!(await putUnlessOutranked(store, key, action))) return;
    } catch (error) {
      // The answer stands; a peer is asked again the next time.
      this.#options.logger.warn("worker.cache.put_failed", { error: String(error) });
      return;
    }
    const { image, statement } = action;
    if (statement !== null) this.#options.announcer.announce({ key, image, statement });
  }
}
