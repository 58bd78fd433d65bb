// Rows that belong to no job: what was taken back, the policy in force. One function for each event;
// each gives the row and its envelope for `AuditLog.append`.
import { type AuditRow, emptyRow } from "../../audit/row.ts";
import { type BodyOfKind, SERVED_ROWS_MAX } from "../../audit/rows/bodies.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { foreignText } from "./foreign-text.ts";

type Row<K extends "revoke" | "policy"> = [AuditRow, BodyOfKind<K>];

export interface RevokeEvent {
  readonly worker: string;
  /** Null where it is not about one tenant. */
  readonly tenant: string | null;
  readonly what: "vm" | "image" | "principal" | "key";
  readonly value: string;
  /** What was made up to then; null for ever. */
  readonly upToMs: number | null;
  readonly cause: "breach" | "confirmation" | "operator" | "peer";
  /** Who asked, where it was a person or a peer. */
  readonly askedBy: string | null;
  /** Results that were removed from look-up. */
  readonly entries: number;
  /** Jobs that had been answered with one of them (null: nobody looked), and the digests of their rows, newest first. */
  readonly served: number | null;
  readonly servedRows: readonly Digest[];
  readonly nowMs: number;
}

export function revokeRow({ worker, tenant, nowMs, ...event }: RevokeEvent): Row<"revoke"> {
  return [
    {
      ...emptyRow(worker),
      ...(tenant !== null && { tenant }),
      ...(event.what === "vm" && { vm: event.value }),
      ...(event.what === "image" && { imageDigest: event.value as Digest }),
    },
    {
      ...event,
      kind: "revoke",
      startMs: nowMs,
      endMs: nowMs,
      servedRows: event.servedRows.slice(0, SERVED_ROWS_MAX),
    },
  ];
}

export type PolicyEvent = {
  readonly worker: string;
  readonly digest: Digest | null;
  readonly version: number | null;
  /** Why it was refused; null when it came into force. */
  readonly problem: string | null;
  readonly nowMs: number;
};

export function policyRow({ worker, digest, version, problem, nowMs }: PolicyEvent): Row<"policy"> {
  const common = { kind: "policy", startMs: nowMs, endMs: nowMs, digest, version } as const;
  return [
    emptyRow(worker),
    problem === null
      ? { ...common, event: "in-force" }
      : { ...common, event: "refused", problem: foreignText(problem) },
  ];
}
