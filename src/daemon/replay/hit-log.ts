// Reads what launchers have replayed (docs/specs/replay.md), so that a replayed result counts as used and as a hit. UNTRUSTED: the log lies in
// the user's own state folder; what is no line of it is skipped.
import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, open, readdir, readFile, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { ByteString } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { decodeReplayRecord, type ReplayRecord } from "../../wire/launcher/replay-record.ts";
import { HIT_LOG, recordPath, TAKEN } from "./replay-places.ts";

/** Launchers stop at a quarter of it. */
const LOG_BYTES_MAX = 16 * 1024 * 1024;
const LINE = /^([0-9]{1,15})\t([0-9a-f]{64})\t([0-9]{1,15})$/;

/** One record's replays since the last time. */
export interface ReplayUse {
  readonly record: Digest;
  readonly count: number;
  /** Milliseconds since 1970. */
  readonly lastMs: number;
  /** Of all of them, in microseconds. */
  readonly totalUs: number;
  /** What the local store knows the call by. */
  readonly call: Digest | null;
  readonly project: ByteString | null;
  readonly source: ByteString;
  readonly output: ByteString;
  /** Of the files that were handed out. */
  readonly files: readonly Digest[];
}

export interface ReplayUses {
  /** All replays, those of records that are gone by now included. */
  readonly hits: number;
  readonly uses: readonly ReplayUse[];
}

interface Count {
  count: number;
  lastMs: number;
  totalUs: number;
}

/** A log that has been taken and may get a late line of a launcher that holds it open. */
interface TakenLog {
  readonly path: string;
  /** Bytes that were counted. */
  offset: number;
}

export class HitLog {
  readonly #folder: string;
  readonly #logger: Logger;
  #taken: TakenLog[] | null = null;
  #last: Promise<unknown> = Promise.resolve();

  constructor(folder: string, logger: Logger) {
    this.#folder = folder;
    this.#logger = logger;
  }

  /** What was replayed since the last time. Each replay is told once; those that an ended daemon has not told, too. */
  take(): Promise<ReplayUses> {
    const taken = this.#last.then(() => this.#take());
    this.#last = taken.catch(() => {});
    return taken;
  }

  async #take(): Promise<ReplayUses> {
    const counts = new Map<Digest, Count>();
    this.#taken ??= (await this.#names()).filter((name) => TAKEN.test(name)).map((name) => this.#takenLog(name));
    const before = this.#taken;
    for (const log of before) await this.#count(log, counts);
    this.#taken = [];
    const name = `hits.${randomUUID()}.log`;
    if (await this.#rename(name)) {
      const log = this.#takenLog(name);
      this.#taken.push(log);
      await this.#count(log, counts);
    }
    // Only what is counted goes.
    for (const { path } of before) await rm(path, { recursive: true, force: true });
    return this.#uses(counts);
  }

  #takenLog(name: string): TakenLog {
    return { path: join(this.#folder, name), offset: 0 };
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.#folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      return [];
    }
  }

  async #rename(name: string): Promise<boolean> {
    try {
      await rename(join(this.#folder, HIT_LOG), join(this.#folder, name));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      return false;
    }
  }

  async #count(log: TakenLog, counts: Map<Digest, Count>): Promise<void> {
    const text = await readFrom(log.path, log.offset);
    const end = text.lastIndexOf("\n") + 1;
    log.offset += end;
    for (const { record, ms, us } of replaysIn(text.slice(0, end))) {
      const count = counts.get(record) ?? { count: 0, lastMs: 0, totalUs: 0 };
      count.count++;
      count.lastMs = Math.max(count.lastMs, ms);
      count.totalUs += us;
      counts.set(record, count);
    }
  }

  async #uses(counts: ReadonlyMap<Digest, Count>): Promise<ReplayUses> {
    let hits = 0;
    const uses: ReplayUse[] = [];
    for (const [name, { count, lastMs, totalUs }] of counts) {
      hits += count;
      const record = await this.#record(name, lastMs);
      if (record === null) continue;
      const { call, project, source, output, outputs } = record;
      const files = outputs.map(({ digest }) => digest);
      uses.push({ record: name, count, lastMs, totalUs, call, project, source, output, files });
    }
    return { hits, uses };
  }

  /** The record, which counts as used; null when it is gone or damaged. */
  async #record(name: Digest, usedMs: number): Promise<ReplayRecord | null> {
    const path = recordPath(this.#folder, name);
    try {
      const record = decodeReplayRecord(await readFile(path));
      await utimes(path, usedMs / 1000, usedMs / 1000);
      return record;
    } catch (error) {
      this.#logger.debug("replay.record_gone", { error: String(error) });
      return null;
    }
  }
}

/** The replays that lines of a log tell of; a last line without an end is read as the others. */
export function* replaysIn(text: string): Generator<{ record: Digest; ms: number; us: number }> {
  for (const line of text.split("\n")) {
    const [, ms, hex, us] = LINE.exec(line) ?? [];
    if (hex !== undefined) yield { record: `sha256:${hex}` as Digest, ms: Number(ms), us: Number(us) };
  }
}

/** The text of a log from a byte on; empty for what is no log. */
export async function readFrom(path: string, offset: number): Promise<string> {
  let file: FileHandle | null = null;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = await file.stat();
    if (!stat.isFile()) return "";
    const { size } = stat;
    const buffer = Buffer.alloc(Math.max(0, Math.min(size, LOG_BYTES_MAX) - offset));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    return buffer.toString("latin1", 0, bytesRead);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ELOOP") return "";
    throw error;
  } finally {
    await file?.close();
  }
}
