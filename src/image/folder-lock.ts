// One maker at a time for a file or folder that several processes may want.
import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { HpccError } from "../base/errors.ts";
import { tryLock } from "../base/system/file-lock.ts";

/** Locks of a folder of images. */
export function imageLock(imageFolder: string, name: string): string {
  return join(imageFolder, "locks", name);
}

const POLL_MS = 50;
const WAIT_MS_MAX = 10 * 60_000;

const held = new Map<string, Promise<unknown>>();

/** Runs `make` while no other caller of the same path runs, here or in another process of this machine; then the lock's file goes. */
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
  await mkdir(dirname(path), { recursive: true });
  let lock = tryLock(path);
  for (let waitedMs = 0; lock === null; waitedMs += POLL_MS) {
    if (waitedMs > WAIT_MS_MAX) throw new HpccError("store.io", `${path} has been locked for too long`);
    await delay(POLL_MS);
    lock = tryLock(path);
  }
  try {
    return await make();
  } finally {
    // While it is held: whoever has opened it finds that it is gone, and opens the next one.
    await rm(path, { force: true });
    lock.release();
  }
}
