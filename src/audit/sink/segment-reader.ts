// Reads a log's parts one after another, without ever holding a segment: a worker's log is followed for months. UNTRUSTED: a log.
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { openPlainFile } from "../plain-file.ts";
import { decodePruned } from "../pruned-frame.ts";
import { listSegments } from "../read-log.ts";
import { readFrame, segmentSequence } from "../segment.ts";

/** A record's two lines, or the leaf hashes of rows that retention removed. */
export type LogPart =
  | { readonly t: "record"; readonly payload: Buffer }
  | { readonly t: "pruned"; readonly leaves: readonly Buffer[] };

const CHUNK_BYTES = 1024 * 1024;

export class SegmentReader {
  readonly #folder: string;
  /** Number of the row that is given next. */
  #row: number;
  #segment: string | null = null;
  /** Which file that is: retention replaces whole segments. */
  #inode = 0n;
  /** Number of the row that stands at `#at`. */
  #rowAt = 0;
  /** Where `#bytes` begin in the segment, and how far they were read. */
  #offset = 0;
  #bytes = Buffer.alloc(0);
  #at = 0;

  /** Gives rows from this number on. */
  constructor(folder: string, row: number) {
    this.#folder = folder;
    this.#row = row;
  }

  /** What comes next; null where nothing whole stands yet. */
  async next(): Promise<LogPart | null> {
    if (this.#segment === null && !(await this.#findSegment())) return null;
    for (;;) {
      const part = this.#decode();
      if (part !== null) return part;
      if (await this.#readOn()) continue;
      if (!(await this.#nextSegment())) return null;
    }
  }

  /** One that goes on from here, and holds nothing of what was read ahead: what is not signed yet may still change. */
  copy(): SegmentReader {
    const copy = new SegmentReader(this.#folder, this.#row);
    copy.#segment = this.#segment;
    copy.#inode = this.#inode;
    copy.#rowAt = this.#rowAt;
    copy.#offset = this.#offset + this.#at;
    return copy;
  }

  /** The next part of what was read that is not known yet. */
  #decode(): LogPart | null {
    for (;;) {
      const frame = readFrame(this.#bytes, this.#at);
      const pruned = frame === null ? decodePruned(this.#bytes, this.#at) : null;
      if (frame === null && pruned === null) return null;
      if (pruned !== null && pruned.first !== this.#rowAt)
        throw new HpccError("audit.corrupt", `removed rows from ${pruned.first} on stand where row ${this.#rowAt} was`);
      this.#at = (frame ?? pruned)!.end;
      this.#rowAt += pruned?.leaves.length ?? 1;
      if (this.#rowAt <= this.#row) continue;
      const known = this.#row - (this.#rowAt - (pruned?.leaves.length ?? 1));
      this.#row = this.#rowAt;
      return pruned === null
        ? { t: "record", payload: frame!.payload }
        : { t: "pruned", leaves: pruned.leaves.slice(known) };
    }
  }

  async #findSegment(): Promise<boolean> {
    const segments = await listSegments(this.#folder);
    const found = segments.findLast((name) => segmentSequence(name)! <= this.#row);
    if (found === undefined && segments.length > 0)
      throw new HpccError("audit.corrupt", `the log ${this.#folder} has no row ${this.#row}: its first one is later`);
    if (found !== undefined) this.#begin(found);
    return found !== undefined;
  }

  #begin(segment: string): void {
    this.#segment = segment;
    this.#inode = 0n;
    this.#rowAt = segmentSequence(segment)!;
    this.#offset = 0;
    this.#bytes = Buffer.alloc(0);
    this.#at = 0;
  }

  async #readOn(): Promise<boolean> {
    const { bytes, inode } = await readPart(join(this.#folder, this.#segment!), this.#offset + this.#bytes.length);
    if (this.#inode !== 0n && inode !== this.#inode) {
      this.#begin(this.#segment!);
      return true;
    }
    this.#inode = inode;
    this.#bytes = Buffer.concat([this.#bytes.subarray(this.#at), bytes]);
    this.#offset += this.#at;
    this.#at = 0;
    return bytes.length > 0;
  }

  /** Goes on to the segment that begins with the next row. */
  async #nextSegment(): Promise<boolean> {
    const segments = await listSegments(this.#folder);
    const next = segments[segments.indexOf(this.#segment!) + 1];
    if (next === undefined) return false;
    if (this.#at < this.#bytes.length || segmentSequence(next) !== this.#rowAt)
      throw new HpccError("audit.corrupt", `${this.#segment} is damaged at byte ${this.#offset + this.#at}`);
    this.#begin(next);
    return true;
  }
}

interface Part {
  readonly bytes: Buffer;
  readonly inode: bigint;
}

async function readPart(path: string, position: number): Promise<Part> {
  try {
    const handle = await openPlainFile(path);
    try {
      const { ino } = await handle.stat({ bigint: true });
      const buffer = Buffer.alloc(CHUNK_BYTES);
      const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, position);
      return { bytes: buffer.subarray(0, bytesRead), inode: ino };
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new HpccError("audit.io", `cannot read the audit segment ${path}`, { cause: error });
  }
}
