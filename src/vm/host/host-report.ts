// One look at the host: what it is, and what is to be said of it.

import type { HostFacts, ProgramFacts } from "./host-facts.ts";
import type { HostFinding, HostStatus } from "./host-finding.ts";
import { judgeHost } from "./host-findings.ts";
import { type HostSubject, readHostFacts } from "./read-host-facts.ts";

export interface HostReport {
  readonly findings: readonly HostFinding[];
  /** Names and versions of what the host is made of; what is not known is left out. */
  readonly parts: Readonly<Record<string, string>>;
}

export async function reportHost(subject: HostSubject): Promise<HostReport> {
  const facts = await readHostFacts(subject);
  return { findings: judgeHost(facts), parts: partsOf(facts) };
}

/** Names of the findings with a status. */
export function namesWith({ findings }: HostReport, status: HostStatus): string[] {
  return findings.filter((finding) => finding.status === status).map(({ name }) => name);
}

function partsOf(facts: HostFacts): Record<string, string> {
  const parts: [string, string | null][] = [
    ["kernel", facts.kernel.t === "text" ? facts.kernel.text : null],
    ["cpu", facts.cpuModels.join(", ") || null],
    ["microcode", facts.microcodes.join(", ") || null],
    ["firecracker", programPart(facts.firecracker)],
    ["jailer", programPart(facts.jailer)],
  ];
  return Object.fromEntries(parts.flatMap(([name, text]) => (text === null ? [] : [[name, text]])));
}

function programPart({ version, sha256 }: ProgramFacts): string | null {
  if (version.t !== "text") return null;
  const [line = ""] = version.text.split("\n");
  return sha256 === null ? line : `${line} sha256:${sha256}`;
}
