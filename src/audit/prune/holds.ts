// Legal holds: which are in force, as the log's own rows say, and which rows they hold. Pure.
import type { Digest } from "../../core/digest/digest.ts";
import type { AuditEnvelope } from "../envelope.ts";
import type { AuditRow } from "../row.ts";
import { actionKeyOf, resultDigestsOf } from "../rows/bodies.ts";
import type { AuditRecord } from "../segment.ts";

/** What a hold names; null for anything. A row that fits all of it is held. */
export interface HeldRows {
  readonly tenant: string | null;
  readonly principal: string | null;
  readonly image: Digest | null;
  /** The build that the client named. */
  readonly build: string | null;
  /** Of the row, or of its source, object, result or action. */
  readonly hash: Digest | null;
  /** The row ended from then on, and before then. */
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

export interface Hold extends HeldRows {
  readonly name: string;
  readonly reason: string;
  readonly askedBy: string;
  /** Number of the row that says it, and its time. */
  readonly row: number;
  readonly addedMs: number;
}

/** The holds that are in force after all the rows that were taken. */
export class Holds {
  readonly #byName = new Map<string, Hold>();

  take({ row, envelope }: Pick<AuditRecord, "row" | "envelope">): void {
    if (envelope.kind !== "hold") return;
    const { name } = envelope;
    if (envelope.event === "removed") {
      this.#byName.delete(name);
      return;
    }
    const { reason, askedBy, principal, build, hash, sinceMs, untilMs, endMs } = envelope;
    const tenant = row.tenant === "-" ? null : row.tenant;
    const held = { tenant, principal, image: row.imageDigest, build, hash, sinceMs, untilMs };
    this.#byName.set(name, { name, reason, askedBy, ...held, row: envelope.sequence, addedMs: endMs });
  }

  get inForce(): Hold[] {
    return [...this.#byName.values()];
  }

  get(name: string): Hold | null {
    return this.#byName.get(name) ?? null;
  }

  /** Whether any of them holds the row. */
  hold(record: AuditRecord): boolean {
    for (const hold of this.#byName.values()) if (isHeld(record, hold)) return true;
    return false;
  }
}

export function isHeld({ row, digest, envelope }: AuditRecord, held: HeldRows): boolean {
  const is = (wanted: string | null, value: string | null) => wanted === null || wanted === value;
  return (
    is(held.tenant, row.tenant) &&
    is(held.principal, "principal" in envelope ? envelope.principal : null) &&
    is(held.image, row.imageDigest) &&
    is(held.build, "build" in envelope ? envelope.build : null) &&
    (held.hash === null || hashesOf(row, digest, envelope).includes(held.hash)) &&
    (held.sinceMs === null || envelope.endMs >= held.sinceMs) &&
    (held.untilMs === null || envelope.endMs < held.untilMs)
  );
}

function hashesOf(row: AuditRow, digest: Digest, envelope: AuditEnvelope): (Digest | null)[] {
  return [digest, row.sourceDigest, row.outputDigest, actionKeyOf(envelope), ...resultDigestsOf(envelope)];
}
