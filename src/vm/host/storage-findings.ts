// Judges folders of the root process and what parked snapshots lie on. Pure.
import { type BlockLayer, FACT_DEPTH_MAX, type PathFacts, type PathStep, type StorageFacts } from "./host-facts.ts";
import { HOST_GUIDE, type HostFinding } from "./host-finding.ts";

const GROUP_OR_OTHERS_WRITE = 0o022;
const STICKY = 0o1000;
const OTHERS = 0o077;
const ENCRYPT = `put them on a volume whose key lives only in memory: ${HOST_GUIDE}, Snapshots`;

interface Flaw {
  readonly found: string;
  readonly advice: string;
}

/** What lets somebody other than root change or exchange a path: the first such name on the way; null for nothing. */
export function flawOfPath({ steps, path }: PathFacts): Flaw | null {
  for (const step of steps) {
    const flaw = flawOfStep(step, step.path === path);
    if (flaw !== null) return flaw;
  }
  return null;
}

function flawOfStep({ path, kind, uid, mode }: PathStep, isLast: boolean): Flaw | null {
  if (kind === "link") return { found: `${path} is a link`, advice: "name the path that it leads to" };
  if (kind === "other") return { found: `${path} is neither file nor folder`, advice: `look at ${path}` };
  if (uid !== 0) return { found: `${path} belongs to uid ${uid}`, advice: `chown root:root ${path}` };
  // In a sticky folder nobody exchanges what is root's.
  const sticky = kind === "folder" && !isLast && (mode & STICKY) !== 0;
  if ((mode & GROUP_OR_OTHERS_WRITE) !== 0 && !sticky)
    return {
      found: `${path} has mode ${octal(mode)}: others can write it`,
      advice: `chmod go-w ${path}, or choose another place`,
    };
  return null;
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

/** A folder of the root process: root's, and nobody else's to change, all the way up. */
export function judgeFolder(
  name: string,
  facts: PathFacts,
  { othersMayEnter }: { othersMayEnter: boolean },
): HostFinding {
  const flaw = flawOfPath(facts);
  if (flaw !== null) return { name, status: "fail", ...flaw };
  const { stopped, path } = facts;
  if (stopped !== null)
    return stopped.why === "ENOENT"
      ? {
          name,
          status: "warn",
          found: `${stopped.path} is not there`,
          advice: `install -d -o root -g root -m ${othersMayEnter ? "0711" : "0700"} ${path}`,
        }
      : {
          name,
          status: "unknown",
          found: `${stopped.path} cannot be looked at: ${stopped.why}`,
          advice: "ask as root",
        };
  const last = facts.steps.at(-1);
  if (last === undefined || last.kind !== "folder")
    return { name, status: "fail", found: `${path} is no folder`, advice: "name a folder" };
  if (!othersMayEnter && (last.mode & OTHERS) !== 0)
    return { name, status: "fail", found: `${path} has mode ${octal(last.mode)}`, advice: `chmod 0700 ${path}` };
  return { name, status: "ok", found: `${path}, mode ${octal(last.mode)}, root's all the way up`, advice: null };
}

const MEMORY_FILE_SYSTEMS = ["tmpfs", "ramfs", "hugetlbfs", "devtmpfs"];

/** How well the blocks of a device are hidden from who takes the disk, worst first. */
const GRADES = ["memory", "plain text", "stored key", "key in memory"] as const;
type Grade = (typeof GRADES)[number];

/** Mappings whose header on the disk holds the key, wrapped. */
const STORED_KEY = /^CRYPT-(LUKS[12]|TCRYPT|BITLK|FVAULT2|LOOPAES)-/;

function gradeOf(layer: BlockLayer, depth = 0): Grade {
  if (layer.memory) return "memory";
  const own = ownGrade(layer.dmUuid);
  if (layer.below.length === 0 || depth >= FACT_DEPTH_MAX) return own;
  // What lies on several devices is hidden as well as the worst of them.
  const worst = Math.min(...layer.below.map((one) => GRADES.indexOf(gradeOf(one, depth + 1))));
  if (GRADES[worst] === "memory") return "memory";
  return GRADES[Math.max(worst, GRADES.indexOf(own))] ?? own;
}

function ownGrade(dmUuid: string | null): Grade {
  if (dmUuid?.startsWith("CRYPT-PLAIN-")) return "key in memory";
  return dmUuid !== null && STORED_KEY.test(dmUuid) ? "stored key" : "plain text";
}

/** Whether what a parked machine leaves on the disk is worth nothing once the power is off. */
export function judgeStorage(storage: StorageFacts | null): HostFinding {
  const name = "snapshot encryption";
  if (storage === null) return { name, status: "unknown", found: "no mount was found for the folder", advice: ENCRYPT };
  const { fileSystem, device } = storage;
  if (MEMORY_FILE_SYSTEMS.includes(fileSystem))
    return {
      name,
      status: "fail",
      found: `${fileSystem} is memory: parking frees nothing, and it can be swapped out`,
      advice: ENCRYPT,
    };
  if (device === null)
    return {
      name,
      status: "unknown",
      found: `${fileSystem} on ${storage.source}: no block device of this machine is seen beneath it`,
      advice: ENCRYPT,
    };
  const shown = `${fileSystem} on ${chain(device)}`;
  switch (gradeOf(device)) {
    case "memory":
      return { name, status: "fail", found: `${shown} is memory: parking frees nothing`, advice: ENCRYPT };
    case "plain text":
      return { name, status: "fail", found: `${shown} is not encrypted`, advice: ENCRYPT };
    case "stored key":
      return { name, status: "warn", found: `${shown}: a header on the disk keeps the key, wrapped`, advice: ENCRYPT };
    case "key in memory":
      return {
        name,
        status: "ok",
        found: `${shown}, without a header; that its key was random cannot be seen`,
        advice: null,
      };
  }
}

function chain({ name, dmUuid, below }: BlockLayer, depth = 0): string {
  const own = dmUuid === null ? name : `${name} (${/^[A-Z]+(-[A-Z0-9]+)?(?=-|$)/.exec(dmUuid)?.[0] ?? "dm"})`;
  if (below.length === 0 || depth >= FACT_DEPTH_MAX) return own;
  return `${own} on ${below.map((one) => chain(one, depth + 1)).join(" and ")}`;
}
