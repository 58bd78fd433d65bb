// Runs jobs: checks what the client sent, looks it up, asks for what is missing, compiles, and leaves exactly one audit row
// per job, durable before the answer. Knows no stream and no message but the job's header.

import type { AppendedRow, AuditLog } from "../audit/audit-log.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Action } from "../core/action/action.ts";
import { deriveActionKey } from "../core/action/action-key.ts";
import {
  decodeSourceManifest,
  filesOf,
  SOURCE_MANIFEST_BYTES_MAX,
  type SourceManifest,
  sourceDigest,
} from "../core/action/source-manifest.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type Principal, spiffeId, type TenantId } from "../core/identity/spiffe.ts";
import { type Isolation, isolationAtLeast } from "../core/isolation.ts";
import type { PolicySource } from "../core/tenant-policy.ts";
import type { JobHeader } from "../gen/hpcc/worker/v1/worker_pb.js";
import type { TenantStore } from "../store/action-cache.ts";
import type { ExecutionLimits } from "../vm/execution.ts";
import type { VmPool } from "../vm/pool.ts";
import { makePoolKey, type PoolKey } from "../vm/pool-key.ts";
import { actionOfMessage, isolationOfNumber } from "../wire/worker/action-codec.ts";
import { DEADLINE_MS_MAX } from "../wire/worker/limits.ts";
import { lookUp, type OpenResult, openResult } from "./cached-result.ts";
import { executeAction } from "./execute-action.ts";
import { Flights } from "./flights.ts";
import type { WorkerImages } from "./images.ts";
import { JobRecord } from "./job-record.ts";
import { type JobClient, receiveSource } from "./receive-source.ts";
import type { JobEnd, RecordedResult } from "./rows/job-rows.ts";
import { takeBack } from "./take-back.ts";

export interface JobLimits {
  /** Largest blob of a source, uncompressed. */
  readonly blobBytesMax: number;
  /** All blobs of a source together, uncompressed. */
  readonly sourceBytesMax: number;
  readonly execution: ExecutionLimits;
}

export interface JobRunnerOptions {
  readonly worker: string;
  readonly isolation: Isolation;
  readonly images: WorkerImages;
  readonly policies: PolicySource;
  readonly store: (tenant: TenantId) => TenantStore;
  readonly log: AuditLog;
  readonly pool: VmPool;
  readonly limits: JobLimits;
  readonly clock: Clock;
  readonly logger: Logger;
}

export type JobAnswer =
  | {
      readonly kind: "result";
      readonly outcome: "compiled" | "hit" | "joined";
      /** Close it when it is sent. */
      readonly result: OpenResult;
      readonly row: AppendedRow;
    }
  | { readonly kind: "error"; readonly error: HpccError };

export interface JobCounters {
  jobs: number;
  compiled: number;
  hits: number;
  joined: number;
  denied: number;
  failed: number;
  /** Jobs without a row, since the log took none. */
  unrecorded: number;
}

interface Admitted {
  readonly action: Action;
  /** The manifest as it came. */
  readonly encodedSource: Uint8Array;
  readonly source: SourceManifest;
  readonly key: Digest;
  readonly isolationMin: Isolation;
  /** Where it runs; its trust is the life that the tenant's policy wants. */
  readonly poolKey: PoolKey;
  readonly deadlineMs: number;
}

interface Running {
  readonly record: JobRecord;
  readonly principal: Principal;
  readonly store: TenantStore;
  readonly client: JobClient;
  readonly signal: AbortSignal;
}

export class JobRunner {
  readonly counters: JobCounters = { jobs: 0, compiled: 0, hits: 0, joined: 0, denied: 0, failed: 0, unrecorded: 0 };
  readonly #options: JobRunnerOptions;
  readonly #flights = new Flights<RecordedResult>();

  constructor(options: JobRunnerOptions) {
    this.#options = options;
  }

  /** Compiles under way. */
  get compiling(): number {
    return this.#flights.size;
  }

  /** Runs one job to its answer; never throws. The row is durable when it resolves. UNTRUSTED: `header`, the client. */
  async run(principal: Principal, header: JobHeader, client: JobClient, signal: AbortSignal): Promise<JobAnswer> {
    this.counters.jobs++;
    const { clock, store } = this.#options;
    const record = new JobRecord(principal, clock);
    const running: Running = { record, principal, store: store(principal.tenant), client, signal };
    let admitted: Admitted;
    try {
      admitted = this.#admit(running, header);
    } catch (error) {
      return this.#end(running, "denied", error);
    }
    const deadline = new AbortController();
    const late = () => deadline.abort(new HpccError("peer.deadline", "the job took longer than its client waits"));
    const timer = clock.after(admitted.deadlineMs, late);
    try {
      return await this.#answer({ ...running, signal: AbortSignal.any([signal, deadline.signal]) }, admitted);
    } catch (error) {
      return await this.#end(running, "failed", error);
    } finally {
      timer.cancel();
    }
  }

  #admit({ record, principal }: Running, header: JobHeader): Admitted {
    const { images, isolation, limits, policies } = this.#options;
    const source = sourceDigest(header.sourceManifest);
    record.source(source);
    const action = actionOfMessage(header.action);
    record.action(action);
    if (header.sourceManifest.length > SOURCE_MANIFEST_BYTES_MAX)
      throw new HpccError("limit.exceeded", `a source manifest has at most ${SOURCE_MANIFEST_BYTES_MAX} bytes`);
    const manifest = decodeSourceManifest(header.sourceManifest);
    checkSizes(manifest, limits);
    const scope = { tenant: principal.tenant, principal: spiffeId(principal) };
    const key = deriveActionKey({ action, sourceDigest: source, scope });
    record.key(key);
    if (header.deadlineMs < 1 || header.deadlineMs > DEADLINE_MS_MAX)
      throw new HpccError("argument.invalid", `a deadline is 1 to ${DEADLINE_MS_MAX} ms`);
    const isolationMin = isolationOfNumber(header.isolationMin);
    if (!isolationAtLeast(isolation, isolationMin))
      throw new HpccError("isolation.weak", `this worker offers ${isolation}, and the job asks for ${isolationMin}`);
    if (!images.has(action.imageDigest))
      throw new HpccError("image.missing", `this worker has no image ${action.imageDigest}`);
    const policy = policies.of(principal);
    if (policy === null)
      throw new HpccError("identity.forbidden", `this worker's policy does not serve ${spiffeId(principal)}`);
    const { life: trust, golden } = policy;
    return {
      action,
      encodedSource: header.sourceManifest,
      source: manifest,
      key,
      isolationMin,
      poolKey: makePoolKey({ principal, image: action.imageDigest, trust, golden }),
      deadlineMs: header.deadlineMs,
    };
  }

  async #answer(running: Running, job: Admitted): Promise<JobAnswer> {
    const hit = await this.#lookUp(running, job);
    if (hit !== null) return this.#succeed(running, "hit", hit);
    if (!this.#flights.has(job.key)) await receiveSource(job, running.store.blobs, running.client);
    running.client.progress(this.#flights.has(job.key) ? "running" : "queued");
    const { value, first } = await this.#flights.join(job.key, running.signal, async (signal) =>
      this.#compile(running, job, signal),
    );
    await refuseRevoked(value.origin.vm, running.store);
    const open = await openResult(value, running.store.blobs);
    if (open === null) throw new HpccError("store.corrupt", "the result was lost before it could be sent");
    return this.#succeed(running, first ? "compiled" : "joined", open);
  }

  /** A cache that fails is a miss. */
  async #lookUp({ store }: Running, { key, isolationMin, poolKey }: Admitted): Promise<OpenResult | null> {
    try {
      return await lookUp(key, { isolationMin, life: poolKey.trust }, store);
    } catch (error) {
      this.#options.logger.warn("worker.cache.lookup_failed", { key, error: String(error) });
      return null;
    }
  }

  async #compile(running: Running, job: Admitted, signal: AbortSignal): Promise<RecordedResult> {
    const { images, limits, pool, logger } = this.#options;
    const { imageDigest } = job.action;
    const parts = {
      action: job.action,
      source: job.source,
      actionKey: job.key,
      poolKey: job.poolKey,
      rootfs: await images.rootfs(imageDigest),
      limits: limits.execution,
      pool,
      store: running.store,
      logger,
    };
    signal.throwIfAborted();
    return executeAction(parts, signal);
  }

  async #succeed(running: Running, outcome: "compiled" | "hit" | "joined", result: OpenResult): Promise<JobAnswer> {
    const common = { result: result.recorded, scope: "principal" } as const;
    const found = { from: null, compiledRow: null, confirmedBy: null };
    const end: JobEnd =
      outcome === "compiled" ? { kind: "compile", ...common } : { kind: "hit", outcome, ...common, ...found };
    try {
      const row = await running.record.append(this.#target(running), end);
      this.counters[outcome === "hit" ? "hits" : outcome]++;
      return { kind: "result", outcome, result, row };
    } catch (error) {
      await result.close();
      this.counters.unrecorded++;
      return { kind: "error", error: this.#known(error) };
    }
  }

  async #end(running: Running, kind: "denied" | "failed", cause: unknown): Promise<JobAnswer> {
    const error = this.#known(cause);
    const vm = error.details["vm"];
    if (error.code === "vm.breach" && typeof vm === "string")
      await takeBack(vm, running.store.actions, this.#options.logger);
    try {
      const end = { kind, code: error.code, vm: typeof vm === "string" ? vm : null };
      await running.record.append(this.#target(running), end);
      this.counters[kind]++;
      return { kind: "error", error };
    } catch (failure) {
      this.counters.unrecorded++;
      return { kind: "error", error: this.#known(failure) };
    }
  }

  #target(running: Running) {
    return { log: this.#options.log, blobs: running.store.blobs, worker: this.#options.worker };
  }

  /** What is not an HpccError is ours, and tells the client nothing. */
  #known(error: unknown): HpccError {
    if (error instanceof HpccError) return error;
    this.#options.logger.error("worker.job.bug", { error: String((error as Error | null)?.stack ?? error) });
    return new HpccError("job.failed", "the worker failed; its log says why", { cause: error });
  }
}

/** Its VM broke its contract after it had compiled this. */
async function refuseRevoked(vm: string, { actions }: TenantStore): Promise<void> {
  if (await actions.revoked(vm))
    throw new HpccError("vm.breach", "the microVM that compiled it has broken its contract since", { details: { vm } });
}

function checkSizes(source: SourceManifest, { blobBytesMax, sourceBytesMax }: JobLimits): void {
  const sizes = new Map<Digest, number>();
  let total = 0;
  for (const { digest, size } of filesOf(source)) {
    if (sizes.has(digest) && sizes.get(digest) !== size)
      throw new HpccError("argument.invalid", "a source manifest gives one digest two sizes");
    sizes.set(digest, size);
    total += size;
    if (size > blobBytesMax) throw new HpccError("limit.exceeded", `a source file has at most ${blobBytesMax} bytes`);
    if (total > sourceBytesMax) throw new HpccError("limit.exceeded", `a source has at most ${sourceBytesMax} bytes`);
  }
}
