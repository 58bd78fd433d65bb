// Puts what was compiled into the action cache, once the row that accounts for it is durable: under the tenant's key what a clean VM
// made, under the principal's what a warm one made. Failures are not kept.
import type { Logger } from "../../base/log.ts";
import { keyToPut, type ResultKey } from "../../core/action/result-keys.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { putUnlessOutranked } from "../cached-result.ts";
import type { RecordedResult } from "../rows/job-rows.ts";
import type { Answer, CompileJob, Layer } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface KeepLayerOptions {
  readonly logger: Logger;
  readonly observe: JobObserver;
}

interface ToKeep {
  readonly recorded: RecordedResult;
  readonly row: Digest;
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
    const key = keyToPut(job.keys, recorded.origin.life);
    return {
      ...answer,
      key,
      afterRow: async (row) => {
        await answer.afterRow(row);
        await this.#keep(job, key, { recorded, row: row.digest });
      },
    };
  }

  async #keep(job: CompileJob, key: ResultKey, { recorded, row }: ToKeep): Promise<void> {
    const { versions: _, ...made } = recorded.origin;
    const action = { ...made, result: encodeResultManifest(recorded.manifest), row, statement: null };
    try {
      if (!(await putUnlessOutranked(job.store, key.key, action))) return;
    } catch (error) {
      // The result stands; it is compiled again the next time.
      this.#options.logger.warn("worker.cache.put_failed", { error: String(error) });
      return;
    }
    this.#options.observe({ t: "stored", job, key, action });
  }
}
