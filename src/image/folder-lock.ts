// One maker at a time for a file or folder that several processes may want. The lock saves double work; correctness rests
// on temporary names and rename alone, so a lock that is broken too early does no harm.
import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { HpccError } from "../base/errors.ts";
import { ownProcess, processState } from "./process-identity.ts";

const POLL_MS = 50;
/** Also for a holder that cannot be seen from here. */
const WAIT_MS_MAX = 10 * 60_000;
/** From the making of a lock to its holder's name in it. */
const UNWRITTEN_MS_MAX = 10_000;

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
      await writeFile(path, ownProcess(), { flag: "wx" });
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
  const [text, found] = await Promise.all([readFile(path, "utf8").catch(() => null), stat(path).catch(() => null)]);
  // It was let go just now.
  if (text === null || found === null) return false;
  const state = text === "" ? "unwritten" : processState(text);
  if (state === "lives" || state === "gone") return state === "lives";
  return Date.now() - found.mtimeMs < (state === "unwritten" ? UNWRITTEN_MS_MAX : WAIT_MS_MAX);
}
