// Compiles on whichever worker the schedulers name: one watch per query, one stream per worker, and the next worker when one
// cannot be reached or has a fault of its own (a full disk). A worker that failed is left alone for a while, so that a dead one costs one call and not every call.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { ERROR_TRAITS, HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { formatHostPort, type HostPort } from "../../core/identity/host-port.ts";
import { spiffeId } from "../../core/identity/spiffe.ts";
import type { InspectResponse } from "../../gen/hpcc/worker/v1/worker_pb.js";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";
import type { WorkerChoice, WorkerQuery } from "../../wire/scheduler/mapping.ts";
import {
  isWorkersWord,
  type RemoteJob,
  type RemoteOptions,
  type RemoteResult,
  type RemoteWorker,
} from "./remote-job.ts";
import { SchedulerWatch } from "./scheduler-watch.ts";

/** A worker's client as this module uses it. */
export interface WorkerConnection extends RemoteWorker {
  /** Aborted once its stream has ended; it is not used again. */
  readonly ended: AbortSignal;
  inspect(hash: string, signal?: AbortSignal): Promise<InspectResponse>;
  close(): void;
}

export interface RemoteCompilerOptions {
  readonly schedulers: readonly HostPort[];
  /** Read again for each connection. */
  readonly credentials: () => OwnCredentials;
  readonly query: WorkerQuery;
  readonly connect: (worker: WorkerChoice, credentials: OwnCredentials) => Promise<WorkerConnection>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const UNREACHABLE: ReadonlySet<string> = new Set(["peer.unavailable", "peer.protocol", "peer.deadline"]);
/** Workers that are tried for one job. */
const ATTEMPTS_MAX = 3;
const SHUN_MS = 15_000;
/** How long a call waits for the schedulers' first answer. */
const FIRST_ANSWER_MS = 5_000;

export class RemoteCompiler implements RemoteWorker {
  readonly #options: RemoteCompilerOptions;
  readonly #watch: SchedulerWatch;
  readonly #connections = new Map<string, Promise<WorkerConnection>>();
  readonly #shunnedUntilMs = new Map<string, number>();

  constructor(options: RemoteCompilerOptions) {
    this.#options = options;
    const { schedulers, credentials, query, clock, logger } = options;
    this.#watch = new SchedulerWatch({ schedulers, credentials, query, clock, logger });
  }

  async compile(job: RemoteJob, options: RemoteOptions): Promise<RemoteResult> {
    let failure: HpccError | null = null;
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const worker = await this.#pick(options.signal);
      if (worker === null) break;
      const outputFolder = attempt === 0 ? job.outputFolder : join(job.outputFolder, `attempt-${attempt}`);
      if (attempt > 0) await mkdir(outputFolder, { mode: 0o700 });
      try {
        const connection = await this.#connection(worker);
        return await connection.compile({ ...job, outputFolder }, options);
      } catch (error) {
        if (!(error instanceof HpccError) || error.code === "job.cancelled") throw error;
        const isUnfit = isWorkersWord(error) && ERROR_TRAITS[error.code].blame === "operator";
        if (!error.retryable && !isUnfit) throw error;
        failure = error;
        if ((isUnfit && error.code !== "store.corrupt") || UNREACHABLE.has(error.code)) this.#shun(worker, error);
      }
    }
    throw failure ?? new HpccError("peer.unavailable", "no scheduler named a worker that can be used");
  }

  /** Reads back what the best worker's audit log knows of a hash, within the caller's tenant. */
  async inspect(hash: string, signal: AbortSignal): Promise<InspectResponse> {
    const worker = await this.#pick(signal);
    if (worker === null) throw new HpccError("peer.unavailable", "no scheduler named a worker that can be used");
    return (await this.#connection(worker)).inspect(hash, signal);
  }

  async close(): Promise<void> {
    const connections = [...this.#connections.values()];
    this.#connections.clear();
    for (const connection of await Promise.allSettled(connections))
      if (connection.status === "fulfilled") connection.value.close();
    await this.#watch.close();
  }

  /** The best worker that is not shunned; null when there is none. */
  async #pick(signal: AbortSignal): Promise<WorkerChoice | null> {
    const { clock } = this.#options;
    const workers = this.#watch.workers ?? (await this.#firstAnswer(signal)) ?? [];
    const nowMs = clock.monotonicMs();
    return workers.find((worker) => (this.#shunnedUntilMs.get(keyOf(worker)) ?? 0) <= nowMs) ?? null;
  }

  #firstAnswer(signal: AbortSignal): Promise<readonly WorkerChoice[] | null> {
    const late = Promise.withResolvers<null>();
    const timer = this.#options.clock.after(FIRST_ANSWER_MS, () => late.resolve(null));
    const left = () => late.resolve(null);
    signal.addEventListener("abort", left, { once: true });
    return Promise.race([this.#watch.firstAnswer(), late.promise]).finally(() => {
      timer.cancel();
      signal.removeEventListener("abort", left);
    });
  }

  async #connection(worker: WorkerChoice): Promise<WorkerConnection> {
    const key = keyOf(worker);
    const known = this.#connections.get(key);
    if (known !== undefined) {
      const connection = await known;
      if (!connection.ended.aborted) return connection;
      if (this.#connections.get(key) === known) this.#connections.delete(key);
    }
    const waiting = this.#connections.get(key);
    if (waiting !== undefined) return waiting;
    const connecting = this.#options.connect(worker, this.#options.credentials());
    this.#connections.set(key, connecting);
    connecting.catch(() => this.#forget(key, connecting));
    return connecting;
  }

  #forget(key: string, connection: Promise<WorkerConnection>): void {
    if (this.#connections.get(key) === connection) this.#connections.delete(key);
  }

  #shun(worker: WorkerChoice, error: HpccError): void {
    const { clock, logger } = this.#options;
    logger.warn("worker.shunned", { worker: spiffeId(worker.identity), code: error.code, message: error.message });
    this.#shunnedUntilMs.set(keyOf(worker), clock.monotonicMs() + SHUN_MS);
    const connection = this.#connections.get(keyOf(worker));
    this.#connections.delete(keyOf(worker));
    connection?.then(
      (open) => open.close(),
      () => {},
    );
  }
}

function keyOf(worker: WorkerChoice): string {
  return `${spiffeId(worker.identity)} ${formatHostPort(worker.address)}`;
}
