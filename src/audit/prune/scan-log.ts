// Reads a log from its beginning to a row, giving the event loop back between rows: a worker goes on while its log is pruned.
import { setImmediate } from "node:timers/promises";
import { HpccError } from "../../base/errors.ts";
import { type LogItem, readItems } from "../read-log.ts";

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
