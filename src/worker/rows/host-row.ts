// What a worker's host was when the worker started, as an audit row of kind `host` (docs/specs/audit-log.md).
import { type AuditRow, emptyRow } from "../../audit/row.ts";
import type { BodyOfKind } from "../../audit/rows/bodies.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { HostReport } from "../../vm/host/host-report.ts";
import { foreignText } from "./foreign-text.ts";

export interface HostRowOptions {
  readonly worker: string;
  readonly isolation: Isolation;
  readonly nowMs: number;
}

/** The row and its envelope. Texts come from files and programs of the host. */
export function hostRow(
  { parts, findings }: HostReport,
  { worker, isolation, nowMs }: HostRowOptions,
): [AuditRow, BodyOfKind<"host">] {
  const body = {
    kind: "host" as const,
    startMs: nowMs,
    endMs: nowMs,
    isolation,
    parts: Object.fromEntries(Object.entries(parts).map(([name, text]) => [name, foreignText(text)])),
    findings: findings.map(({ name, status, found }) => ({ name, status, found: foreignText(found) })),
  };
  return [emptyRow(worker), body];
}
