// Removes from PostgreSQL what retention has removed from a log. The log's signed row of kind `prune` is the order, which stays in the
// database until it is carried out; then the stub stands beside it. UNTRUSTED: a log's folder.
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex, sha256 } from "../../core/digest/digest.ts";
import { equal } from "../../core/merkle/proof.ts";
import { listPrunes } from "../prune/stub-files.ts";
import { pruneName } from "../pruned-frame.ts";
import { RemovedRows } from "../pruned-stub.ts";
import { listSegments, partsOf, readSegment } from "../read-log.ts";
import { type AuditRecord, segmentSequence } from "../segment.ts";
import type { Database } from "./database.ts";

/** What a row of a log says that retention removed. */
export interface Removal {
  /** Number of that row. */
  readonly sequence: number;
  readonly tenant: string;
  /** Rows that the log had when it was decided. */
  readonly size: number;
  readonly first: number;
  readonly last: number;
  readonly rows: number;
  /** Root over numbers and hashes of the rows. */
  readonly removed: Digest;
  readonly stub: Digest;
}

/** Null for a row of anything else. */
export function removalOf({ row, envelope }: AuditRecord): Removal | null {
  if (envelope.kind !== "prune" || envelope.event !== "rows") return null;
  const { sequence, size, first, last, rows, removed, stub } = envelope;
  return { sequence, tenant: row.tenant, size, first, last, rows, removed, stub };
}

const INSERT = `
INSERT INTO hpcc_audit.removal (log, sequence, tenant, size, first, last, rows, removed, stub)
VALUES ($1, $2, $3, $4, $5, $6, $7, decode($8, 'hex'), decode($9, 'hex')) ON CONFLICT DO NOTHING`;

/** Keeps them as orders, in the transaction of the rows that say them. */
export async function noteRemovals(database: Database, log: string, removals: readonly Removal[]): Promise<void> {
  for (const { sequence, tenant, size, first, last, rows, removed, stub } of removals) {
    const numbers = [size, first, last, rows];
    await database.run(INSERT, [log, sequence, tenant, ...numbers, digestHex(removed), digestHex(stub)]);
  }
}

interface RemovalRow {
  readonly sequence: string;
  readonly tenant: string;
  readonly size: string;
  readonly first: string;
  readonly last: string;
  readonly rows: string;
  readonly removed: string;
  readonly stub: string;
}

/** Those of a log that were not carried out. */
export async function openRemovals(database: Database, log: string): Promise<Removal[]> {
  const found = await database.rows<RemovalRow & Record<string, unknown>>(
    `SELECT sequence, tenant, size, first, last, rows, encode(removed, 'hex') AS removed, encode(stub, 'hex') AS stub
    FROM hpcc_audit.removal WHERE log = $1 AND note IS NULL ORDER BY sequence`,
    [log],
  );
  return found.map((row) => ({
    sequence: Number(row.sequence),
    tenant: row.tenant,
    size: Number(row.size),
    first: Number(row.first),
    last: Number(row.last),
    rows: Number(row.rows),
    removed: `sha256:${row.removed}` as Digest,
    stub: `sha256:${row.stub}` as Digest,
  }));
}

/** Whether the role may remove rows at all. */
export async function mayRemove(database: Database): Promise<boolean> {
  const [row] = await database.rows<{ may: boolean }>(
    "SELECT has_table_privilege('hpcc_audit.record', 'DELETE') AS may",
  );
  return row?.may === true;
}

const DELETE = `
DELETE FROM hpcc_audit.record AS there USING unnest($2::bigint[], $3::text[]) AS gone (sequence, leaf)
WHERE there.log = $1 AND there.sequence = gone.sequence AND there.leaf = decode(gone.leaf, 'hex')`;
const LEFT = "SELECT min(sequence) AS sequence FROM hpcc_audit.record WHERE log = $1 AND sequence = ANY ($2::bigint[])";
const DONE = "UPDATE hpcc_audit.removal SET note = $3 WHERE log = $1 AND sequence = $2";

/**
 * Removes the rows, all or none, and keeps the stub; gives how many were there. Null while the log has not removed them itself. Throws
 * `audit.corrupt` where stub, hashes and the log's row do not fit together, or where the database has another row in their place.
 */
export async function carryOut(
  database: Database,
  { folder, log }: { readonly folder: string; readonly log: string },
  removal: Removal,
): Promise<number | null> {
  const { sequence, tenant, stub, removed } = removal;
  const name = pruneName(removal);
  const file = (await listPrunes(folder, tenant)).find((one) => one.name === name);
  if (file === undefined || file.ranges !== null) return null;
  if (sha256(file.note) !== stub)
    throw new HpccError("audit.corrupt", `the stub ${name} is not the one that row ${sequence} of ${log} names`);
  return database.transaction(async () => {
    const all = new RemovedRows();
    let count = 0;
    for await (const rows of removedRows(folder, removal)) {
      for (const [at, leaf] of rows.leaves.entries()) all.add(rows.first + at, leaf);
      const numbers = rows.leaves.map((_, at) => rows.first + at);
      count += await database.run(DELETE, [log, numbers, rows.leaves.map((leaf) => leaf.toString("hex"))]);
      const [left] = await database.rows<{ sequence: string | null }>(LEFT, [log, numbers]);
      if (left?.sequence != null)
        throw new HpccError("audit.corrupt", `row ${left.sequence} of ${log}, which was pruned, is another one here`);
    }
    if (!equal(all.root(), Buffer.from(digestHex(removed), "hex")))
      throw new HpccError("audit.corrupt", `the rows that are gone of ${log} are not those that row ${sequence} names`);
    await database.run(DONE, [log, sequence, file.note.toString("utf8")]);
    return count;
  });
}

interface Run {
  readonly first: number;
  readonly leaves: readonly Buffer[];
}

/** Runs of the rows that a removal took from the log, in order. */
async function* removedRows(folder: string, { tenant, size, first, last }: Removal): AsyncGenerator<Run> {
  const segments = await listSegments(folder);
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    if (segmentSequence(segment)! > last) return;
    if (next !== undefined && segmentSequence(next)! <= first) continue;
    for (const { first: number, part } of partsOf(await readSegment(folder, segment), segment, { last }))
      if ("leaves" in part && part.id.tenant === tenant && part.id.size === size)
        yield { first: number, leaves: part.leaves };
  }
}
