// The daemon's view of the workers for one image: it asks a scheduler once, keeps the stream open, and falls over to the
// next scheduler. The last answer stays in use while no scheduler can be reached: workers prove themselves.
import { type BackoffRule, backoffMs } from "../../base/backoff.ts";
import { type Clock, pause } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { formatHostPort, type HostPort } from "../../core/identity/host-port.ts";
import { type Identity, sameTrustDomain, spiffeId } from "../../core/identity/spiffe.ts";
import { SchedulerService } from "../../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcClient } from "../../wire/grpc/client.ts";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";
import {
  parseWatchResponse,
  toWatchRequest,
  type WorkerChoice,
  type WorkerQuery,
} from "../../wire/scheduler/mapping.ts";

export interface SchedulerWatchOptions {
  /** At least one; tried in this order. */
  readonly schedulers: readonly HostPort[];
  /** Read again for each connection, so that a renewed certificate is used. */
  readonly credentials: () => OwnCredentials;
  readonly query: WorkerQuery;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1). */
  readonly random?: () => number;
}

/** A scheduler that has not answered within this time is passed over. */
const FIRST_ANSWER_MS = 3_000;
const BACKOFF: BackoffRule = { firstMs: 200, maxMs: 5_000 };

export class SchedulerWatch {
  readonly #options: SchedulerWatchOptions;
  readonly #close = new AbortController();
  readonly #listeners = new Set<(workers: readonly WorkerChoice[]) => void>();
  #workers: readonly WorkerChoice[] | null = null;
  #attempted = Promise.withResolvers<void>();
  #done: Promise<void>;

  constructor(options: SchedulerWatchOptions) {
    this.#options = options;
    this.#done = this.#run();
  }

  /** The workers to use, best first; null while no scheduler has answered yet. */
  get workers(): readonly WorkerChoice[] | null {
    return this.#workers;
  }

  /** Resolves once a scheduler has answered or every one of them has failed once. */
  async firstAnswer(): Promise<readonly WorkerChoice[] | null> {
    await this.#attempted.promise;
    return this.#workers;
  }

  /** Calls with each new answer; returns what ends that. */
  onChange(listener: (workers: readonly WorkerChoice[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    this.#close.abort();
    await this.#done;
  }

  async #run(): Promise<void> {
    const { schedulers, clock, random = Math.random } = this.#options;
    const { signal } = this.#close;
    let failures = 0;
    for (let turn = 0; !signal.aborted && schedulers.length > 0; turn += 1) {
      const answered = await this.#watch(schedulers[turn % schedulers.length]!);
      failures = answered ? 0 : failures + 1;
      if (failures >= schedulers.length) this.#attempted.resolve();
      // The next scheduler is asked at once; a pause comes when all have failed in a row.
      const rounds = Math.floor(failures / schedulers.length);
      if (answered) await pause(clock, backoffMs(BACKOFF, 1, random()), signal);
      else if (failures % schedulers.length === 0) await pause(clock, backoffMs(BACKOFF, rounds, random()), signal);
    }
    this.#attempted.resolve();
  }

  /** Watches one scheduler until its stream ends; true when it answered at all. */
  async #watch(address: HostPort): Promise<boolean> {
    const { clock, logger, query } = this.#options;
    const impatience = new AbortController();
    const signal = AbortSignal.any([this.#close.signal, impatience.signal]);
    const timer = clock.after(FIRST_ANSWER_MS, () => impatience.abort());
    let client: RpcClient | null = null;
    let answered = false;
    try {
      const credentials = this.#options.credentials();
      const accept = (server: Identity) => server.kind === "scheduler" && sameTrustDomain(server, credentials.identity);
      client = new RpcClient({ address, tls: credentials.tls, accept });
      const responses = client.serverStream(SchedulerService.method.watch, toWatchRequest(query), { signal });
      for await (const response of responses) {
        const workers = parseWatchResponse(response, query, credentials.identity);
        timer.cancel();
        answered = true;
        this.#accept(workers, address);
      }
      logger.info("scheduler.watch.ended", { scheduler: formatHostPort(address) });
    } catch (error) {
      if (!this.#close.signal.aborted) {
        const { message, code } = error instanceof HpccError ? error : new HpccError("peer.unavailable", String(error));
        logger.warn("scheduler.watch.failed", { scheduler: formatHostPort(address), code, message });
      }
    } finally {
      timer.cancel();
      client?.close();
    }
    return answered;
  }

  #accept(workers: readonly WorkerChoice[], address: HostPort): void {
    this.#workers = workers;
    this.#attempted.resolve();
    const best = workers[0];
    this.#options.logger.debug("scheduler.watch.answer", {
      scheduler: formatHostPort(address),
      workers: workers.length,
      best: best ? spiffeId(best.identity) : null,
    });
    for (const listener of this.#listeners) listener(workers);
  }
}
