// What can be seen of jobs from outside: counters, metrics, quotas and the confirmer listen here. An observer changes nothing and
// delays nothing; what it throws is logged.
import type { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ResultKey } from "../../core/action/result-keys.ts";
import type { Principal } from "../../core/identity/spiffe.ts";
import type { CachedAction } from "../../store/action-cache.ts";
import type { Origin } from "../rows/job-rows.ts";
import type { CompileJob, Job, Outcome } from "./layer.ts";

export type JobEvent =
  | { readonly t: "arrived"; readonly principal: Principal }
  | { readonly t: "admitted"; readonly job: Job }
  | { readonly t: "denied"; readonly principal: Principal; readonly error: HpccError }
  | { readonly t: "looked-up"; readonly job: Job; readonly hit: ResultKey | null }
  /** Its source is whole; so many blobs of it came from the client, of so many bytes uncompressed. */
  | { readonly t: "received"; readonly job: Job; readonly blobs: number; readonly bytes: number }
  | { readonly t: "joined"; readonly job: Job }
  /** A VM ran it to its end, whatever its exit code. */
  | { readonly t: "executed"; readonly job: CompileJob; readonly origin: Origin; readonly cpuUs: number }
  /** So long a VM worked on it, whatever became of it: as the worker measured, or more if the guest says so. */
  | { readonly t: "used"; readonly job: CompileJob; readonly cpuUs: number }
  /** Its result is in the cache, and its row is durable. */
  | { readonly t: "stored"; readonly job: CompileJob; readonly key: ResultKey; readonly action: CachedAction }
  | { readonly t: "answered"; readonly principal: Principal; readonly outcome: Outcome }
  | { readonly t: "failed"; readonly principal: Principal; readonly error: HpccError }
  /** Neither answered nor refused as it should have been: the log took no row of it. */
  | { readonly t: "unrecorded"; readonly principal: Principal; readonly error: HpccError };

export type JobObserver = (event: JobEvent) => void;

/** One observer for many; none of them can stop the others or the job. */
export function observers(all: readonly JobObserver[], logger: Logger): JobObserver {
  return (event) => {
    for (const observer of all)
      try {
        observer(event);
      } catch (error) {
        logger.error("worker.observer.bug", { event: event.t, error: String((error as Error | null)?.stack ?? error) });
      }
  };
}
