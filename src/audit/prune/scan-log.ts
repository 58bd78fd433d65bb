// Reads a log from its beginning to a row, giving the event loop back between rows: a worker goes on while its log is pruned.
import { setImmediate } from "node:timers/promises";
import { HpccError } from "../../base/errors.ts";
import { decodePruned } from "../pruned-frame.ts";
import { type LogItem, listSegments, readItems, readSegment } from "../read-log.ts";
import { decodeRecord, readFrame, segmentSequence } from "../segment.ts";
import { Holds } from "./holds.ts";

const ITEMS_AT_ONCE = 64;

export interface ScanOptions {
  /** Rows that are read. */
  readonly size: number;
  readonly signal: AbortSignal;
}

/** Throws `audit.corrupt` where the log does not reach that row, and the signal's reason. */
export async function scanLog(
  folder: string,
  { size, signal }: ScanOptions,
  take: (item: LogItem) => void,
): Promise<void> {
  let row = 0;
  let items = 0;
  signal.throwIfAborted();
  if (size === 0) return;
  for await (const item of readItems(folder)) {
    row = item.t === "row" ? item.placed.record.envelope.sequence : item.frame.first + item.frame.leaves.length - 1;
    take(item);
    if (row >= size) return;
    if (++items % ITEMS_AT_ONCE !== 0) continue;
    await setImmediate();
    signal.throwIfAborted();
  }
  throw new HpccError("audit.corrupt", `the audit log ends at row ${row}, and ${size} rows were written`);
}

const HOLD = Buffer.from('"kind":"hold"');
const FRAMES_AT_ONCE = 4096;

/** The holds that a log's rows put in force: of all other rows no more is read than that they are whole. */
export async function scanHolds(folder: string, { size, signal }: ScanOptions): Promise<Holds> {
  const holds = new Holds();
  const segments = await listSegments(folder);
  for (const [at, segment] of segments.entries()) {
    if (segmentSequence(segment)! > size) break;
    const bytes = await readSegment(folder, segment);
    for (let offset = 0, frames = 1; offset < bytes.length; frames++) {
      const frame = readFrame(bytes, offset);
      const end = frame?.end ?? decodePruned(bytes, offset)?.end;
      if (end === undefined && at === segments.length - 1) break;
      if (end === undefined) throw new HpccError("audit.corrupt", `${segment} is damaged at byte ${offset}`);
      const record = frame?.payload.includes(HOLD) ? decodeRecord(frame.payload) : null;
      if (record !== null && record.envelope.sequence <= size) holds.take(record);
      offset = end;
      if (frames % FRAMES_AT_ONCE === 0) await setImmediate();
    }
    signal.throwIfAborted();
  }
  return holds;
}
