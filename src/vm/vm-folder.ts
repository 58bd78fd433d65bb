// The folder of one machine: its sockets, nothing else. Named after the machine and the process that owns it, so that the
// folders of a worker that was killed are found and removed by the next one.
import { chown, mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";

const OWNER = /^vm-[0-9a-f]+\.(\d+)\.(\d+)$/;

export interface VmFolder {
  readonly path: string;
  remove(): Promise<void>;
}

/** Makes the folder of a machine, for its user alone. */
export async function makeVmFolder(vmsFolder: string, id: string, uid: number | null): Promise<VmFolder> {
  const path = join(vmsFolder, `${id}.${process.pid}.${await startTicks(process.pid)}`);
  await mkdir(path, { mode: 0o700 });
  if (uid !== null) await chown(path, uid, uid);
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** Removes the folders of workers that are no more; their processes died with them. Gives the number. */
export async function sweepVmFolders(vmsFolder: string): Promise<number> {
  let swept = 0;
  for (const name of await readdir(vmsFolder)) {
    const [, pid, ticks] = OWNER.exec(name) ?? [];
    if (pid === undefined || (await startTicks(Number(pid))) === ticks) continue;
    await rm(join(vmsFolder, name), { recursive: true, force: true });
    swept += 1;
  }
  return swept;
}

/** When a process was started, in clock ticks since boot; a process number alone may be used again. */
async function startTicks(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  // The name, in parentheses, may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
