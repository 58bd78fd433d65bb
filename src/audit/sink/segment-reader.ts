// Reads a log's records one after another, without ever holding a segment: a worker's log is followed for months. UNTRUSTED: a log.
import { open } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { listSegments } from "../read-log.ts";
import { type AuditRecord, type ChainState, decodeFrame, follow, segmentSequence } from "../segment.ts";

const CHUNK_BYTES = 1024 * 1024;

export class SegmentReader {
  readonly #folder: string;
  #state: ChainState;
  #segment: string | null = null;
  /** Where `#bytes` begin in the segment. */
  #offset = 0;
  #bytes = Buffer.alloc(0);
  #at = 0;

  /** Gives the records after `from`. */
  constructor(folder: string, from: ChainState) {
    this.#folder = folder;
    this.#state = from;
  }

  /** The next record; null where no whole one stands yet. */
  async next(): Promise<AuditRecord | null> {
    if (this.#segment === null && !(await this.#findSegment())) return null;
    for (;;) {
      const frame = decodeFrame(this.#bytes, this.#at);
      if (frame !== null) {
        this.#at = frame.end;
        if (frame.record.envelope.sequence <= this.#state.sequence) continue;
        this.#state = follow(this.#state, frame.record);
        return frame.record;
      }
      if (await this.#readOn()) continue;
      if (!(await this.#nextSegment())) return null;
    }
  }

  /** One that goes on from here, and holds nothing of what was read ahead: what is not signed yet may still change. */
  copy(): SegmentReader {
    const copy = new SegmentReader(this.#folder, this.#state);
    copy.#segment = this.#segment;
    copy.#offset = this.#offset + this.#at;
    return copy;
  }

  async #findSegment(): Promise<boolean> {
    const wanted = this.#state.sequence + 1;
    const segments = await listSegments(this.#folder);
    const found = segments.findLast((name) => (segmentSequence(name) ?? 0) <= wanted);
    if (found === undefined && segments.length > 0)
      throw new HpccError("audit.corrupt", `the log ${this.#folder} has no row ${wanted} any more: its first is later`);
    this.#segment = found ?? null;
    return found !== undefined;
  }

  async #readOn(): Promise<boolean> {
    const rest = this.#bytes.subarray(this.#at);
    const chunk = await readPart(join(this.#folder, this.#segment!), this.#offset + this.#bytes.length);
    this.#offset += this.#at;
    this.#at = 0;
    this.#bytes = Buffer.concat([rest, chunk]);
    return chunk.length > 0;
  }

  /** Goes on to the segment that begins with the next record. */
  async #nextSegment(): Promise<boolean> {
    const segments = await listSegments(this.#folder);
    const next = segments[segments.indexOf(this.#segment!) + 1];
    if (next === undefined) return false;
    if (this.#at < this.#bytes.length)
      throw new HpccError("audit.corrupt", `${this.#segment} is damaged at byte ${this.#offset + this.#at}`);
    this.#segment = next;
    this.#offset = 0;
    this.#bytes = Buffer.alloc(0);
    this.#at = 0;
    return true;
  }
}

async function readPart(path: string, position: number): Promise<Buffer> {
  try {
    const handle = await open(path, "r");
    try {
      const buffer = Buffer.alloc(CHUNK_BYTES);
      const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, position);
      return buffer.subarray(0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw new HpccError("audit.io", `cannot read the audit segment ${path}`, { cause: error });
  }
}
