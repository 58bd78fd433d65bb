// The innermost layer: runs the compile in a VM of its tenant.
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ExecutionLimits } from "../../vm/execution.ts";
import type { VmPool } from "../../vm/pool.ts";
import { OWN, openResult } from "../cached-result.ts";
import { type Executed, executeAction } from "../execute-action.ts";
import { checkContents, type WorkerImages } from "../images.ts";
import { takeBack } from "../take-back.ts";
import type { Answer, CompileJob, Layer } from "./layer.ts";
import type { JobObserver } from "./observer.ts";
import { VmTime } from "./vm-time.ts";

export interface ExecuteLayerOptions {
  readonly images: WorkerImages;
  readonly limits: ExecutionLimits;
  readonly pool: VmPool;
  readonly worker: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observe: JobObserver;
}

export class ExecuteLayer implements Layer<CompileJob> {
  readonly #options: ExecuteLayerOptions;

  constructor(options: ExecuteLayerOptions) {
    this.#options = options;
  }

  async run(job: CompileJob): Promise<Answer> {
    const { recorded, cpuUs } = await this.#execute(job);
    this.#options.observe({ t: "executed", job, origin: recorded.origin, cpuUs });
    const result = await openResult(recorded, job.store.blobs);
    if (result === null) throw new HpccError("store.corrupt", "the result was lost before it could be sent");
    return { outcome: "compiled", key: null, provenance: OWN, result, afterRow: async () => undefined };
  }

  async #execute(job: CompileJob): Promise<Executed> {
    const { images, limits, pool, worker, clock, logger, observe } = this.#options;
    const rootfs = await images.rootfs(job.action.imageDigest);
    checkContents(images, job.action.imageDigest, job.imageContents ?? null);
    job.signal.throwIfAborted();
    const meter = new VmTime(clock);
    try {
      const executed = await executeAction(job, { rootfs, limits, pool, worker, clock, onProgress: meter.onProgress });
      meter.said(executed.cpuUs);
      return executed;
    } catch (error) {
      // Whoever hears of the breach finds nothing of that VM any more.
      if (error instanceof HpccError && error.code === "vm.breach" && typeof error.details["vm"] === "string")
        await takeBack(error.details["vm"], job.store.actions, { clock, logger });
      throw error;
    } finally {
      observe({ t: "used", job, cpuUs: meter.us });
    }
  }
}
