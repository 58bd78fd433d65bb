// The policies of a running worker: those it was given, or a file's, watched from now on.
import type { AuditLog } from "../../audit/audit-log.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { SitePolicy } from "../../core/policy/site-policy.ts";
import type { PolicySource } from "../../core/tenant-policy.ts";
import { policyRow } from "../rows/log-rows.ts";
import { readSeenVersion, seenVersionFile } from "./seen-version.ts";
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
  /** The file in force; null for a worker without one. */
  readonly site: () => SitePolicy | null;
  /** Looks at the file now; for a worker without one it does nothing. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/** Where it throws the worker does not start, and what its log was told is kept. */
export async function openPolicies(
  from: PolicySource | PolicyFile,
  options: OpenPoliciesOptions,
): Promise<OpenPolicies> {
  return open(from, options).catch(async (error: unknown) => {
    await options.log.close();
    throw error;
  });
}

async function open(
  from: PolicySource | PolicyFile,
  { worker, folder, isolation, log, clock, logger }: OpenPoliciesOptions,
): Promise<OpenPolicies> {
  if ("of" in from) {
    await refuseToForget(folder);
    return { source: from, site: () => null, check: async () => undefined, close: async () => undefined };
  }
  const record = async (event: PolicyRowEvent) => {
    await log.append(...policyRow({ ...event, worker, nowMs: clock.wallMs() }));
  };
  const watched = await WatchedPolicy.open({ file: from, folder, isolation, record, clock, logger });
  return { source: watched, site: () => watched.site, check: () => watched.check(), close: () => watched.close() };
}

/** A line that fell out of a configuration must not open a worker to everybody. */
async function refuseToForget(folder: string): Promise<void> {
  const seen = await readSeenVersion(seenVersionFile(folder));
  if (seen === null) return;
  throw new HpccError(
    "config.invalid",
    `this worker has had a policy (version ${seen.version}), and its configuration names none; name it (policy = "..."), ` +
      `or remove ${seenVersionFile(folder)} if everybody is to be served`,
  );
}
