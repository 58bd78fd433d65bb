// Who holds something in a folder that processes share, so that nobody takes a later process of the same number for the holder.
import { readFileSync, readlinkSync } from "node:fs";

let own: string | null = null;

/** "<pid namespace>-<pid>-<start time>": no later process is the same. */
export function ownProcess(): string {
  own ??= `${pidNamespace()}-${process.pid}-${startTimeOf("self") ?? "0"}`;
  return own;
}

/** `unseen`: of a container, whose processes cannot be seen from elsewhere. UNTRUSTED: `identity`, a file's text. */
export function processState(identity: string): "lives" | "gone" | "unseen" {
  const [, namespace = "", pid = "", startTime = ""] =
    /^([0-9]{1,20})-([0-9]{1,10})-([0-9]{1,20})$/.exec(identity) ?? [];
  if (pid === "") return "gone";
  if (namespace !== pidNamespace()) return "unseen";
  return startTimeOf(pid) === startTime ? "lives" : "gone";
}

function pidNamespace(): string {
  try {
    return /[0-9]+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? "0";
  } catch {
    return "0";
  }
}

/** Field 22 of a process's stat; null when there is no such process. */
function startTimeOf(pid: string): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? null;
  } catch {
    return null;
  }
}
