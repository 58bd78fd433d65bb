// How much the local store holds, estimated without walking it: what the last walk counted, then what each process added since. Many processes
// append; a walk replaces the file. What a killed process did not yet say is lost, so the store is walked once a day whatever is estimated.
import { readFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import type { DiskFiles } from "../disk/disk-files.ts";

const NAME = "usage";
const MAGIC = "hpccuse1";
/** Magic, bytes that the walk counted (u64), its time in milliseconds since 1970 (u64). */
const HEADER_BYTES = 24;
const DELTA_BYTES = 8;
/** A longer log is due for a walk. */
const LOG_BYTES_MAX = HEADER_BYTES + 8192 * DELTA_BYTES;
const WALK_AGE_MS_MAX = 24 * 60 * 60 * 1000;
/** Said to the log after this share of the limit. */
const UNSAID_SHARE = 1 / 512;

export class UsageLog {
  readonly #files: DiskFiles;
  readonly #clock: Clock;
  readonly #unsaidBytesMax: number;
  #unsaidBytes = 0;

  constructor(files: DiskFiles, clock: Clock, bytesMax: number) {
    this.#files = files;
    this.#clock = clock;
    this.#unsaidBytesMax = bytesMax * UNSAID_SHARE;
  }

  /** Counts what was added; true when it is time to look at `totalBytes`. */
  add(bytes: number): boolean {
    this.#unsaidBytes += bytes;
    return Math.abs(this.#unsaidBytes) >= this.#unsaidBytesMax;
  }

  /** Says what was added to the other processes. A log that cannot be written to is found wrong by the next walk. */
  async say(): Promise<void> {
    const bytes = this.#unsaidBytes;
    if (bytes === 0) return;
    this.#unsaidBytes = 0;
    const delta = Buffer.alloc(DELTA_BYTES);
    delta.writeBigInt64LE(BigInt(bytes));
    let handle: FileHandle | null = null;
    try {
      // Not made here: without the walk's count a sum means nothing.
      handle = await open(this.#path(), "r+");
      await handle.close();
      handle = await open(this.#path(), "a", 0o600);
      await handle.write(delta);
    } catch {
      // It is counted by a walk.
    } finally {
      await handle?.close().catch(() => {});
    }
  }

  /** The estimate; null when the store has to be walked. */
  totalBytes(): number | null {
    const log = readLog(this.#path());
    if (log === null || log.length > LOG_BYTES_MAX) return null;
    const ageMs = this.#clock.wallMs() - Number(log.readBigUInt64LE(16));
    if (ageMs > WALK_AGE_MS_MAX || ageMs < -WALK_AGE_MS_MAX) return null;
    let total = log.readBigInt64LE(8);
    for (let at = HEADER_BYTES; at < log.length; at += DELTA_BYTES) total += log.readBigInt64LE(at);
    return Number(total) + this.#unsaidBytes;
  }

  /** Begins anew with what a walk counted. */
  async reset(bytes: number): Promise<void> {
    this.#unsaidBytes = 0;
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, "latin1");
    header.writeBigInt64LE(BigInt(bytes), 8);
    header.writeBigUInt64LE(BigInt(this.#clock.wallMs()), 16);
    await this.#files.create(false, async (file) => {
      await file.append(header);
      return this.#path();
    });
  }

  #path(): string {
    return this.#files.plainPath("", NAME);
  }
}

/** UNTRUSTED: whoever can write the user's cache folder. */
function readLog(path: string): Buffer | null {
  try {
    const log = readFileSync(path);
    const whole = log.length >= HEADER_BYTES && (log.length - HEADER_BYTES) % DELTA_BYTES === 0;
    return whole && log.toString("latin1", 0, MAGIC.length) === MAGIC ? log : null;
  } catch {
    return null;
  }
}
