// What must hold of a log after faults of any kind: each row that somebody was told of is there once and its receipt holds, the log is
// what was signed, and each torn end is kept and named by one row.
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { listSegments, readLog } from "../../src/audit/read-log.ts";
import { type AuditRecord, decodeFrame } from "../../src/audit/segment.ts";
import { verifyLog } from "../../src/audit/verify/verify-log.ts";
import { evidenceOfFolder, readReceipts } from "../../src/audit/verify-folder.ts";
import { digestHex } from "../../src/core/digest/digest.ts";
import { auditFolder, openSessionLog, type Told } from "./audit-session.ts";

/** The bytes at the log's end that are no row. */
async function tornBytes(folder: string): Promise<Buffer> {
  const last = (await listSegments(folder)).at(-1);
  if (last === undefined) return Buffer.alloc(0);
  const bytes = await readFile(join(folder, last));
  let end = 0;
  for (let frame = decodeFrame(bytes, 0); frame !== null; frame = decodeFrame(bytes, end)) end = frame.end;
  return bytes.subarray(end);
}

const asideOf = async (folder: string) => (await readdir(folder)).filter((name) => name.includes(".torn-"));

/** Starts the log again, with all that may fail working, and holds it against what was told. */
export async function checkSession(folder: string, told: readonly Told[], what: string): Promise<void> {
  const log = auditFolder(folder);
  const torn = await tornBytes(log);
  await (await openSessionLog(folder)).close();
  const records: AuditRecord[] = [];
  for await (const { record } of readLog(log)) records.push(record);
  for (const { version, sequence, leaf } of told) {
    const rows = records.filter(({ envelope }) => "version" in envelope && envelope.version === version);
    assert.deepEqual(
      rows.map((row) => [row.envelope.sequence, row.leaf]),
      [[sequence, leaf]],
      `${what}: row ${version}`,
    );
  }
  const receipts = told.map(({ row, leaf, proof }) => ({ row, leaf: Buffer.from(digestHex(leaf), "hex"), proof }));
  const kept = await readReceipts(join(folder, "client", "receipts")).catch(() => []);
  const verdict = await verifyLog(await evidenceOfFolder(log, { keys: [], receipts: [...receipts, ...kept] }));
  assert.deepEqual(verdict.problems, [], what);
  assert.equal(verdict.signedRows, verdict.rows, what);
  const said = records.flatMap(({ envelope }) =>
    envelope.kind === "log" && envelope.event === "torn" ? [`${envelope.file} ${envelope.bytes}`] : [],
  );
  const aside = await Promise.all(
    (await asideOf(log)).map(async (name) => `${name} ${(await readFile(join(log, name))).length}`),
  );
  assert.deepEqual(said.sort(), aside.sort(), `${what}: each torn end is named once`);
  const found = await Promise.all((await asideOf(log)).map(async (name) => readFile(join(log, name))));
  assert.ok(torn.length === 0 || found.some((bytes) => bytes.equals(torn)), `${what}: the torn end is kept`);
  assert.equal(records[0]?.envelope.kind === "log" && records[0].envelope.event, "key", `${what}: the first row`);
}
