// Reads an audit log in order, checking each record's place in the chain. Needs no running worker.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { FIRST_PREVIOUS } from "./envelope.ts";
import { type AuditRecord, type ChainState, decodeFrame, follow, segmentSequence } from "./segment.ts";

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
    return await readFile(join(folder, name));
  } catch (error) {
    throw new HpccError("audit.io", `cannot read the audit segment ${name}`, { cause: error });
  }
}

/**
 * All records after `from`, oldest first. Throws `audit.corrupt` at a record that is damaged or does not follow the one
 * before; a torn end of the last segment, as a running or killed worker leaves it, just ends the reading.
 */
export async function* readLog(folder: string, from: ChainState = CHAIN_START): AsyncGenerator<PlacedRecord> {
  const segments = await listSegments(folder);
  let state = from;
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    if (next !== undefined && (segmentSequence(next) ?? 0) <= from.sequence + 1) continue;
    const bytes = await readSegment(folder, segment);
    for (let offset = 0; offset < bytes.length; ) {
      const frame = decodeFrame(bytes, offset);
      if (frame === null && next === undefined) return;
      if (frame === null) throw new HpccError("audit.corrupt", `${segment} is damaged at byte ${offset}`);
      if (frame.record.envelope.sequence > from.sequence) {
        state = follow(state, frame.record);
        yield { record: frame.record, segment, offset };
      }
      offset = frame.end;
    }
  }
}

/** The record at a place; null when none stands there. */
export async function readRecord(folder: string, place: RecordPlace): Promise<AuditRecord | null> {
  return decodeFrame(await readSegment(folder, place.segment), place.offset)?.record ?? null;
}
