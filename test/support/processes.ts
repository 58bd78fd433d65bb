// What /proc tells of other processes: whose child, how busy, how large. For tests that kill and measure them.
import { readdirSync, readFileSync } from "node:fs";

const TICK_MS = 10;

/** Pids of the living processes that `parent` started, whose name begins so. */
export function childrenOf(parent: number, name: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      const stat = statOf(pid);
      return stat !== null && stat.parent === parent && stat.state !== "Z" && stat.name.startsWith(name);
    });
}

/** Whether a process is there and no zombie. */
export function isAlive(pid: number): boolean {
  const stat = statOf(pid);
  return stat !== null && stat.state !== "Z";
}

/** CPU time that a process has used, all threads. */
export function cpuMs(pid: number): number {
  return statOf(pid)?.cpuMs ?? 0;
}

/** Resident memory of a process. */
export function residentBytes(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

interface Stat {
  readonly name: string;
  readonly state: string;
  readonly parent: number;
  readonly cpuMs: number;
}

function statOf(pid: number): Stat | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  const name = text.slice(text.indexOf("(") + 1, text.lastIndexOf(")"));
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return {
    name,
    state: fields[0]!,
    parent: Number(fields[1]),
    cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS,
  };
}
