// Compiles on whichever worker the schedulers name for one image, and on the next one when a worker cannot be reached or has a fault
// of its own (a full disk). Which workers are left alone meanwhile is known to `WorkerConnections`.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { ERROR_TRAITS, HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { HostPort } from "../../core/identity/host-port.ts";
import type { InspectResponse } from "../../gen/hpcc/worker/v1/worker_pb.js";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";
import type { WorkerChoice, WorkerQuery } from "../../wire/scheduler/mapping.ts";
import {
  isWorkersWord,
  type RemoteJob,
  type RemoteOptions,
  type RemoteResult,
  type RemoteWorkers,
} from "./remote-job.ts";
import { SchedulerWatch } from "./scheduler-watch.ts";
import { UNREACHABLE, type WorkerConnections } from "./worker-connections.ts";

export interface RemoteCompilerOptions {
  readonly schedulers: readonly HostPort[];
  /** Read again for each connection to a scheduler. */
  readonly credentials: () => OwnCredentials;
  readonly query: WorkerQuery;
  /** Shared by all that compile with these credentials; `close` leaves them open. */
  readonly workers: WorkerConnections;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1). */
  readonly random: () => number;
}

/** Workers that are tried for one job. */
const ATTEMPTS_MAX = 3;
/** How long calls wait for the schedulers' first answer, from the start of the watch. */
const FIRST_ANSWER_MS = 5_000;

export class RemoteCompiler implements RemoteWorkers {
  readonly #options: RemoteCompilerOptions;
  readonly #watch: SchedulerWatch;
  /** Calls do not wait for a first answer after this time (monotonic). */
  readonly #firstAnswerByMs: number;

  constructor(options: RemoteCompilerOptions) {
    this.#options = options;
    const { schedulers, credentials, query, clock, logger, random } = options;
    this.#watch = new SchedulerWatch({ schedulers, credentials, query, clock, logger, random });
    this.#firstAnswerByMs = clock.monotonicMs() + FIRST_ANSWER_MS;
  }

  /**
   * Whether a job would be given to a worker now. Answers at once, but for the first seconds after the start, in which it waits for
   * the schedulers' first answer. If there is a worker, it is connected to while the caller prepares the job.
   */
  async available(signal: AbortSignal): Promise<boolean> {
    const worker = await this.#pick(signal);
    if (worker === null) return false;
    // `compile` tells the error, if the job comes to that.
    this.#options.workers.connection(worker).catch(() => {});
    return true;
  }

  async compile(job: RemoteJob, options: RemoteOptions): Promise<RemoteResult> {
    let failure: HpccError | null = null;
    const { workers } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const worker = await this.#pick(options.signal);
      if (worker === null) break;
      const outputFolder = attempt === 0 ? job.outputFolder : join(job.outputFolder, `attempt-${attempt}`);
      if (attempt > 0) await mkdir(outputFolder, { mode: 0o700 });
      try {
        return await workers.compile(worker, { ...job, outputFolder }, options);
      } catch (error) {
        if (!(error instanceof HpccError) || error.code === "job.cancelled") throw error;
        const isUnfit = isWorkersWord(error) && ERROR_TRAITS[error.code].blame === "operator";
        if (!error.retryable && !isUnfit) throw error;
        failure = error;
        if (isUnfit && error.code !== "store.corrupt") workers.isUnfit(worker, error);
        else if (UNREACHABLE.has(error.code)) workers.fellSilent(worker, error);
      }
    }
    throw failure ?? new HpccError("peer.unavailable", "no scheduler named a worker that can be used");
  }

  /** Reads back what the best worker's audit log knows of a hash, within the caller's tenant. */
  async inspect(hash: string, signal: AbortSignal): Promise<InspectResponse> {
    const worker = await this.#pick(signal);
    if (worker === null) throw new HpccError("peer.unavailable", "no scheduler named a worker that can be used");
    return (await this.#options.workers.connection(worker)).inspect(hash, signal);
  }

  async close(): Promise<void> {
    await this.#watch.close();
  }

  /** The best worker that is not left alone; null when there is none. A silent one that is passed by may be probed. */
  async #pick(signal: AbortSignal): Promise<WorkerChoice | null> {
    const { workers } = this.#options;
    for (const worker of this.#watch.workers ?? (await this.#firstAnswer(signal)) ?? []) {
      if (workers.usable(worker)) return worker;
      workers.probeWhenDue(worker);
    }
    return null;
  }

  #firstAnswer(signal: AbortSignal): Promise<readonly WorkerChoice[] | null> {
    const { clock } = this.#options;
    const late = Promise.withResolvers<null>();
    const timer = clock.after(this.#firstAnswerByMs - clock.monotonicMs(), () => late.resolve(null));
    const left = () => late.resolve(null);
    signal.addEventListener("abort", left, { once: true });
    return Promise.race([this.#watch.firstAnswer(), late.promise]).finally(() => {
      timer.cancel();
      signal.removeEventListener("abort", left);
    });
  }
}
