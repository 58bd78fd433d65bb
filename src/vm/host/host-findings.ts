// Judges the facts of a worker's host: what is in order, what weakens the isolation of machines, what breaks it, and what to do.
// Pure. UNTRUSTED: texts of the facts come from files and programs of the host and are only quoted.
import { judgeFirecracker, judgeJailer } from "./firecracker-findings.ts";
import { FIRECRACKER_HOST_KERNELS } from "./firecracker-releases.ts";
import type { FileText, HostFacts } from "./host-facts.ts";
import { HOST_GUIDE, type HostFinding } from "./host-finding.ts";
import { judgeFolder, judgeStorage } from "./storage-findings.ts";

/** Without these a machine's limits cannot be set. */
const CONTROLLERS_NEEDED = ["cpu", "memory", "pids"] as const;
const CONTROLLERS_WANTED = ["io"] as const;

/** Everything that can be said of a host, in one order. */
export function judgeHost(facts: HostFacts): HostFinding[] {
  return [
    judgeFirecracker(facts),
    judgeJailer(facts),
    judgeKernel(facts),
    judgeCgroup(facts),
    judgeSmt(facts),
    judgeKsm(facts.ksmRun),
    judgeSwap(facts.swaps),
    judgeMicrocode(facts),
    judgeVulnerabilities(facts.vulnerabilities),
    judgeNxHugePages(facts),
    ...(facts.jails === null ? [] : [judgeFolder("jail folder", facts.jails, { othersMayEnter: true })]),
    ...(facts.snapshots === null
      ? []
      : [
          judgeFolder("snapshot folder", facts.snapshots.folder, { othersMayEnter: false }),
          judgeStorage(facts.snapshots.storage),
        ]),
  ];
}

/** Why a fact is not there. */
function missing(fact: Exclude<FileText, { t: "text" }>): string {
  return fact.t === "absent" ? "this kernel does not say" : `cannot be read: ${fact.why}`;
}

function judgeKernel({ kernel, firecracker }: HostFacts): HostFinding {
  const name = "host kernel";
  if (kernel.t !== "text") return { name, status: "unknown", found: missing(kernel), advice: null };
  const tested = FIRECRACKER_HOST_KERNELS.some(
    (series) => kernel.text === series || kernel.text.startsWith(`${series}.`),
  );
  if (tested || firecracker.file === null) return { name, status: "ok", found: kernel.text, advice: null };
  return {
    name,
    status: "warn",
    found: kernel.text,
    advice: `Firecracker is tested on host kernels ${FIRECRACKER_HOST_KERNELS.join(", ")}`,
  };
}

function judgeCgroup({ cgroup, firecrackerWanted }: HostFacts): HostFinding {
  const name = "cgroup v2";
  const bad = firecrackerWanted ? "fail" : "warn";
  const advice = `boot with systemd.unified_cgroup_hierarchy=1 and delegate ${CONTROLLERS_NEEDED.join(", ")}, io: Delegate=yes (${HOST_GUIDE})`;
  if (cgroup.mountPoint === null) return { name, status: bad, found: "not mounted", advice };
  if (cgroup.group === null) return { name, status: bad, found: "there is no such group below its mount", advice };
  const { controllers, group } = cgroup;
  if (controllers.t === "absent")
    return { name, status: bad, found: `${group} is not there, nor what it would be made in`, advice };
  if (controllers.t === "unreadable")
    return { name, status: "unknown", found: `${group} ${missing(controllers)}`, advice };
  const given = new Set(controllers.text.split(/\s+/));
  const lacks = (wanted: readonly string[]) => wanted.filter((controller) => !given.has(controller));
  const needed = lacks(CONTROLLERS_NEEDED);
  const wanted = lacks(CONTROLLERS_WANTED);
  if (needed.length + wanted.length === 0)
    return { name, status: "ok", found: `${group}: ${controllers.text}`, advice: null };
  return {
    name,
    status: needed.length > 0 ? bad : "warn",
    found: `${group} lacks ${[...needed, ...wanted].join(", ")}`,
    advice,
  };
}

function judgeSmt({ smtControl, smtActive }: HostFacts): HostFinding {
  const name = "SMT";
  if (smtControl.t !== "text") return { name, status: "unknown", found: missing(smtControl), advice: null };
  const { text } = smtControl;
  if (["off", "forceoff", "notsupported"].includes(text)) return { name, status: "ok", found: text, advice: null };
  if (text === "on" && smtActive.t === "text" && smtActive.text === "0")
    return { name, status: "ok", found: "on, but no core shows two threads", advice: null };
  if (text !== "on") return { name, status: "unknown", found: text, advice: null };
  return {
    name,
    status: "warn",
    found: "on: machines of different tenants can share a core",
    advice: "echo off > /sys/devices/system/cpu/smt/control, and boot with nosmt",
  };
}

function judgeKsm(ksmRun: FileText): HostFinding {
  const name = "KSM";
  if (ksmRun.t === "absent") return { name, status: "ok", found: "this kernel has none", advice: null };
  if (ksmRun.t === "unreadable") return { name, status: "unknown", found: missing(ksmRun), advice: null };
  if (ksmRun.text === "0" || ksmRun.text === "2") return { name, status: "ok", found: "off", advice: null };
  if (ksmRun.text !== "1") return { name, status: "unknown", found: ksmRun.text, advice: null };
  return {
    name,
    status: "warn",
    found: "on: equal pages of tenants are merged, which tells that they are equal",
    advice: "echo 2 > /sys/kernel/mm/ksm/run, and disable ksmtuned",
  };
}

function judgeSwap(swaps: FileText): HostFinding {
  const name = "swap";
  if (swaps.t === "absent") return { name, status: "ok", found: "this kernel has none", advice: null };
  if (swaps.t === "unreadable") return { name, status: "unknown", found: missing(swaps), advice: null };
  const places = swaps.text
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/)[0] ?? "")
    .filter((place) => place !== "");
  if (places.length === 0) return { name, status: "ok", found: "none", advice: null };
  return {
    name,
    status: "warn",
    found: `${places.join(", ")}: guests' memory and keys can reach a disk`,
    advice: "swapoff -a, and remove swap from /etc/fstab",
  };
}

/** What a hypervisor shows its guests in place of a revision. */
const NO_REVISION = /^0x(0|1|f{8})$/i;

function judgeMicrocode({ microcodes, cpuModels, vulnerabilities }: HostFacts): HostFinding {
  const name = "microcode";
  const advice = "install intel-microcode or amd64-microcode, or newer firmware, and boot again";
  const found = `${microcodes.join(", ")} on ${cpuModels.join(", ") || "an unnamed processor"}`;
  if (microcodes.length === 0) return { name, status: "unknown", found: "this kernel does not say", advice: null };
  if (microcodes.length > 1) return { name, status: "warn", found: `differs between processors: ${found}`, advice };
  if (NO_REVISION.test(microcodes[0] ?? ""))
    return { name, status: "unknown", found: `${found}: a virtual machine's; ask the real host`, advice: null };
  const verdict = vulnerabilities?.find((one) => one.name === "old_microcode")?.text;
  if (verdict === "Not affected") return { name, status: "ok", found, advice: null };
  if (verdict !== undefined && /\bvulnerable\b/i.test(verdict))
    return { name, status: "warn", found: `${found}: the kernel knows a newer one`, advice };
  return {
    name,
    status: "unknown",
    found: `${found}: whether a newer one is out, this kernel does not say`,
    advice: "compare it with the vendor's newest release",
  };
}

function judgeVulnerabilities(vulnerabilities: HostFacts["vulnerabilities"]): HostFinding {
  const name = "processor vulnerabilities";
  if (vulnerabilities === null || vulnerabilities.length === 0)
    return { name, status: "unknown", found: "this kernel does not say", advice: null };
  const open = vulnerabilities.filter(({ text }) => /\bvulnerable\b/i.test(text));
  const unclear = vulnerabilities.filter(
    ({ text }) => !open.some((one) => one.text === text) && /\bunknown\b/i.test(text),
  );
  if (open.length > 0)
    return {
      name,
      status: "warn",
      found: open.map((one) => `${one.name}: ${one.text}`).join(" | "),
      advice: "update kernel and microcode, boot with mitigations=auto,nosmt; else give tenants machines of their own",
    };
  if (unclear.length > 0)
    return {
      name,
      status: "unknown",
      found: unclear.map((one) => `${one.name}: ${one.text}`).join(" | "),
      advice: null,
    };
  return { name, status: "ok", found: `${vulnerabilities.length} known to the kernel, none open`, advice: null };
}

function judgeNxHugePages({ nxHugePages, vulnerabilities }: HostFacts): HostFinding {
  const name = "kvm nx_huge_pages";
  if (nxHugePages.t !== "text")
    return {
      name,
      status: "unknown",
      found: nxHugePages.t === "absent" ? "kvm is not loaded" : missing(nxHugePages),
      advice: null,
    };
  const { text } = nxHugePages;
  const affected = vulnerabilities?.find((one) => one.name === "itlb_multihit")?.text;
  const on = ["Y", "1", "auto", "force"].includes(text);
  if (affected === undefined)
    return { name, status: "unknown", found: `${text}; whether it is needed is not known`, advice: null };
  if (affected !== "Not affected")
    return on
      ? { name, status: "ok", found: `${text}, and this processor needs it`, advice: null }
      : {
          name,
          status: "warn",
          found: `${text}, but a guest can halt this processor (iTLB multihit)`,
          advice: "boot with kvm.nx_huge_pages=auto",
        };
  if (text === "never") return { name, status: "ok", found: "never; this processor does not need it", advice: null };
  return {
    name,
    status: "ok",
    found: `${text}; this processor does not need it`,
    advice: "boots are faster with kvm.nx_huge_pages=never on the kernel's command line",
  };
}
