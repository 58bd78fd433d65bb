// `hpcc audit rows`: a worker's audit log as it stands on disk, checked record by record.
import { join } from "node:path";
import { encodeEnvelope } from "../audit/envelope.ts";
import { listSegments, readLog } from "../audit/read-log.ts";
import { noteOf } from "../audit/rows/bodies.ts";
import { HpccError } from "../base/errors.ts";

export interface AuditRowLine {
  /** The nine columns of C6. */
  readonly row: string;
  /** By which `hpcc inspect` finds it. */
  readonly digest: string;
  readonly kind: string;
  readonly note: string;
  readonly isolation: string | null;
  readonly envelope: string;
}

/** The last rows of a worker's log, oldest first. Throws `audit.corrupt` where the chain breaks. */
export async function auditRows(stateDirectory: string, countMax: number): Promise<AuditRowLine[]> {
  const folder = join(stateDirectory, "audit");
  if ((await listSegments(folder)).length === 0)
    throw new HpccError("argument.invalid", `${folder} holds no audit log; name a worker's state_dir with --state`);
  const rows: AuditRowLine[] = [];
  for await (const { record } of readLog(folder)) {
    const { envelope } = record;
    rows.push({
      row: record.line,
      digest: record.digest,
      kind: envelope.kind,
      note: noteOf(envelope),
      isolation: "isolation" in envelope ? envelope.isolation : null,
      envelope: encodeEnvelope(envelope),
    });
    if (rows.length > 2 * countMax) rows.splice(0, rows.length - countMax);
  }
  return rows.slice(-countMax);
}

/** The rows as TSV, as they stand in the log. */
export function printAuditRows(rows: readonly AuditRowLine[]): string {
  return rows.map(({ row }) => `${row}\n`).join("");
}
