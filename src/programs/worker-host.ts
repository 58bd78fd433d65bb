// What a worker's configuration says of its host, and the checks of it: for `hpcc doctor` and for the row at a worker's start.
import type { Logger } from "../base/log.ts";
import type { CheckResult } from "../cli/doctor.ts";
import { type WorkerConfig, wantsFirecracker } from "../config/worker.ts";
import { digestHex } from "../core/digest/digest.ts";
import { type HostReport, namesWith, reportHost } from "../vm/host/host-report.ts";
import type { HostSubject } from "../vm/host/read-host-facts.ts";

export function hostSubject(config: WorkerConfig): HostSubject {
  const { host } = config;
  return {
    root: "/",
    firecrackerWanted: wantsFirecracker(config),
    firecracker: host.firecracker,
    jailer: host.jailer,
    jailsFolder: host.baseDir,
    snapshotsFolder: host.snapshotsDir,
    cgroup: host.cgroup,
    knownReleases: host.knownReleases.map(digestHex),
  };
}

/** The host's findings as lines of the doctor. */
export async function hostChecks(config: WorkerConfig): Promise<CheckResult[]> {
  const { findings } = await reportHost(hostSubject(config));
  return findings.map(({ name, status, found, advice }) => ({ name, status, detail: found, fix: advice }));
}

/** Looks at the host and logs what is not in order; the worker writes the report into its audit log. */
export async function reportWorkerHost(config: WorkerConfig, logger: Logger): Promise<HostReport> {
  const report = await reportHost(hostSubject(config));
  const [fail, warn, unknown] = (["fail", "warn", "unknown"] as const).map((status) =>
    namesWith(report, status).join(", "),
  );
  const fields = { fail, warn, unknown };
  if (fail !== "") logger.warn("worker.host", fields);
  else logger.info("worker.host", fields);
  return report;
}
