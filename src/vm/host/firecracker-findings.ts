// Judges the programs of Firecracker's release. Pure.
import {
  FIRECRACKER_VERSION_MIN,
  formatVersion,
  isKnownRelease,
  parseProgramVersion,
  type Version,
  versionAtLeast,
} from "./firecracker-releases.ts";
import type { HostFacts, ProgramFacts } from "./host-facts.ts";
import { HOST_GUIDE, type HostFinding } from "./host-finding.ts";
import { flawOfPath } from "./storage-findings.ts";

const GET = `take a release of ${formatVersion(FIRECRACKER_VERSION_MIN)} or later and verify it: ${HOST_GUIDE}, Firecracker`;

export function judgeFirecracker(facts: HostFacts): HostFinding {
  return judgeProgram("firecracker", facts.firecracker, facts);
}

export function judgeJailer(facts: HostFacts): HostFinding {
  const finding = judgeProgram("jailer", facts.jailer, facts);
  if (finding.status === "fail") return finding;
  const [own, other] = [versionOf(facts.jailer), versionOf(facts.firecracker)];
  if (own === null || other === null || formatVersion(own) === formatVersion(other)) return finding;
  return {
    name: "jailer",
    status: "fail",
    found: `jailer ${formatVersion(own)} beside firecracker ${formatVersion(other)}`,
    advice: "take both from one release",
  };
}

function versionOf({ version }: ProgramFacts): Version | null {
  return version.t === "text" ? parseProgramVersion(version.text) : null;
}

function judgeProgram(name: "firecracker" | "jailer", facts: ProgramFacts, host: HostFacts): HostFinding {
  const wanted = host.firecrackerWanted;
  const bad = wanted ? "fail" : "warn";
  if (facts.file === null)
    return {
      name,
      status: bad,
      found: `${facts.name} is not there${wanted ? "" : ", so machines run under QEMU"}`,
      advice: GET,
    };
  if (facts.version.t !== "text")
    return {
      name,
      status: bad,
      found: `${facts.name} does not say its version${facts.version.t === "unreadable" ? `: ${facts.version.why}` : ""}`,
      advice: GET,
    };
  const version = versionOf(facts);
  if (version === null)
    return {
      name,
      status: bad,
      found: `${facts.name} is another program: ${firstLine(facts.version.text)}`,
      advice: GET,
    };
  const shown = `${formatVersion(version)} at ${facts.file.path}`;
  if (!versionAtLeast(version, FIRECRACKER_VERSION_MIN))
    return { name, status: "fail", found: `${shown} is too old`, advice: GET };
  const flaw = flawOfPath(facts.file);
  if (flaw !== null) return { name, status: "fail", found: `${shown}: ${flaw.found}`, advice: flaw.advice };
  if (facts.dynamic === true)
    return { name, status: "fail", found: `${shown} is a glibc build, whose seccomp filters are empty`, advice: GET };
  if (isKnownRelease(name, facts.sha256))
    return { name, status: "ok", found: `${shown}, a known release`, advice: null };
  if (facts.sha256 !== null && host.knownReleases.includes(facts.sha256))
    return { name, status: "ok", found: `${shown}, which host.known_releases names`, advice: null };
  return {
    name,
    status: "warn",
    found: `${shown} is no release that hpcc knows; a debug build's seccomp filters are empty, and nothing shows it at run time`,
    advice: `compare \`sha256sum ${facts.file.path}\` with the release's SHA256SUMS, then name it in host.known_releases (${HOST_GUIDE}, Firecracker)`,
  };
}

function firstLine(text: string): string {
  return (text.split("\n")[0] ?? "").slice(0, 80);
}
