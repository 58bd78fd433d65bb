// The outermost layer: whatever becomes of a job, it leaves exactly one audit row, which is durable before the client hears of it.
import type { AppendedRow, AuditLog } from "../../audit/audit-log.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import type { TenantStore } from "../../store/action-cache.ts";
import { JobRecord } from "../job-record.ts";
import type { JobEnd } from "../rows/job-rows.ts";
import {
  type Answer,
  type Arrival,
  Denied,
  type JobAnswer,
  type Jobs,
  type Layer,
  type RecordedArrival,
} from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface RecordLayerOptions {
  readonly worker: string;
  readonly log: AuditLog;
  readonly store: (tenant: TenantId) => TenantStore;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observe: JobObserver;
}

export class RecordLayer implements Jobs {
  readonly #next: Layer<RecordedArrival>;
  readonly #options: RecordLayerOptions;

  constructor(next: Layer<RecordedArrival>, options: RecordLayerOptions) {
    this.#next = next;
    this.#options = options;
  }

  async run(arrival: Arrival): Promise<JobAnswer> {
    const { observe, clock } = this.#options;
    const { principal } = arrival;
    observe({ t: "arrived", principal });
    const job = { ...arrival, record: new JobRecord(principal, clock) };
    let answer: Answer;
    try {
      answer = await this.#next.run(job);
    } catch (error) {
      return this.#end(job, error);
    }
    return this.#succeed(job, answer);
  }

  async #succeed(job: RecordedArrival, answer: Answer): Promise<JobAnswer> {
    const { outcome, result, afterRow } = answer;
    const { principal, record } = job;
    if (answer.key !== null) record.key(answer.key.key);
    let row: AppendedRow;
    try {
      row = await record.append(this.#target(job), endOf(answer, this.#options.worker));
    } catch (error) {
      await result.close();
      return this.#unrecorded(job, error);
    }
    try {
      await afterRow(row);
    } catch (error) {
      await result.close();
      const known = this.#known(error);
      this.#options.observe({ t: "failed", principal, error: known });
      return { kind: "error", error: known };
    }
    this.#options.observe({ t: "answered", principal, outcome });
    return { kind: "result", outcome, result, row };
  }

  async #end(job: RecordedArrival, reason: unknown): Promise<JobAnswer> {
    const kind = reason instanceof Denied ? "denied" : "failed";
    const error = this.#known(reason instanceof Denied ? reason.cause : reason);
    const vm = error.details["vm"];
    try {
      const end: JobEnd = { kind, code: error.code, vm: typeof vm === "string" ? vm : null };
      await job.record.append(this.#target(job), end);
    } catch (failure) {
      return this.#unrecorded(job, failure);
    }
    this.#options.observe({ t: kind, principal: job.principal, error });
    return { kind: "error", error };
  }

  #unrecorded({ principal }: RecordedArrival, reason: unknown): JobAnswer {
    const error = this.#known(reason);
    this.#options.observe({ t: "unrecorded", principal, error });
    return { kind: "error", error };
  }

  #target({ principal }: RecordedArrival) {
    const { log, store, worker } = this.#options;
    return { log, blobs: store(principal.tenant).blobs, worker };
  }

  /** What is not an HpccError is ours, and tells the client nothing. */
  #known(error: unknown): HpccError {
    if (error instanceof HpccError) return error;
    this.#options.logger.error("worker.job.bug", { error: String((error as Error | null)?.stack ?? error) });
    return new HpccError("job.failed", "the worker failed; its log says why", { cause: error });
  }
}

function endOf({ outcome, key, provenance, result }: Answer, worker: string): JobEnd {
  const common = { scope: key?.scope ?? null, result: result.recorded };
  if (outcome === "compiled") return { kind: "compile", ...common };
  const from = provenance.from === worker ? null : provenance.from;
  return { kind: "hit", outcome, ...common, keyTier: key?.tier ?? null, ...provenance, from };
}
