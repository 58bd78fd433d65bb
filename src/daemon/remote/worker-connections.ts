// The streams to workers, one for each, that all calls of a daemon share. A worker that hangs costs the calls that are with it and no
// later one: those pass it by at once, and one probe at a time, with growing pauses, finds out when it is back. Probes are asked for
// by calls, so an idle daemon dials nobody.
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { formatHostPort } from "../../core/identity/host-port.ts";
import { spiffeId } from "../../core/identity/spiffe.ts";
import type { InspectResponse } from "../../gen/hpcc/worker/v1/worker_pb.js";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";
import type { WorkerChoice } from "../../wire/scheduler/mapping.ts";
import {
  isWorkersWord,
  type RemoteJob,
  type RemoteOptions,
  type RemoteResult,
  type RemoteWorker,
} from "./remote-job.ts";
import { WorkerHealth } from "./worker-health.ts";

/** A worker's client as this module uses it. */
export interface WorkerConnection extends RemoteWorker {
  /** Aborted once its stream has ended; it is not used again. */
  readonly ended: AbortSignal;
  inspect(hash: string, signal?: AbortSignal): Promise<InspectResponse>;
  close(): void;
}

export interface WorkerConnectionsOptions {
  /** Read again for each connection. */
  readonly credentials: () => OwnCredentials;
  /** Gives up, and rejects, when the signal is aborted. */
  readonly connect: (
    worker: WorkerChoice,
    credentials: OwnCredentials,
    signal: AbortSignal,
  ) => Promise<WorkerConnection>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1). */
  readonly random: () => number;
  /** Is told each result. */
  readonly onResult?: (result: RemoteResult) => void;
}

/** Codes of a worker to which there is no way, or which says nothing more. */
export const UNREACHABLE: ReadonlySet<string> = new Set(["peer.unavailable", "peer.protocol", "peer.deadline"]);

export class WorkerConnections {
  readonly #options: WorkerConnectionsOptions;
  readonly #health: WorkerHealth;
  readonly #connections = new Map<string, Promise<WorkerConnection>>();
  readonly #close = new AbortController();

  constructor(options: WorkerConnectionsOptions) {
    this.#options = options;
    this.#health = new WorkerHealth(options);
  }

  /** Whether a job may be sent there now. */
  usable(worker: WorkerChoice): boolean {
    return this.#health.usable(keyOf(worker));
  }

  /** Compiles there, and notes what that says of the worker's health; errors are the caller's to judge. */
  async compile(worker: WorkerChoice, job: RemoteJob, options: RemoteOptions): Promise<RemoteResult> {
    const heard = () => this.#health.answered(keyOf(worker));
    const connection = await this.connection(worker);
    try {
      const result = await connection.compile(job, {
        ...options,
        onProgress: (progress) => {
          heard();
          options.onProgress?.(progress);
        },
      });
      heard();
      this.#options.onResult?.(result);
      return result;
    } catch (error) {
      if (error instanceof HpccError && isWorkersWord(error)) heard();
      throw error;
    }
  }

  /** The stream to a worker, made when there is none. */
  async connection(worker: WorkerChoice): Promise<WorkerConnection> {
    const key = keyOf(worker);
    const known = this.#connections.get(key);
    if (known !== undefined) {
      const connection = await known;
      if (!connection.ended.aborted) return connection;
      if (this.#connections.get(key) === known) this.#connections.delete(key);
    }
    const waiting = this.#connections.get(key);
    if (waiting !== undefined) return waiting;
    const { connect, credentials } = this.#options;
    const connecting = connect(worker, credentials(), this.#close.signal);
    this.#connections.set(key, connecting);
    connecting.catch((error: unknown) => {
      if (this.#connections.get(key) === connecting) this.#connections.delete(key);
      if (error instanceof HpccError && UNREACHABLE.has(error.code)) this.fellSilent(worker, error);
    });
    return connecting;
  }

  /** Finds out in the background whether a silent worker says hello again; the connection is kept. */
  probeWhenDue(worker: WorkerChoice): void {
    const { logger } = this.#options;
    const key = keyOf(worker);
    if (this.#close.signal.aborted || !this.#health.beginProbe(key)) return;
    this.connection(worker).then(
      () => {
        this.#health.probed(key, true);
        logger.info("worker.back", { worker: spiffeId(worker.identity) });
      },
      (error: unknown) => {
        this.#health.probed(key, false);
        const message = error instanceof Error ? error.message : String(error);
        logger.debug("worker.probe.failed", { worker: spiffeId(worker.identity), message });
      },
    );
  }

  /** There is no way to it, or it says nothing more: its stream ends, and calls pass it by until a probe has an answer. */
  fellSilent(worker: WorkerChoice, error: HpccError): void {
    if (this.usable(worker)) this.#log("worker.silent", worker, error);
    this.#health.fellSilent(keyOf(worker));
    this.#leave(worker);
  }

  /** A job failed there by a fault of the worker's own: calls pass it by for a while. */
  isUnfit(worker: WorkerChoice, error: HpccError): void {
    if (this.usable(worker)) this.#log("worker.unfit", worker, error);
    this.#health.isUnfit(keyOf(worker));
    this.#leave(worker);
  }

  /** Ends all streams; what runs fails with `peer.unavailable`. */
  async close(): Promise<void> {
    this.#close.abort();
    const connections = [...this.#connections.values()];
    this.#connections.clear();
    for (const connection of await Promise.allSettled(connections))
      if (connection.status === "fulfilled") connection.value.close();
  }

  #log(event: string, worker: WorkerChoice, { code, message }: HpccError): void {
    this.#options.logger.warn(event, { worker: spiffeId(worker.identity), code, message });
  }

  #leave(worker: WorkerChoice): void {
    const key = keyOf(worker);
    const connection = this.#connections.get(key);
    this.#connections.delete(key);
    connection?.then(
      (open) => open.close(),
      () => {},
    );
  }
}

function keyOf(worker: WorkerChoice): string {
  return `${spiffeId(worker.identity)} ${formatHostPort(worker.address)}`;
}
