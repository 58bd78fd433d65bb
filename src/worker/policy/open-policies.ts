// The policies of a running worker: those it was given, or a file's, watched from now on.
import type { AuditLog } from "../../audit/audit-log.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { PolicySource } from "../../core/tenant-policy.ts";
import { policyRow } from "../rows/log-rows.ts";
import { type PolicyFile, type PolicyRowEvent, WatchedPolicy } from "./watched-policy.ts";

export interface OpenPoliciesOptions {
  readonly worker: string;
  readonly folder: string;
  readonly isolation: Isolation;
  readonly log: AuditLog;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface OpenPolicies {
  readonly source: PolicySource;
  /** Looks at the file now; for a worker without one it does nothing. */
  check(): Promise<void>;
  close(): Promise<void>;
}

export async function openPolicies(
  from: PolicySource | PolicyFile,
  { worker, folder, isolation, log, clock, logger }: OpenPoliciesOptions,
): Promise<OpenPolicies> {
  if ("of" in from) return { source: from, check: async () => undefined, close: async () => undefined };
  const record = async (event: PolicyRowEvent) => {
    await log.append(...policyRow({ ...event, worker, nowMs: clock.wallMs() }));
  };
  const opening = WatchedPolicy.open({ file: from, folder, isolation, record, clock, logger });
  const watched = await opening.catch(async (error: unknown) => {
    // The worker does not start then, and what its log was told is to be kept.
    await log.close();
    throw error;
  });
  return { source: watched, check: () => watched.check(), close: () => watched.close() };
}
