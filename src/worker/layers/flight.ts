// Gets a job's source and has it compiled, once for all who want the same at the same time.
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { openResult } from "../cached-result.ts";
import { receiveSource } from "../receive-source.ts";
import { Flights, type Landing } from "./flights.ts";
import { type Answer, type CompileJob, type Job, type Layer, OWN } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface FlightLayerOptions {
  readonly logger: Logger;
  readonly observe: JobObserver;
}

export class FlightLayer implements Layer {
  readonly #next: Layer<CompileJob>;
  readonly #options: FlightLayerOptions;
  readonly #flights: Flights<Answer>;

  constructor(next: Layer<CompileJob>, options: FlightLayerOptions) {
    this.#next = next;
    this.#options = options;
    this.#flights = new Flights((unclaimed) => this.#close(unclaimed));
  }

  /** Compiles under way. */
  get compiling(): number {
    return this.#flights.size;
  }

  async run(job: Job): Promise<Answer> {
    if (!this.#flights.has(job.key)) await this.#receive(job);
    const joins = this.#flights.has(job.key);
    job.client.progress(joins ? "running" : "queued");
    if (joins) this.#options.observe({ t: "joined", job });
    const landing = await this.#flights.join(job.key, job.signal, (signal) => this.#compile(job, signal));
    return landing.first ? firstOf(landing) : this.#joined(job, landing.value);
  }

  async #receive(job: Job): Promise<void> {
    const received = await receiveSource(job, job.store.blobs, job.client);
    this.#options.observe({ t: "received", job, ...received });
  }

  /** For whoever waits: the client of whoever asked first is no part of it. */
  async #compile(job: Job, signal: AbortSignal): Promise<Answer> {
    const { principal, action, source, encodedSource, key, policy, isolationMin, poolKey, store } = job;
    return this.#next.run({
      principal,
      action,
      source,
      encodedSource,
      key,
      policy,
      isolationMin,
      poolKey,
      store,
      signal,
    });
  }

  async #joined({ store }: Job, { scope, result: { recorded } }: Answer): Promise<Answer> {
    const result = await openResult(recorded, store.blobs);
    if (result === null) throw new HpccError("store.corrupt", "the result was lost before it could be sent");
    return { outcome: "joined", scope, provenance: OWN, result, afterRow: async () => undefined };
  }

  #close({ result }: Answer): void {
    result.close().catch((error: unknown) => {
      this.#options.logger.warn("worker.result.not_closed", { error: String(error) });
    });
  }
}

/** Others join it until it is in the cache, or its first has no more use for it. */
function firstOf({ value, done }: Landing<Answer>): Answer {
  const { result } = value;
  return {
    ...value,
    result: {
      ...result,
      close: async () => {
        done();
        await result.close();
      },
    },
    afterRow: async (row) => {
      try {
        await value.afterRow(row);
      } finally {
        done();
      }
    },
  };
}
