// The layers of a worker, one on the other, from what a session hands in to the VM.
import type { AuditLog } from "../../audit/audit-log.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { PolicySource } from "../../core/tenant-policy.ts";
import type { TenantStore } from "../../store/action-cache.ts";
import type { ExecutionLimits } from "../../vm/execution.ts";
import type { VmPool } from "../../vm/pool.ts";
import type { WorkerImages } from "../images.ts";
import { Possessions } from "../possessions.ts";
import { AdmitLayer, type SourceLimits } from "./admit.ts";
import { AgainLayer } from "./again.ts";
import { type JobCounters, JobCounts } from "./count.ts";
import { DeadlineLayer } from "./deadline.ts";
import { ExecuteLayer } from "./execute.ts";
import { FlightLayer } from "./flight.ts";
import { KeepLayer } from "./keep.ts";
import { KeptEvidence } from "./kept-evidence.ts";
import type { Interceptor, Jobs, Layer } from "./layer.ts";
import { LookUpLayer } from "./look-up.ts";
import { type JobObserver, observers } from "./observer.ts";
import { RecordLayer } from "./record.ts";
import { RefuseRevokedLayer } from "./refuse-revoked.ts";

export interface JobLimits extends SourceLimits {
  readonly execution: ExecutionLimits;
}

/** Layers from elsewhere, each list from the outside to the inside. */
export interface Interceptors {
  /** Between admission and everything else: it may still deny a job. */
  readonly admitted?: readonly Interceptor[];
  /** Between the worker's own cache and the compile: it sees the jobs that missed. */
  readonly missed?: readonly Interceptor[];
  /** Before every compile, below those: also of jobs that ask no cache. */
  readonly compiled?: readonly Interceptor[];
}

export interface LayersOptions {
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
  readonly observers?: readonly JobObserver[];
  readonly interceptors?: Interceptors;
}

export interface StackedLayers {
  readonly jobs: Jobs;
  readonly counters: Readonly<JobCounters>;
  /** Compiles under way. */
  readonly compiling: number;
}

export function stackLayers(options: LayersOptions): StackedLayers {
  const { isolation, images, policies, store, pool, limits, clock, logger, worker, log } = options;
  const counts = new JobCounts();
  const observe = observers([counts.observe, ...(options.observers ?? [])], logger);
  const { admitted = [], missed = [], compiled = [] } = options.interceptors ?? {};
  const execute = new ExecuteLayer({ images, limits: limits.execution, pool, worker, clock, logger, observe });
  const receiving = { possessions: new Possessions(), logger, observe };
  const flight = new FlightLayer(new KeepLayer(execute, { logger, observe }), receiving);
  const lookUp = new LookUpLayer(through([...missed, ...compiled], flight), {
    logger,
    observe,
    worker,
    evidence: new KeptEvidence(clock),
  });
  const again = new FlightLayer(execute, receiving);
  const found = new RefuseRevokedLayer(new AgainLayer(lookUp, through(compiled, again)));
  const inner = through(admitted, new DeadlineLayer(found, clock));
  const admit = new AdmitLayer(inner, { isolation, images, policies, limits, store, observe, clock });
  const jobs = new RecordLayer(admit, { worker, log, store, clock, logger, observe });
  return {
    jobs,
    counters: counts.counters,
    get compiling() {
      return flight.compiling + again.compiling;
    },
  };
}

function through(interceptors: readonly Interceptor[], innermost: Layer): Layer {
  return interceptors.reduceRight((next, intercept) => intercept(next), innermost);
}
