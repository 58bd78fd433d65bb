// Reads the facts of a host from its /proc and /sys, below a root that a test may put elsewhere. Whoever runs it reads what he
// may; what he may not is said so.
import { open, readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type CgroupFacts, FACT_BYTES_MAX, type FileText, type HostFacts } from "./host-facts.ts";
import { codeOf, readPath } from "./read-path.ts";
import { readProgramFacts } from "./read-program-facts.ts";
import { readMounts, readStorageFacts } from "./read-storage-facts.ts";

export interface HostSubject {
  /** Where the host's files are: "/", but for tests. */
  readonly root: string;
  readonly firecrackerWanted: boolean;
  /** Names or paths of the programs. */
  readonly firecracker: string;
  readonly jailer: string;
  /** The root process' folders; null where they are not known. */
  readonly jailsFolder: string | null;
  readonly snapshotsFolder: string | null;
  /** SHA-256 in hex of programs whose origin the operator has checked. */
  readonly knownReleases: readonly string[];
  /** Folder of the machines' control group; null for this process' own group. */
  readonly cgroup: string | null;
}

const SYSTEM = "/sys/devices/system/cpu";
const VULNERABILITIES_MAX = 256;

export async function readHostFacts(subject: HostSubject): Promise<HostFacts> {
  const { root, jailsFolder, snapshotsFolder } = subject;
  const text = (path: string) => readFact(join(root, path));
  const cpuinfo = await text("/proc/cpuinfo");
  return {
    firecrackerWanted: subject.firecrackerWanted,
    knownReleases: subject.knownReleases,
    kernel: await text("/proc/sys/kernel/osrelease"),
    cpuModels: eachOnce(cpuinfo, "model name"),
    microcodes: eachOnce(cpuinfo, "microcode"),
    smtControl: await text(`${SYSTEM}/smt/control`),
    smtActive: await text(`${SYSTEM}/smt/active`),
    ksmRun: await text("/sys/kernel/mm/ksm/run"),
    swaps: await text("/proc/swaps"),
    nxHugePages: await text("/sys/module/kvm/parameters/nx_huge_pages"),
    vulnerabilities: await readVulnerabilities(join(root, SYSTEM, "vulnerabilities")),
    cgroup: await readCgroup(root, subject.cgroup),
    firecracker: await readProgramFacts(subject.firecracker),
    jailer: await readProgramFacts(subject.jailer),
    jails: jailsFolder === null ? null : await readPath(root, jailsFolder),
    snapshots:
      snapshotsFolder === null
        ? null
        : { folder: await readPath(root, snapshotsFolder), storage: await readStorageFacts(root, snapshotsFolder) },
  };
}

/** A file's text, trimmed; at most FACT_BYTES_MAX of it. */
export async function readFact(path: string): Promise<FileText> {
  try {
    const file = await open(path, "r");
    try {
      const bytes = Buffer.alloc(FACT_BYTES_MAX);
      let length = 0;
      // Files of /proc give what they have in pieces.
      for (let read = -1; read !== 0 && length < bytes.length; length += read)
        read = (await file.read(bytes, length, bytes.length - length, null)).bytesRead;
      return { t: "text", text: bytes.toString("utf8", 0, length).trim() };
    } finally {
      await file.close();
    }
  } catch (error) {
    const why = codeOf(error);
    return why === "ENOENT" || why === "ENOTDIR" ? { t: "absent" } : { t: "unreadable", why };
  }
}

function eachOnce(cpuinfo: FileText, field: string): string[] {
  if (cpuinfo.t !== "text") return [];
  const values = cpuinfo.text
    .split("\n")
    .filter((line) => line.slice(0, line.indexOf(":")).trim() === field)
    .map((line) => line.slice(line.indexOf(":") + 1).trim());
  return [...new Set(values)];
}

async function readVulnerabilities(folder: string): Promise<HostFacts["vulnerabilities"]> {
  const names = await readdir(folder).catch(() => null);
  if (names === null) return null;
  const found = await Promise.all(
    names
      .sort()
      .slice(0, VULNERABILITIES_MAX)
      .map(async (name) => {
        const fact = await readFact(join(folder, name));
        return { name, text: fact.t === "text" ? fact.text : `Unknown: ${fact.t === "absent" ? "gone" : fact.why}` };
      }),
  );
  return found;
}

async function readCgroup(root: string, named: string | null): Promise<CgroupFacts> {
  const mounts = await readMounts(root);
  const mountPoint = mounts.find(({ fileSystem }) => fileSystem === "cgroup2")?.mountPoint ?? null;
  const group = named === null ? await ownGroup(root) : below(mountPoint, resolve("/", named));
  if (group === null || mountPoint === null) return { group, mountPoint, controllers: { t: "absent" } };
  const folder = join(root, mountPoint, group);
  const own = await readFact(join(folder, "cgroup.controllers"));
  // A group that the root process will make has what its parent passes on.
  const controllers =
    own.t === "absent" && group !== "/" ? await readFact(join(folder, "..", "cgroup.subtree_control")) : own;
  return { group, mountPoint, controllers };
}

/** The path of a folder below a mount; null when it lies elsewhere. */
function below(mountPoint: string | null, folder: string): string | null {
  if (folder === mountPoint) return "/";
  return mountPoint !== null && folder.startsWith(`${mountPoint}/`) ? folder.slice(mountPoint.length) : null;
}

/** This process' group of cgroup v2. */
async function ownGroup(root: string): Promise<string | null> {
  const groups = await readFact(join(root, "/proc/self/cgroup"));
  if (groups.t !== "text") return null;
  return /^0::(\/.*)$/m.exec(groups.text)?.[1] ?? null;
}
