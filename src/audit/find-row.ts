// Finds one row of a log's folder and reads no more than it must: a row's number says in which segment it stands, and the index knows the
// digests of rows. Nothing of the chain is checked here: whoever asks for a row proves it, or holds the log against its signature.
import { hash } from "node:crypto";
import { HpccError } from "../base/errors.ts";
import { AuditIndex } from "./index/audit-index.ts";
import { prunedRowsOf } from "./prune/gone.ts";
import { type PrunedFrame, pruneName } from "./pruned-frame.ts";
import { listSegments, partsOf, readSegment } from "./read-log.ts";
import { type AuditRecord, decodeRecord, segmentSequence } from "./segment.ts";

/** What a person calls a row. Digits alone may be both, and are its number in a log that has so many rows. */
export interface RowName {
  readonly sequence: number | null;
  /** The first hex digits of its digest. */
  readonly prefix: string | null;
}

const SEQUENCE = /^[1-9][0-9]{0,15}$/;
const DIGEST_PREFIX = /^(?:sha256:)?([0-9a-f]{8,64})$/;

/** Null for what is neither. UNTRUSTED: the caller. */
export function parseRowName(text: string): RowName | null {
  const sequence = SEQUENCE.test(text) && Number.isSafeInteger(Number(text)) ? Number(text) : null;
  const prefix = DIGEST_PREFIX.exec(text)?.[1] ?? null;
  return sequence === null && prefix === null ? null : { sequence, prefix };
}

/** The row among the first `size` ones, the newest of those with equal lines. Throws `hash.unknown`, or `evidence.gone` for one that was pruned. */
export async function findRow(folder: string, text: string, size: number): Promise<AuditRecord> {
  const name = parseRowName(text);
  if (name === null)
    throw new HpccError("argument.invalid", "a row is its number, or 8 or more hex digits of its digest");
  const { sequence, prefix } = name;
  if (sequence !== null && sequence <= size) return rowAt(folder, sequence);
  const found = prefix === null ? null : await rowOfDigest(folder, prefix, size);
  if (found !== null) return found;
  const removed = await prunedRowsOf(folder, null);
  const gone = removed === 0 ? "" : `, and ${removed} of them were pruned`;
  throw new HpccError("hash.unknown", `no row of the ${size} that are signed is ${text}${gone}`);
}

async function rowAt(folder: string, sequence: number): Promise<AuditRecord> {
  const segments = await listSegments(folder);
  const segment = segments.findLast((name) => segmentSequence(name)! <= sequence);
  if (segment !== undefined)
    for (const { first, rows, part } of partsOf(await readSegment(folder, segment), segment, { last: sequence })) {
      if (sequence >= first + rows) continue;
      if ("leaves" in part) throw pruned(sequence, part, folder);
      const record = decodeRecord(part.payload);
      if (record.envelope.sequence === sequence) return record;
      break;
    }
  throw new HpccError("audit.corrupt", `row ${sequence} of the audit log is not in its place`, {
    hint: "`hpcc audit verify` says what is wrong with the log.",
  });
}

/** The index is asked first. What it does not know is looked for in the log itself: an index is a hint, and may be behind or lost. */
async function rowOfDigest(folder: string, prefix: string, size: number): Promise<AuditRecord | null> {
  const index = await AuditIndex.open({ folder, readManifest: async () => null, keep: false, warn: () => undefined });
  try {
    const known = Math.min(index.sequence, size);
    const newer = await scanned(folder, prefix, { after: known, size });
    if (newer !== null) return newer;
    const found = known === 0 ? null : await index.find(prefix, null, known).catch(unknownIsNull);
    const [newest] = found?.kind === "row" ? found.records.filter(({ envelope }) => envelope.sequence <= size) : [];
    return newest ?? (await scanned(folder, prefix, { after: 0, size: known }));
  } finally {
    await index.close();
  }
}

function unknownIsNull(error: unknown): null {
  if (error instanceof HpccError && error.code === "hash.unknown") return null;
  throw error;
}

/** The newest row of a digest after a row and up to another, by reading all of them. Throws `argument.invalid` for digits of several. */
async function scanned(
  folder: string,
  prefix: string,
  { after, size }: { readonly after: number; readonly size: number },
): Promise<AuditRecord | null> {
  const segments = await listSegments(folder);
  let found: { readonly payload: Buffer; readonly digest: string } | null = null;
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    if (next !== undefined && segmentSequence(next)! <= after + 1) continue;
    if (segmentSequence(segment)! > size) break;
    for (const { first, part } of partsOf(await readSegment(folder, segment), segment, { last: size })) {
      if (first <= after || "leaves" in part) continue;
      const digest = hash("sha256", part.payload.subarray(0, part.payload.indexOf("\n")), "hex");
      if (!digest.startsWith(prefix)) continue;
      if (found !== null && found.digest !== digest)
        throw new HpccError("argument.invalid", `several rows' digests begin with ${prefix}; give more digits`);
      found = { payload: part.payload, digest };
    }
  }
  return found && decodeRecord(found.payload);
}

function pruned(sequence: number, { id }: PrunedFrame, folder: string): HpccError {
  const problem = `row ${sequence} was pruned; ${pruneName(id)} in ${folder}/pruned proves it`;
  return new HpccError("evidence.gone", problem, {
    hint: "Its hash is still in the log: a receipt of it proves that it was there.",
  });
}
