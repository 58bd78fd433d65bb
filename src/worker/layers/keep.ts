// Puts what was compiled into the action cache, once the row that accounts for it is durable. Failures are not kept.
import type { Logger } from "../../base/log.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { RecordedResult } from "../rows/job-rows.ts";
import type { Answer, CompileJob, Layer } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface KeepLayerOptions {
  readonly logger: Logger;
  readonly observe: JobObserver;
}

export class KeepLayer implements Layer<CompileJob> {
  readonly #next: Layer<CompileJob>;
  readonly #options: KeepLayerOptions;

  constructor(next: Layer<CompileJob>, options: KeepLayerOptions) {
    this.#next = next;
    this.#options = options;
  }

  async run(job: CompileJob): Promise<Answer> {
    const answer = await this.#next.run(job);
    const { recorded } = answer.result;
    if (recorded.manifest.exitCode !== 0) return answer;
    return {
      ...answer,
      scope: "principal",
      afterRow: async (row) => {
        await answer.afterRow(row);
        await this.#keep(job, recorded, row.digest);
      },
    };
  }

  async #keep(job: CompileJob, { manifest, origin }: RecordedResult, row: Digest): Promise<void> {
    const { versions: _, ...made } = origin;
    const action = { ...made, result: encodeResultManifest(manifest), row, statement: null };
    try {
      await job.store.actions.put(job.key, action);
    } catch (error) {
      // The result stands; it is compiled again the next time.
      this.#options.logger.warn("worker.cache.put_failed", { error: String(error) });
      return;
    }
    this.#options.observe({ t: "stored", job, key: job.key, action });
  }
}
