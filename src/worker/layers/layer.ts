// The port that the layers of a worker stack on: a job goes in, its answer comes out. Each layer does one thing and leaves the
// rest to the next one, so that another can be put between two without either knowing of it.
import type { AppendedRow } from "../../audit/audit-log.ts";
import type { HpccError } from "../../base/errors.ts";
import type { Action } from "../../core/action/action.ts";
import type { ResultKey, ResultKeys } from "../../core/action/result-keys.ts";
import type { SourceManifest } from "../../core/action/source-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { BuildId } from "../../core/identity/build-id.ts";
import type { Principal } from "../../core/identity/spiffe.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { JobPolicy } from "../../core/tenant-policy.ts";
import type { JobHeader } from "../../gen/hpcc/worker/v1/worker_pb.js";
import type { TenantStore } from "../../store/action-cache.ts";
import type { PoolKey } from "../../vm/pool-key.ts";
import type { OpenResult, Provenance } from "../cached-result.ts";
import type { JobRecord } from "../job-record.ts";
import type { JobClient } from "../receive-source.ts";

/** A job as a client sent it. UNTRUSTED: `header`, `client`. */
export interface Arrival {
  readonly principal: Principal;
  readonly header: JobHeader;
  readonly client: JobClient;
  readonly signal: AbortSignal;
}

/** With the record that its row will be made of. */
export interface RecordedArrival extends Arrival {
  readonly record: JobRecord;
}

/** What is to be compiled and for whom. It has no client: who wanted it first may have left. */
export interface CompileJob {
  readonly principal: Principal;
  readonly action: Action;
  readonly source: SourceManifest;
  /** Where its result may be found, and where it may be put. */
  readonly keys: ResultKeys;
  /** What held for it when it was admitted, whatever comes into force later. */
  readonly policy: JobPolicy;
  /** What the image holds on the client, as it says; null or absent when it does not. */
  readonly imageContents?: Digest | null;
  /** What answers it is isolated at least so well. */
  readonly isolationMin: Isolation;
  /** Where it runs; its trust is the life that the tenant's policy wants. */
  readonly poolKey: PoolKey;
  readonly store: TenantStore;
  /** What its client calls the build that it belongs to; it determines nothing. */
  readonly build: BuildId | null;
  readonly signal: AbortSignal;
}

/** A job that may run. */
export interface Job extends CompileJob {
  /** The source manifest as it came. */
  readonly encodedSource: Uint8Array;
  readonly client: JobClient;
  /** Compiled in a VM that has run nothing, whatever is known of it, and kept under no key. */
  readonly again: boolean;
  /** How long its client waits. */
  readonly deadlineMs: number;
}

export type Outcome = "compiled" | "hit" | "joined";

export interface Answer {
  readonly outcome: Outcome;
  /** Under which it was found or is put; one that is not kept has none. */
  readonly key: ResultKey | null;
  readonly provenance: Provenance;
  /** Whoever takes the answer closes it. */
  readonly result: OpenResult;
  /** Called once the job's row is durable, before its client hears of it. When it throws, the client gets the error instead. */
  readonly afterRow: (row: AppendedRow) => Promise<void>;
}

export interface Layer<J = Job> {
  /** Throws `Denied` for a job that may not run, an HpccError for one that failed. */
  run(job: J): Promise<Answer>;
}

/** Puts a layer before another one. */
export type Interceptor = (next: Layer) => Layer;

/** Refuses a job before anything of it ran; its row is of kind `denied`. */
export class Denied extends Error {
  constructor(reason: unknown) {
    super("the job was denied", { cause: reason });
  }
}

/** What a session gets for a job. */
export type JobAnswer =
  | {
      readonly kind: "result";
      readonly outcome: Outcome;
      /** Close it when it is sent. */
      readonly result: OpenResult;
      readonly row: AppendedRow;
    }
  | { readonly kind: "error"; readonly error: HpccError };

/** What sessions hand their jobs to. */
export interface Jobs {
  /** Runs one job to its answer; never throws. The row is durable when it resolves. */
  run(arrival: Arrival): Promise<JobAnswer>;
}
