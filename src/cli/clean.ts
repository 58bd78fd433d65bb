// `hpcc clean`: makes the local store smaller, beside a daemon or without one.
import { realpathSync } from "node:fs";
import { resolve } from "node:path";
import { byteStringOf, byteStringOfText } from "../base/byte-string.ts";
import type { Clock } from "../base/clock.ts";
import type { Directories } from "../config/directories.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type Cleaned, cleanLocalStore } from "../store/local/upkeep.ts";
import { parseAge } from "./numbers.ts";
import { size } from "./stats.ts";

export interface CleanFlags {
  readonly olderThan?: string;
  readonly project?: string;
}

/** What launchers answer from by themselves. */
export interface ReplayUpkeep {
  /** When results were replayed last, in milliseconds since 1970, by their keys in the local store. */
  lastReplays(): Promise<ReadonlyMap<Digest, number>>;
  removeReplays(): Promise<void>;
}

export interface CleanParts {
  readonly directories: Pick<Directories, "cache">;
  readonly replay: ReplayUpkeep;
  readonly clock: Clock;
}

/** Removes all, or what fits every flag. */
export async function clean({ directories, replay, clock }: CleanParts, flags: CleanFlags) {
  const unusedMs = flags.olderThan === undefined ? null : parseAge(flags.olderThan);
  const project = flags.project === undefined ? null : pathOf(flags.project);
  // What launchers would answer from is of no use without the store's files.
  if (unusedMs === null && project === null) await replay.removeReplays();
  const used = unusedMs === null ? new Map<Digest, number>() : await replay.lastReplays();
  return cleanLocalStore(directories.cache, { unusedMs, project, used }, clock);
}

export function printCleaned({ records, files, bytes, leftBytes }: Cleaned): string {
  const removed = `${count(records, "record")} and ${count(files, "file")}`;
  return `freed ${size(bytes)} (${removed}); ${leftBytes === 0 ? "nothing" : size(leftBytes)} left\n`;
}

/** As projects are known by: links resolved. One that is gone from the disk may still have results. */
function pathOf(path: string) {
  try {
    return byteStringOf(realpathSync.native(path, "buffer"));
  } catch {
    return byteStringOfText(resolve(path));
  }
}

function count(amount: number, what: string): string {
  return `${amount} ${what}${amount === 1 ? "" : "s"}`;
}
