// Puts a log's rows into PostgreSQL: each once, however often it is tried, and the position in the same transaction.
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { encodeEnvelope } from "../envelope.ts";
import type { AuditRecord } from "../segment.ts";
import type { Database } from "./database.ts";
import { noteRemovals } from "./removals.ts";
import { type Batch, LOG_START, type LogPosition } from "./signed-rows.ts";
import { storedText } from "./stored-text.ts";

const ALARM = { hint: "Keep the log and the database, and find out which of the two was altered, and by whom." };

interface LogRow {
  readonly rows: string;
  readonly leaf: Buffer | null;
  readonly nodes: Buffer;
  readonly key: string | null;
}

/** How far a log's rows are in the database; a log that it does not know yet is made known. */
export async function readPosition(database: Database, log: string): Promise<LogPosition> {
  await database.run("INSERT INTO hpcc_audit.log (name) VALUES ($1) ON CONFLICT DO NOTHING", [log]);
  const [row] = await database.rows<LogRow & Record<string, unknown>>(
    "SELECT rows, leaf, nodes, key FROM hpcc_audit.log WHERE name = $1",
    [log],
  );
  if (row === undefined) throw new HpccError("database.refused", `the database's role may not write the log ${log}`);
  if (row.leaf === null) return LOG_START;
  const leaf = `sha256:${row.leaf.toString("hex")}` as Digest;
  return { rows: Number(row.rows), leaf, nodes: row.nodes, key: row.key };
}

const INSERT = `
INSERT INTO hpcc_audit.record
  (log, sequence, leaf, tenant, kind, principal, build, vm, image, source, output, ended, line, envelope)
SELECT $1, sequence, decode(leaf, 'hex'), tenant, kind, principal, build, vm,
  decode(image, 'hex'), decode(source, 'hex'), decode(output, 'hex'),
  timestamptz 'epoch' + ended * interval '1 millisecond', line, envelope
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
  $11::text[], $12::bigint[], $13::text[], $14::text[])
  AS r (sequence, leaf, tenant, kind, principal, build, vm, image, source, output, ended, line, envelope)
ON CONFLICT DO NOTHING`;

const POSITION = "UPDATE hpcc_audit.log SET rows = $2, leaf = $3, nodes = $4, key = $5 WHERE name = $1 AND rows < $2";

/** Puts a batch down; gives how many of its rows were not there. Throws `audit.corrupt` for a row that is there as another one. */
export async function writeBatch(database: Database, log: string, batch: Batch): Promise<number> {
  const { records, position } = batch;
  return database.transaction(async () => {
    const added = records.length === 0 ? 0 : await database.run(INSERT, [log, ...columnsOf(records)]);
    if (added < records.length) await checkThere(database, log, records);
    await noteRemovals(database, log, batch.removals);
    const leaf = Buffer.from(digestHex(position.leaf), "hex");
    await database.run(POSITION, [log, position.rows, leaf, position.nodes, position.key]);
    return added;
  });
}

function columnsOf(records: readonly AuditRecord[]): unknown[][] {
  const hex = (digest: Digest | null) => (digest === null ? null : digestHex(digest));
  const of = (column: (record: AuditRecord) => unknown) => records.map(column);
  return [
    of(({ envelope }) => envelope.sequence),
    of(({ leaf }) => hex(leaf)),
    of(({ row }) => row.tenant),
    of(({ envelope }) => envelope.kind),
    of(({ envelope }) => storedText("principal" in envelope ? envelope.principal : null)),
    of(({ envelope }) => storedText("build" in envelope ? envelope.build : null)),
    of(({ row }) => row.vm),
    of(({ row }) => hex(row.imageDigest)),
    of(({ row }) => hex(row.sourceDigest)),
    of(({ row }) => hex(row.outputDigest)),
    of(({ envelope }) => envelope.endMs),
    of(({ line }) => line),
    of(({ envelope }) => encodeEnvelope(envelope)),
  ];
}

/** Rows that were there already must be these. */
async function checkThere(database: Database, log: string, records: readonly AuditRecord[]): Promise<void> {
  const rows = await database.rows<{ sequence: string; leaf: Buffer }>(
    "SELECT sequence, leaf FROM hpcc_audit.record WHERE log = $1 AND sequence = ANY ($2::bigint[])",
    [log, records.map(({ envelope }) => envelope.sequence)],
  );
  const there = new Map(rows.map(({ sequence, leaf }) => [Number(sequence), leaf.toString("hex")]));
  for (const { envelope, leaf } of records)
    if (there.get(envelope.sequence) !== digestHex(leaf))
      throw new HpccError(
        "audit.corrupt",
        `row ${envelope.sequence} of ${log} is another one in the database ${database.name} than in the log`,
        ALARM,
      );
}
