// One maker at a time for a file or folder that several processes may want. The lock saves double work; correctness rests
// on temporary names and rename alone, so a lock that is broken too early does no harm.
import { readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { HpccError } from "../base/errors.ts";

const POLL_MS = 50;
const WAIT_MS_MAX = 10 * 60_000;

const held = new Map<string, Promise<unknown>>();

/** Runs `make` while no other caller of the same path runs, here or in another process of this machine. */
export async function withLock<T>(path: string, make: () => Promise<T>): Promise<T> {
  const before = held.get(path) ?? Promise.resolve();
  const mine = before.catch(() => {}).then(() => withLockFile(path, make));
  held.set(path, mine);
  try {
    return await mine;
  } finally {
    if (held.get(path) === mine) held.delete(path);
  }
}

async function withLockFile<T>(path: string, make: () => Promise<T>): Promise<T> {
  for (let waitedMs = 0; ; waitedMs += POLL_MS) {
    try {
      await writeFile(path, String(process.pid), { flag: "wx" });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    if (!(await holderLives(path))) {
      await rm(path, { force: true });
      continue;
    }
    if (waitedMs > WAIT_MS_MAX) throw new HpccError("store.io", `${path} has been locked for too long`);
    await delay(POLL_MS);
  }
  try {
    return await make();
  } finally {
    await rm(path, { force: true });
  }
}

async function holderLives(path: string): Promise<boolean> {
  const text = await readFile(path, "utf8").catch(() => "");
  // Empty: its maker is between creating and writing.
  if (text === "") return true;
  const pid = Number(text);
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
