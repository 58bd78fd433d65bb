// Who had been answered with results that are revoked: read from the audit log, in one pass and in bounded memory.
import { readLog } from "../audit/read-log.ts";
import { reachOf } from "../audit/revoked-rows.ts";
import type { AuditRecord } from "../audit/segment.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { Revocation } from "../core/revocation.ts";

/** A job that was answered with a result that is revoked now. */
export interface ServedRow {
  readonly row: Digest;
  readonly sequence: number;
  readonly kind: "compile" | "hit";
  /** SPIFFE id of the client. */
  readonly principal: string;
  readonly tenant: string;
  readonly startMs: number;
  readonly vm: string;
  readonly actionKey: Digest;
  readonly outputDigest: Digest | null;
}

export interface Served {
  readonly total: number;
  /** The newest, oldest first; at most `SERVED_LISTED_MAX`. */
  readonly rows: readonly ServedRow[];
}

export const SERVED_LISTED_MAX = 1000;

/** Rows of jobs of one tenant, or of all for null, that a revocation reaches. UNTRUSTED: nothing; the log is this worker's. */
export async function servedRows(
  auditFolder: string,
  revocation: Revocation,
  tenant: string | null,
  signal: AbortSignal,
): Promise<Served> {
  const reaches = reachOf(revocation);
  const rows: ServedRow[] = [];
  let total = 0;
  for await (const { record } of readLog(auditFolder)) {
    signal.throwIfAborted();
    if (tenant !== null && record.row.tenant !== tenant) continue;
    const served = servedRow(record);
    if (served === null || !reaches(record)) continue;
    total++;
    rows.push(served);
    if (rows.length > 2 * SERVED_LISTED_MAX) rows.splice(0, SERVED_LISTED_MAX);
  }
  return { total, rows: rows.slice(-SERVED_LISTED_MAX) };
}

function servedRow({ row, digest, envelope }: AuditRecord): ServedRow | null {
  if ((envelope.kind !== "compile" && envelope.kind !== "hit") || row.vm === null) return null;
  const { kind, sequence, principal, startMs, actionKey } = envelope;
  const { tenant, vm, outputDigest } = row;
  return { row: digest, sequence, kind, principal, tenant, startMs, vm, actionKey, outputDigest };
}
