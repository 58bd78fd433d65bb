// Gets a job's source and has it compiled, once for all who want the same at the same time and may be given it: a clean compile that
// will be shared by anybody who may read the tenant's results, any other by its own principal alone. Others are not given a failure.
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { keyToPut, type ResultKey } from "../../core/action/result-keys.ts";
import { spiffeId } from "../../core/identity/spiffe.ts";
import { isolationAtLeast } from "../../core/isolation.ts";
import { LIVES, type Life, lifeSuffices } from "../../core/life.ts";
import { OWN, openResult } from "../cached-result.ts";
import type { Possessions } from "../possessions.ts";
import { receiveSource } from "../receive-source.ts";
import { Flights, type Landing } from "./flights.ts";
import type { Answer, CompileJob, Job, Layer } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface FlightLayerOptions {
  readonly possessions: Possessions;
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
    const life = job.poolKey.trust;
    if (this.#underWay(job) === null) await this.#receive(job);
    // Somebody may have begun meanwhile.
    const found = this.#underWay(job);
    if (found !== null && this.#flights.ownerOf(found) !== spiffeId(job.principal)) {
      const answer = await this.#joinOthers(job, found);
      if (answer !== null) return answer;
      await this.#receive(job);
      return this.#join(job, flightKey(job.keys.own, life));
    }
    return this.#join(job, found ?? flightKey(keyToPut(job.keys, life), life));
  }

  /** A compile under way that the job may be given. */
  #underWay({ keys, poolKey }: Job): string | null {
    for (const key of keys.candidates)
      for (const life of LIVES) {
        const flight = flightKey(key, life);
        if (lifeSuffices(life, poolKey.trust) && this.#flights.ownerOf(flight) !== null) return flight;
      }
    return null;
  }

  async #receive(job: Job): Promise<void> {
    const received = await receiveSource(job, job.store.blobs, {
      client: job.client,
      possessions: this.#options.possessions,
    });
    this.#options.observe({ t: "received", job, ...received });
  }

  async #join(job: Job, flight: string): Promise<Answer> {
    const joins = this.#flights.ownerOf(flight) !== null;
    job.client.progress(joins ? "running" : "queued");
    if (joins) this.#options.observe({ t: "joined", job });
    const owner = spiffeId(job.principal);
    const start = (signal: AbortSignal) => this.#next.run({ ...withoutClient(job), signal });
    const landing = await this.#flights.join(flight, job.signal, { owner, start });
    return landing.first ? firstOf(landing) : joined(job, landing.value);
  }

  /** Null when what another principal began is no answer for this one, and it has to be compiled for it. */
  async #joinOthers(job: Job, flight: string): Promise<Answer | null> {
    let answer: Answer;
    try {
      answer = await this.#join(job, flight);
    } catch (error) {
      // Why it failed may lie with whoever began it.
      job.signal.throwIfAborted();
      this.#options.logger.info("worker.flight.failed_for_others", { error: String(error) });
      return null;
    }
    if (serves(answer, job)) return answer;
    await answer.result.close();
    return null;
  }

  #close({ result }: Answer): void {
    result.close().catch((error: unknown) => {
      this.#options.logger.warn("worker.result.not_closed", { error: String(error) });
    });
  }
}

/** The key says whose it is, the life who may join it: who wants a clean VM does not get a warm one's. */
function flightKey({ key }: ResultKey, life: Life): string {
  return `${life} ${key}`;
}

function serves({ result }: Answer, { isolationMin, poolKey }: Job): boolean {
  const { manifest, origin } = result.recorded;
  return (
    manifest.exitCode === 0 &&
    isolationAtLeast(origin.isolation, isolationMin) &&
    lifeSuffices(origin.life, poolKey.trust)
  );
}

/** For whoever waits: the client of whoever asked first is no part of it, and no bytes that it sent stay in memory. */
function withoutClient(job: Job): CompileJob {
  const { principal, action, source, keys, policy, isolationMin, poolKey, store, build, signal } = job;
  const { imageContents = null } = job;
  return { principal, action, source, keys, policy, isolationMin, poolKey, store, build, signal, imageContents };
}

async function joined({ store }: Job, { key, result: { recorded } }: Answer): Promise<Answer> {
  const result = await openResult(recorded, store.blobs);
  if (result === null) throw new HpccError("store.corrupt", "the result was lost before it could be sent");
  return { outcome: "joined", key, provenance: OWN, result, afterRow: async () => undefined };
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
