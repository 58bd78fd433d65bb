// Answers from the action cache: asks for the job's keys in the order of its policy. A cache that fails is a miss.
import type { Logger } from "../../base/log.ts";
import type { ResultKey } from "../../core/action/result-keys.ts";
import { type FoundResult, lookUp } from "../cached-result.ts";
import type { KeptEvidence } from "./kept-evidence.ts";
import type { Answer, Job, Layer } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface LookUpLayerOptions {
  readonly logger: Logger;
  readonly observe: JobObserver;
  /** This worker's name. */
  readonly worker: string;
  readonly evidence: Pick<KeptEvidence, "isWhole">;
}

export class LookUpLayer implements Layer {
  readonly #next: Layer;
  readonly #options: LookUpLayerOptions;

  constructor(next: Layer, options: LookUpLayerOptions) {
    this.#next = next;
    this.#options = options;
  }

  async run(job: Job): Promise<Answer> {
    for (const key of job.keys.candidates) {
      const found = await this.#lookUp(job, key);
      if (found === null) continue;
      this.#options.observe({ t: "looked-up", job, hit: key });
      return { outcome: "hit", key, ...found, afterRow: async () => undefined };
    }
    this.#options.observe({ t: "looked-up", job, hit: null });
    return this.#next.run(job);
  }

  async #lookUp(job: Job, { key }: ResultKey): Promise<FoundResult | null> {
    const { isolationMin, policy, store } = job;
    let found: FoundResult | null = null;
    try {
      found = await lookUp(key, { isolationMin, life: policy.life }, store);
      if (found === null || (await this.#isWhole(job, found))) return found;
      await found.result.close();
      return null;
    } catch (error) {
      await found?.result.close();
      this.#options.logger.warn("worker.cache.lookup_failed", { key, error: String(error) });
      return null;
    }
  }

  /** What another worker made has its source there. */
  async #isWhole(job: Job, { result, provenance }: FoundResult): Promise<boolean> {
    const { evidence, worker } = this.#options;
    return evidence.isWhole(job, result, provenance.from !== null && provenance.from !== worker);
  }
}
