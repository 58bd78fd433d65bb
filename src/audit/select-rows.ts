// The rows that may fit a question, where the index says which parts of a log need not be read: those with other digests, and segments
// of other times. What it gives may fit or not; what it leaves out does not, if the index is right. UNTRUSTED: a log.

import { AuditIndex } from "./index/audit-index.ts";
import type { Entry } from "./index/entry.ts";
import { prunedRowsOf } from "./prune/gone.ts";
import { CHAIN_START, listSegments, RecordReader, readItems } from "./read-log.ts";
import { type AuditRecord, type ChainState, segmentSequence } from "./segment.ts";

/** What is wanted; null for anything. */
export interface RowSelection {
  readonly tenant: string | null;
  /** A digest, or the start of its digits. */
  readonly source: string | null;
  readonly output: string | null;
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

const DIGITS = /^(?:sha256:)?([0-9a-f]{8,64})$/;
/** Records of one digest that are looked up one by one; to read the whole log is no slower. */
const ENTRIES_MAX = 100_000;

/**
 * Rows of a log in order, all that fit among them. `removed` is told how many rows were pruned. Throws as `readItems` does, for what it reads.
 */
export async function* selectRows(
  folder: string,
  selection: RowSelection,
  removed: (rows: number) => void,
): AsyncGenerator<AuditRecord> {
  const digest = digestOf(selection);
  const isTimed = selection.sinceMs !== null || selection.untilMs !== null;
  if (digest === null && !isTimed) return yield* rowsAfter(folder, CHAIN_START, removed);
  const index = await AuditIndex.open({ folder, readManifest: async () => null, keep: false, warn: () => undefined });
  try {
    const { prefix, kind } = digest ?? {};
    const entries = prefix === undefined ? null : index.entries(prefix, kind!, selection.tenant, ENTRIES_MAX);
    if (entries === null) return yield* rowsAfter(folder, CHAIN_START, removed, skipped(index, selection));
    removed(await prunedRowsOf(folder, null));
    let from: ChainState = CHAIN_START;
    for await (const record of recordsOf(folder, entries)) {
      // The index is of another log, or of one that was changed: the rest is looked for in the log itself.
      if (record === null) return yield* rowsAfter(folder, from, () => undefined);
      from = { sequence: record.envelope.sequence, leaf: record.leaf };
      yield record;
    }
    yield* rowsAfter(folder, index.position, () => undefined);
  } finally {
    await index.close();
  }
}

function digestOf({ source, output }: RowSelection): { prefix: string; kind: "blob" | "source" } | null {
  const [ofOutput, ofSource] = [output, source].map((text) => DIGITS.exec(text ?? "")?.[1]);
  if (ofOutput !== undefined) return { prefix: ofOutput, kind: "blob" };
  return ofSource === undefined ? null : { prefix: ofSource, kind: "source" };
}

/** All rows after one, but for those of segments to skip. */
export async function* rowsAfter(
  folder: string,
  from: ChainState,
  removed: (rows: number) => void,
  skip: ReadonlySet<string> = new Set(),
): AsyncGenerator<AuditRecord> {
  for await (const item of readItems(folder, from, skip))
    if (item.t === "row") yield item.placed.record;
    else removed(item.frame.leaves.length);
}

/** Segments without a row of these times. The one at which the index ends may have more than it knows. */
function skipped({ spans, position }: AuditIndex, { sinceMs, untilMs }: RowSelection): Set<string> {
  const isOut = ({ fromMs, toMs }: { readonly fromMs: number; readonly toMs: number }) =>
    (sinceMs !== null && toMs < sinceMs) || (untilMs !== null && fromMs >= untilMs);
  return new Set(
    [...spans.values()]
      .filter((span) => isOut(span) && span.segment !== position.at?.segment)
      .map(({ segment }) => segment),
  );
}

/** Null for one that is not where the index says, as the last. */
async function* recordsOf(folder: string, entries: readonly Entry[]): AsyncGenerator<AuditRecord | null> {
  const segments = await listSegments(folder);
  using reader = new RecordReader(folder);
  for (const { sequence, offset } of entries) {
    const segment = segments.findLast((name) => segmentSequence(name)! <= sequence);
    const record = segment === undefined ? null : reader.read({ segment, offset });
    if (record?.envelope.sequence !== sequence) return yield null;
    yield record;
  }
}
