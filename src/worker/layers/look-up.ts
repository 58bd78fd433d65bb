// Answers from the action cache. A cache that fails is a miss.
import type { Logger } from "../../base/log.ts";
import { lookUp, type OpenResult } from "../cached-result.ts";
import { type Answer, type Job, type Layer, OWN } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface LookUpLayerOptions {
  readonly logger: Logger;
  readonly observe: JobObserver;
}

export class LookUpLayer implements Layer {
  readonly #next: Layer;
  readonly #options: LookUpLayerOptions;

  constructor(next: Layer, options: LookUpLayerOptions) {
    this.#next = next;
    this.#options = options;
  }

  async run(job: Job): Promise<Answer> {
    const result = await this.#lookUp(job);
    this.#options.observe({ t: "looked-up", job, hit: result !== null });
    if (result === null) return this.#next.run(job);
    return { outcome: "hit", scope: "principal", provenance: OWN, result, afterRow: async () => undefined };
  }

  async #lookUp({ key, isolationMin, poolKey, store }: Job): Promise<OpenResult | null> {
    try {
      return await lookUp(key, { isolationMin, life: poolKey.trust }, store);
    } catch (error) {
      this.#options.logger.warn("worker.cache.lookup_failed", { key, error: String(error) });
      return null;
    }
  }
}
