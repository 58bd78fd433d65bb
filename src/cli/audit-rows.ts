// `hpcc audit rows`: a worker's audit log as it stands on disk. Each record is checked, and its place in the chain, and that there
// are as many as the checkpoint says; no signature is.
import { join } from "node:path";
import { encodeEnvelope } from "../audit/envelope.ts";
import { checkReach, claimedRows } from "../audit/log-reach.ts";
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

export interface AuditRows {
  /** Oldest first; those before the damage where there is some. */
  readonly rows: AuditRowLine[];
  /** Why there may be more; null where the chain is whole, and as long as the checkpoint says. */
  readonly problem: HpccError | null;
}

/** The last rows of a worker's log. */
export async function auditRows(stateDirectory: string, countMax: number): Promise<AuditRows> {
  const folder = join(stateDirectory, "audit");
  if ((await listSegments(folder)).length === 0)
    throw new HpccError("argument.invalid", `${folder} holds no audit log; name a worker's state_dir with --state`);
  const claimed = await claimedRows(folder);
  const rows: AuditRowLine[] = [];
  let problem: HpccError | null = null;
  try {
    await readRows(folder, countMax, rows);
    await checkReach(folder, claimed);
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    problem = error;
  }
  return { rows: countMax === 0 ? [] : rows.slice(-countMax), problem };
}

async function readRows(folder: string, countMax: number, rows: AuditRowLine[]): Promise<void> {
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
}

/** The rows as TSV, as they stand in the log. */
export function printAuditRows(rows: readonly AuditRowLine[]): string {
  return rows.map(({ row }) => `${row}\n`).join("");
}
