// Takes rows out of a log's closed segments: each segment is replaced as a whole by one that has their hashes in their place. What is done
// already is left as it is, so that a run that was cut off is gone over again.
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { HpccError } from "../../base/errors.ts";
import { digestHex } from "../../core/digest/digest.ts";
import { encodePruned, FRAME_ROWS_MAX, type PruneId } from "../pruned-frame.ts";
import { decodePart, listSegments, readSegment } from "../read-log.ts";
import { RangeCursor, type RowRange } from "../removed-ranges.ts";
import { type AuditRecord, segmentSequence } from "../segment.ts";
import type { PruneDisk } from "./stub-files.ts";

export interface RowsToRemove {
  readonly id: PruneId;
  readonly ranges: readonly RowRange[];
}

/** Resolves when none of the rows is on the disk any more. */
export async function removeRows(
  folder: string,
  prunes: readonly RowsToRemove[],
  { disk, signal }: { readonly disk: PruneDisk; readonly signal: AbortSignal },
): Promise<void> {
  const ends = prunes.flatMap(({ ranges }) => ranges);
  const first = Math.min(...prunes.map(({ ranges }) => ranges[0]?.[0] ?? Number.POSITIVE_INFINITY));
  const last = ends.reduce((max, [, end]) => Math.max(max, end), 0);
  const segments = await listSegments(folder);
  const leaving = new Leavers(prunes);
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    const begin = segmentSequence(segment)!;
    if (begin > last) break;
    if (next !== undefined && segmentSequence(next)! <= first) continue;
    // It is being written to, so the row that says what goes would not be there yet.
    if (next === undefined) throw new HpccError("audit.corrupt", `the rows to remove reach into the last segment`);
    signal.throwIfAborted();
    const bytes = await rewritten(await readSegment(folder, segment), segment, leaving);
    if (bytes !== null) await disk.write(join(folder, segment), bytes);
  }
  await disk.syncFolder(folder);
}

const PARTS_AT_ONCE = 256;

/** A segment without rows that go; null where none is in it. */
async function rewritten(segment: Buffer, name: string, leaving: Leavers): Promise<Buffer | null> {
  const out: Buffer[] = [];
  let run: { readonly id: PruneId; readonly first: number; readonly leaves: Buffer[] } | null = null;
  let changed = false;
  const flush = () => {
    if (run !== null) out.push(encodePruned(run.id, run.first, run.leaves));
    run = null;
  };
  for (let offset = 0, parts = 1; offset < segment.length; parts++) {
    const part = decodePart(segment, offset);
    if (part === null) throw new HpccError("audit.corrupt", `${name} is damaged at byte ${offset}`);
    const id: PruneId | null = "record" in part ? leaving.of(part.record) : null;
    if (id === null || !("record" in part)) {
      flush();
      out.push(segment.subarray(offset, part.end));
    } else {
      changed = true;
      if (run !== null && (run.id !== id || run.leaves.length === FRAME_ROWS_MAX)) flush();
      run ??= { id, first: part.record.envelope.sequence, leaves: [] };
      run.leaves.push(Buffer.from(digestHex(part.record.leaf), "hex"));
    }
    offset = part.end;
    if (parts % PARTS_AT_ONCE === 0) await setImmediate();
  }
  flush();
  return changed ? Buffer.concat(out) : null;
}

/** Which prune removes a row; asked in ascending order. */
class Leavers {
  readonly #byTenant = new Map<string, { readonly id: PruneId; readonly cursor: RangeCursor }[]>();

  constructor(prunes: readonly RowsToRemove[]) {
    for (const { id, ranges } of prunes) {
      const known = this.#byTenant.get(id.tenant) ?? [];
      this.#byTenant.set(id.tenant, [...known, { id, cursor: new RangeCursor(ranges) }]);
    }
  }

  of({ row, envelope }: AuditRecord): PruneId | null {
    return this.#byTenant.get(row.tenant)?.find(({ cursor }) => cursor.has(envelope.sequence))?.id ?? null;
  }
}
