// Reads an audit log in order, checking each record's place in the chain. Needs no running worker.
import { closeSync, readSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { FIRST_PREVIOUS } from "./envelope.ts";
import { openPlainFileSync, readPlainFile } from "./plain-file.ts";
import { decodePruned, type PrunedFrame } from "./pruned-frame.ts";
import {
  type AuditRecord,
  type ChainState,
  decodeFrame,
  decodeRecord,
  FRAME_BYTES_MAX,
  type Frame,
  follow,
  type RawFrame,
  readFrame,
  segmentSequence,
} from "./segment.ts";

/** Where a record stands on disk. */
export interface RecordPlace {
  readonly segment: string;
  readonly offset: number;
}

export interface PlacedRecord extends RecordPlace {
  readonly record: AuditRecord;
}

export const CHAIN_START: ChainState = { sequence: 0, leaf: FIRST_PREVIOUS };

/** Names of a log's segments in order; none when there is no log. */
export async function listSegments(folder: string): Promise<string[]> {
  try {
    const names = await readdir(folder);
    return names.filter((name) => segmentSequence(name) !== null).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw new HpccError("audit.io", `cannot read the audit log ${folder}`, { cause: error });
  }
}

/** Reads a whole segment. */
export async function readSegment(folder: string, name: string): Promise<Buffer> {
  try {
    return await readPlainFile(join(folder, name));
  } catch (error) {
    throw new HpccError("audit.io", `cannot read the audit segment ${name}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** What stands in a log: rows, and runs of rows that retention has removed. */
export type LogItem =
  | { readonly t: "row"; readonly placed: PlacedRecord }
  | { readonly t: "pruned"; readonly frame: PrunedFrame };

/**
 * All that stands after `from`, oldest first. Throws `audit.corrupt` at a record that is damaged or does not follow the one
 * before; a torn end of the last segment, as a running or killed worker leaves it, just ends the reading. Segments to skip are not read, and
 * what comes after them follows anything.
 */
export async function* readItems(
  folder: string,
  from: ChainState = CHAIN_START,
  skip: ReadonlySet<string> = new Set(),
): AsyncGenerator<LogItem> {
  const segments = await listSegments(folder);
  let state: ChainState | null = from;
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    if (next !== undefined && (segmentSequence(next) ?? 0) <= from.sequence + 1) continue;
    if (skip.has(segment)) {
      state = null;
      continue;
    }
    const bytes = await readSegment(folder, segment);
    for (let offset = 0; offset < bytes.length; ) {
      const part = decodePart(bytes, offset);
      if (part === null && next === undefined) return;
      if (part === null) throw new HpccError("audit.corrupt", `${segment} is damaged at byte ${offset}`);
      const rest = partAfter(part, from);
      if (rest !== null) {
        state = followPart(state, rest);
        yield "record" in rest
          ? { t: "row", placed: { record: rest.record, segment, offset } }
          : { t: "pruned", frame: rest };
      }
      offset = part.end;
    }
  }
}

/** All records after `from` that are still there. */
export async function* readLog(folder: string, from: ChainState = CHAIN_START): AsyncGenerator<PlacedRecord> {
  for await (const item of readItems(folder, from)) if (item.t === "row") yield item.placed;
}

/** What stands at an offset of a segment, a row or a run of removed ones; null when none is whole and right there. UNTRUSTED: a log. */
export function decodePart(segment: Buffer, offset: number): Frame | PrunedFrame | null {
  return decodeFrame(segment, offset) ?? decodePruned(segment, offset);
}

export interface PlacedPart {
  /** Number of its first row, and how many it has. */
  readonly first: number;
  readonly rows: number;
  readonly part: RawFrame | PrunedFrame;
}

export interface PartsOptions {
  /** The last row that is wanted. */
  readonly last?: number;
  /** Its end may be torn, as of a segment that is written to. */
  readonly torn?: boolean;
}

/**
 * What stands in a segment, of which no record is decoded and no place in the chain looked at; it begins with the row that it is named by.
 * Throws `audit.corrupt` where it is damaged. UNTRUSTED: a log.
 */
export function* partsOf(bytes: Buffer, segment: string, options: PartsOptions = {}): Generator<PlacedPart> {
  const { last = Number.POSITIVE_INFINITY, torn = false } = options;
  let first = segmentSequence(segment)!;
  for (let offset = 0; offset < bytes.length && first <= last; ) {
    const part = readFrame(bytes, offset) ?? decodePruned(bytes, offset);
    if (part === null && torn) return;
    if (part === null) throw new HpccError("audit.corrupt", `${segment} is damaged at byte ${offset}`);
    const rows = "leaves" in part ? part.leaves.length : 1;
    yield { first, rows, part };
    first += rows;
    offset = part.end;
  }
}

/** The records of a log whose two lines hold a text, in order; no other one is decoded. Throws `audit.corrupt` where a segment is damaged. */
export async function* recordsWith(folder: string, text: string): AsyncGenerator<AuditRecord> {
  const segments = await listSegments(folder);
  for (const segment of segments)
    for (const { part } of partsOf(await readSegment(folder, segment), segment, { torn: segment === segments.at(-1) }))
      if ("payload" in part && part.payload.includes(text)) yield decodeRecord(part.payload);
}

/** Where a log stands after it; null begins at whatever it says. Throws `audit.corrupt` unless it follows the state. */
export function followPart(state: ChainState | null, part: Frame | PrunedFrame): ChainState {
  if ("record" in part) {
    const { sequence, previous } = part.record.envelope;
    return follow(state ?? { sequence: sequence - 1, leaf: previous }, part.record);
  }
  const { first, leaves } = part;
  if (state !== null && first !== state.sequence + 1) throw doesNotFollow(state.sequence);
  return { sequence: first + leaves.length - 1, leaf: digestOf(leaves.at(-1)!) };
}

/** What of it comes after a state; null for nothing. */
function partAfter(part: Frame | PrunedFrame, from: ChainState): Frame | PrunedFrame | null {
  if ("record" in part) return part.record.envelope.sequence > from.sequence ? part : null;
  const { first, leaves } = part;
  const known = Math.max(0, from.sequence + 1 - first);
  if (known > 0 && known <= leaves.length && digestOf(leaves[known - 1]!) !== from.leaf)
    throw doesNotFollow(from.sequence);
  if (known === 0) return part;
  return known < leaves.length ? { ...part, first: first + known, leaves: leaves.slice(known) } : null;
}

function digestOf(hash: Buffer): Digest {
  return `sha256:${hash.toString("hex")}` as Digest;
}

function doesNotFollow(sequence: number): HpccError {
  return new HpccError("audit.corrupt", `removed audit records do not follow record ${sequence}`);
}

/** Read at first; most frames are no longer. */
const FRAME_BYTES = 4096;
/** No record that is decoded keeps any of it. */
const frameBytes = Buffer.alloc(FRAME_BYTES_MAX);

/** Reads single records, and no more than them. */
export class RecordReader implements Disposable {
  readonly #folder: string;
  readonly #segments = new Map<string, number | null>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The record at a place; null when none stands there. */
  read({ segment, offset }: RecordPlace): AuditRecord | null {
    const fd = this.#open(segment);
    if (fd === null) return null;
    for (const length of [FRAME_BYTES, FRAME_BYTES_MAX]) {
      const read = this.#read(fd, segment, { length, offset });
      const frame = decodeFrame(frameBytes.subarray(0, read), 0);
      if (frame !== null || read < length) return frame?.record ?? null;
    }
    return null;
  }

  #read(fd: number, segment: string, { length, offset }: { readonly length: number; readonly offset: number }): number {
    try {
      return readSync(fd, frameBytes, 0, length, offset);
    } catch (error) {
      throw new HpccError("audit.io", `cannot read the audit segment ${segment}`, { cause: error });
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#segments.values()) if (fd !== null) closeSync(fd);
    this.#segments.clear();
  }

  #open(segment: string): number | null {
    const known = this.#segments.get(segment);
    if (known !== undefined) return known;
    let fd: number | null = null;
    try {
      fd = openPlainFileSync(join(this.#folder, segment));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        throw new HpccError("audit.io", `cannot read the audit segment ${segment}`, { cause: error });
    }
    this.#segments.set(segment, fd);
    return fd;
  }
}
