// Which rows of jobs a revocation reaches, and which rows of logs are about results that were revoked later.
import { HpccError } from "../base/errors.ts";
import type { Revocation } from "../core/revocation.ts";
import { recordsWith } from "./read-log.ts";
import { noteOf } from "./rows/bodies.ts";
import type { AuditRecord } from "./segment.ts";

/** Rows of revocations that are remembered; each names up to 100 others. */
const REVOCATIONS_MAX = 10_000;

/** True only for rows of compiles and hits. */
export type Reaches = (record: AuditRecord) => boolean;

export function reachOf({ kind, value, atMs }: Revocation): Reaches {
  switch (kind) {
    case "vm":
      return (record) => {
        const { row, envelope } = record;
        return isOfResult(record) && (row.vm === value || (envelope.kind === "hit" && envelope.confirmedBy === value));
      };
    case "image":
      return (record) => isMadeBy(record, atMs) && record.row.imageDigest === value;
    case "key":
      return (record) =>
        isMadeBy(record, atMs) && "actionKey" in record.envelope && record.envelope.actionKey === value;
    case "principal":
      return (record) => isMadeBy(record, atMs) && madeFor(record) === value;
  }
}

function isOfResult({ row, envelope }: AuditRecord): boolean {
  return (envelope.kind === "compile" || envelope.kind === "hit") && row.vm !== null;
}

function isMadeBy(record: AuditRecord, atMs: number): boolean {
  return isOfResult(record) && record.envelope.startMs <= atMs;
}

/** Who had the result compiled. */
function madeFor({ envelope }: AuditRecord): string | null {
  if (envelope.kind === "hit") return envelope.madeFor ?? envelope.principal;
  return envelope.kind === "compile" ? envelope.principal : null;
}

/** As it stands in an envelope; in a row's line the quotes would be escaped. */
const KIND = '"kind":"revoke"';

interface Revoked {
  readonly record: AuditRecord;
  readonly reaches: Reaches;
}

/** The revocations that logs tell of. */
export class Revocations {
  readonly #revoked: readonly Revoked[];

  private constructor(revoked: readonly Revoked[]) {
    this.#revoked = revoked;
  }

  /** Throws `limit.exceeded` where there are too many. */
  static async of(folders: readonly string[]): Promise<Revocations> {
    const revoked: Revoked[] = [];
    for (const folder of folders)
      for await (const record of recordsWith(folder, KIND)) {
        const { envelope } = record;
        if (envelope.kind !== "revoke") continue;
        if (revoked.length === REVOCATIONS_MAX)
          throw new HpccError("limit.exceeded", `the logs tell of more than ${REVOCATIONS_MAX} revocations`);
        const { what: kind, value, upToMs } = envelope;
        revoked.push({ record, reaches: reachOf({ kind, value, atMs: upToMs ?? Number.POSITIVE_INFINITY }) });
      }
    return new Revocations(revoked);
  }

  /** Why the result of a row is worth nothing any more; null where it is not revoked. */
  reasonOf(record: AuditRecord): string | null {
    for (const { record: by, reaches } of this.#revoked) {
      const { tenant } = by.row;
      if (!reaches(record) || (tenant !== "-" && tenant !== record.row.tenant)) continue;
      return `is about a result that was revoked: row ${by.envelope.sequence} of ${by.row.worker}, ${noteOf(by.envelope)}`;
    }
    return null;
  }
}
