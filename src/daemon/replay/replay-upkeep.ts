// What `hpcc clean` needs of replay, beside a daemon or without one: when results were replayed last, and to remove what launchers answer from.
// UNTRUSTED: records and logs lie in the user's own state folder; whatever else lies there is somebody else's, and stays.
import { readdir, readFile, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Digest } from "../../core/digest/digest.ts";
import { decodeReplayRecord } from "../../wire/launcher/replay-record.ts";
import { readFrom, replaysIn } from "./hit-log.ts";
import { HIT_LOG, RECORD, recordPath, SHARD, TAKEN, TEMPORARY } from "./replay-places.ts";

/** When results that the local store knows were replayed last, in milliseconds since 1970; as far as no daemon has counted it yet. */
export async function lastReplays(folder: string): Promise<ReadonlyMap<Digest, number>> {
  const records = new Map<Digest, number>();
  for (const name of await namesIn(folder)) {
    if (name !== HIT_LOG && !TAKEN.test(name)) continue;
    for (const { record, ms } of replaysIn(await readFrom(join(folder, name), 0)))
      records.set(record, Math.max(records.get(record) ?? 0, ms));
  }
  const calls = new Map<Digest, number>();
  for (const [name, ms] of records) {
    const call = await callOf(recordPath(folder, name));
    if (call !== null) calls.set(call, Math.max(calls.get(call) ?? 0, ms));
  }
  return calls;
}

/** Removes records and logs. */
export async function removeReplays(folder: string): Promise<void> {
  for (const name of await namesIn(folder)) {
    const path = join(folder, name);
    if (name === HIT_LOG || TAKEN.test(name)) await unlink(path).catch(() => {});
    if (!SHARD.test(name)) continue;
    for (const record of await namesIn(path))
      if (RECORD.test(record) || TEMPORARY.test(record)) await unlink(join(path, record)).catch(() => {});
    await rmdir(path).catch(() => {});
  }
  await rmdir(folder).catch(() => {});
}

async function callOf(path: string): Promise<Digest | null> {
  try {
    return decodeReplayRecord(await readFile(path)).call;
  } catch {
    return null;
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
