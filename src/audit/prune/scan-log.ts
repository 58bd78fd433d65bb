// Reads a log from its beginning to a row, giving the event loop back between rows: a worker goes on while its log is pruned.
import { setImmediate } from "node:timers/promises";
import { HpccError } from "../../base/errors.ts";
import { type LogItem, readItems } from "../read-log.ts";

const ITEMS_AT_ONCE = 64;

/** Throws `audit.corrupt` where the log does not reach that row. */
export async function scanLog(folder: string, size: number, take: (item: LogItem) => void): Promise<void> {
  let row = 0;
  let items = 0;
  if (size === 0) return;
  for await (const item of readItems(folder)) {
    row = item.t === "row" ? item.placed.record.envelope.sequence : item.frame.first + item.frame.leaves.length - 1;
    take(item);
    if (row >= size) return;
    if (++items % ITEMS_AT_ONCE === 0) await setImmediate();
  }
  throw new HpccError("audit.corrupt", `the audit log ends at row ${row}, and ${size} rows were written`);
}
