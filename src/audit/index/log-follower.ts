// Reads a log on from where a reader stands, in parts of bounded size, while a worker may be writing it.
import { type FileHandle, stat } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { openPlainFile } from "../plain-file.ts";
import { CHAIN_START, decodePart, followPart, listSegments, type PlacedRecord, type RecordPlace } from "../read-log.ts";
import { type ChainState, decodeFrame, FRAME_BYTES_MAX } from "../segment.ts";
import type { LogPosition } from "./index-state.ts";
import { IndexDamaged } from "./run-format.ts";

export const LOG_START: LogPosition = { ...CHAIN_START, at: null };
/** Read at once. */
const PART_BYTES = 1024 * 1024;

interface OpenSegment {
  readonly name: string;
  readonly handle: FileHandle;
  readonly inode: number;
}

export class LogFollower {
  readonly #folder: string;
  #segment: OpenSegment | null = null;
  /** Where the next frame begins. */
  #offset = 0;
  #chain: ChainState;

  private constructor(folder: string, position: LogPosition) {
    this.#folder = folder;
    this.#chain = position;
  }

  /** Throws `IndexDamaged` where the log has another record at the position, or none. */
  static async open(folder: string, position: LogPosition): Promise<LogFollower> {
    const follower = new LogFollower(folder, position);
    try {
      if (position.at !== null) await follower.#standAfter(position, position.at);
      return follower;
    } catch (error) {
      await follower.close();
      throw error;
    }
  }

  /**
   * The next records, up to the one of this number; none at the log's end. Throws `audit.corrupt` at a record that is damaged
   * or does not follow the one before, and `IndexDamaged` when the segment was replaced by another one.
   */
  async next(sequenceMax: number): Promise<PlacedRecord[]> {
    for (;;) {
      const segments = await listSegments(this.#folder);
      const name = this.#segment?.name ?? segments[0];
      if (name === undefined || this.#chain.sequence >= sequenceMax) return [];
      const later = segments[segments.indexOf(name) + 1];
      const segment = await this.#open(name);
      const from = this.#offset;
      const bytes = await readAt(segment.handle, from, PART_BYTES);
      const records = this.#decode(bytes, name, sequenceMax);
      if (records.length > 0) return records;
      // Rows that retention has removed stood there.
      if (this.#offset > from) continue;
      if (later === undefined) return [];
      if (bytes.length > 0) throw new HpccError("audit.corrupt", `${name} is damaged at byte ${from}`);
      // It ended before the later one was there.
      await this.#open(later);
    }
  }

  async close(): Promise<void> {
    await this.#segment?.handle.close();
    this.#segment = null;
  }

  async #standAfter({ sequence, leaf }: ChainState, { segment, offset }: RecordPlace): Promise<void> {
    const { handle } = await this.#open(segment);
    const frame = decodeFrame(await readAt(handle, offset, FRAME_BYTES_MAX), 0);
    if (frame?.record.envelope.sequence !== sequence || frame.record.leaf !== leaf)
      throw new IndexDamaged("it was made from another log");
    this.#offset = offset + frame.end;
  }

  #decode(bytes: Buffer, segment: string, sequenceMax: number): PlacedRecord[] {
    const records: PlacedRecord[] = [];
    const start = this.#offset;
    try {
      while (this.#chain.sequence < sequenceMax) {
        const part = decodePart(bytes, this.#offset - start);
        if (part === null) break;
        this.#chain = followPart(this.#chain, part);
        if ("record" in part) records.push({ record: part.record, segment, offset: this.#offset });
        this.#offset = start + part.end;
      }
    } catch (error) {
      // What comes before it is given first.
      if (records.length === 0) throw error;
    }
    return records;
  }

  /** The open segment, if it is still the one that has this name. */
  async #open(name: string): Promise<OpenSegment> {
    const path = join(this.#folder, name);
    try {
      if (this.#segment?.name === name) {
        if ((await stat(path)).ino !== this.#segment.inode) throw new IndexDamaged(`${name} was replaced`);
        return this.#segment;
      }
      await this.#segment?.handle.close();
      this.#segment = null;
      const handle = await openPlainFile(path);
      this.#offset = 0;
      this.#segment = { name, handle, inode: (await handle.stat()).ino };
      return this.#segment;
    } catch (error) {
      throw error instanceof HpccError ? error : new IndexDamaged(`${name} cannot be read`, error);
    }
  }
}

async function readAt(handle: FileHandle, offset: number, lengthMax: number): Promise<Buffer> {
  try {
    return await readParts(handle, offset, lengthMax);
  } catch (error) {
    throw new HpccError("audit.io", "a segment of the audit log cannot be read", { cause: error });
  }
}

async function readParts(handle: FileHandle, offset: number, lengthMax: number): Promise<Buffer> {
  const length = Math.max(0, Math.min(lengthMax, (await handle.stat()).size - offset));
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return bytes.subarray(0, done);
}
