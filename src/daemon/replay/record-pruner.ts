// Keeps the number and the bytes of replay records below a limit: those not used for longest go first. Removing any is safe at any time.
import { lstat, readdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { RECORD, SHARD, TEMPORARY } from "./replay-places.ts";

/** Removes down to this share of a limit, so that not every write counts them all. */
const TARGET_SHARE = 0.9;
/** A temporary file that is this old is nobody's. */
const LEFTOVER_MS = 3_600_000;
/** What a record takes beside its bytes, on the average. */
const BLOCK_BYTES = 4096;

export interface PrunerOptions {
  readonly folder: string;
  readonly clock: Pick<Clock, "wallMs">;
  readonly recordsMax: number;
  readonly bytesMax: number;
}

interface Kept {
  readonly path: string;
  readonly bytes: number;
  readonly usedMs: number;
}

export class RecordPruner {
  readonly #options: PrunerOptions;
  /** As far as is known; none before the first count. */
  #count: { records: number; bytes: number } | null = null;

  constructor(options: PrunerOptions) {
    this.#options = options;
  }

  /** Told of each record written; removes what is too much. */
  async wrote(bytes: number): Promise<void> {
    if (this.#count === null) return this.#prune();
    // A record that replaced another one counts twice until the next count, which then finds fewer.
    this.#count.records++;
    this.#count.bytes += bytes + BLOCK_BYTES;
    const { recordsMax, bytesMax } = this.#options;
    if (this.#count.records > recordsMax || this.#count.bytes > bytesMax) await this.#prune();
  }

  async #prune(): Promise<void> {
    const { recordsMax, bytesMax } = this.#options;
    const kept = await this.#list();
    let records = kept.length;
    let bytes = kept.reduce((sum, record) => sum + record.bytes, 0);
    if (records > recordsMax || bytes > bytesMax) {
      kept.sort((a, b) => a.usedMs - b.usedMs);
      for (const record of kept) {
        if (records <= recordsMax * TARGET_SHARE && bytes <= bytesMax * TARGET_SHARE) break;
        await unlink(record.path).catch(() => {});
        records--;
        bytes -= record.bytes;
      }
    }
    this.#count = { records, bytes };
  }

  async #list(): Promise<Kept[]> {
    const { folder, clock } = this.#options;
    const kept: Kept[] = [];
    for (const shard of await names(folder)) {
      if (!SHARD.test(shard)) continue;
      for (const name of await names(join(folder, shard))) {
        const path = join(folder, shard, name);
        const stat = await lstat(path).catch(() => null);
        if (stat === null) continue;
        if (RECORD.test(name)) kept.push({ path, bytes: stat.size + BLOCK_BYTES, usedMs: stat.mtimeMs });
        else if (TEMPORARY.test(name) && clock.wallMs() - stat.mtimeMs > LEFTOVER_MS)
          await unlink(path).catch(() => {});
      }
    }
    return kept;
  }
}

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch {
    return [];
  }
}
