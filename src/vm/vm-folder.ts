// The folder of one machine: its sockets, nothing else. The worker's own, and in it the one that the machine's processes work
// in. Named after the machine and the process that owns it, so that the folders of a worker that was killed are found and removed by
// the next one.
import { chown, lstat, mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";

const OWNER = /^vm-[0-9a-f]+\.(\d+)\.(\d+)$/;

const SHARED = "shared";

export interface VmFolder {
  /** The worker's alone: a machine that has a user of its own does not reach what is in it. */
  readonly path: string;
  /** In it, the working directory of the machine's processes and theirs to write. */
  readonly shared: string;
  /** Takes a socket out of `shared`; from then on only the worker can connect to it. */
  takePrivate(name: string): Promise<void>;
  /** Removes a socket from `shared`; one that is not there is removed. */
  removeShared(name: string): Promise<void>;
  remove(): Promise<void>;
}

/** Makes the folder of a machine, its inner part for its user. */
export async function makeVmFolder(vmsFolder: string, id: string, uid: number | null): Promise<VmFolder> {
  const path = join(vmsFolder, `${id}.${process.pid}.${await startTicks(process.pid)}`);
  const shared = join(path, SHARED);
  await mkdir(path, { mode: 0o700 });
  await mkdir(shared, { mode: 0o700 });
  if (uid !== null) await chown(shared, uid, uid);
  return {
    path,
    shared,
    async takePrivate(name) {
      const taken = join(path, name);
      await rename(join(shared, name), taken);
      // What the machine's processes put there may be a link to somewhere else.
      if (!(await lstat(taken)).isSocket())
        throw new HpccError("vm.breach", `${name} in the folder of a microVM is no socket`);
    },
    removeShared: (name) => rm(join(shared, name), { force: true }),
    remove: () => rm(path, { recursive: true, force: true }),
  };
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
