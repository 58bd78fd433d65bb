// What a worker's host was when the worker started, as an audit row of kind `host` (docs/specs/audit-log.md).
import type { EnvelopeBody } from "../audit/envelope.ts";
import type { AuditRow } from "../audit/row.ts";
import type { Isolation } from "../core/isolation.ts";
import { type HostReport, namesWith } from "../vm/host/host-report.ts";

/** Texts come from files and programs of the host; longer ones are cut. */
const TEXT_LENGTH_MAX = 512;
const CHECK_PREFIX = "check.";

export interface HostRowOptions {
  readonly worker: string;
  readonly isolation: Isolation;
  readonly nowMs: number;
}

/** The row and its envelope. */
export function hostRow(report: HostReport, { worker, isolation, nowMs }: HostRowOptions): [AuditRow, EnvelopeBody] {
  const versions = Object.fromEntries([
    ...Object.entries(report.parts).map(([name, text]) => [name, cut(text)]),
    ...report.findings.map(({ name, status, found }) => [
      `${CHECK_PREFIX}${name.toLowerCase().replaceAll(" ", "_")}`,
      cut(`${status}: ${found}`),
    ]),
  ]) as Record<string, string>;
  return [
    {
      imageDigest: null,
      sourceDigest: null,
      flags: null,
      outputDigest: null,
      tenant: "-",
      worker,
      vm: null,
      durationUs: 0,
      exit: null,
    },
    {
      kind: "host",
      note: noteOf(report),
      principal: null,
      startMs: nowMs,
      endMs: nowMs,
      isolation,
      life: null,
      actionKey: null,
      resultDigest: null,
      compileUs: null,
      versions,
    },
  ];
}

/** "fail: cgroup v2; warn: SMT, swap", or "ok". */
function noteOf(report: HostReport): string {
  const parts = (["fail", "warn", "unknown"] as const).flatMap((status) => {
    const names = namesWith(report, status);
    return names.length === 0 ? [] : [`${status}: ${names.join(", ")}`];
  });
  return parts.length === 0 ? "ok" : parts.join("; ");
}

function cut(text: string): string {
  return text.length <= TEXT_LENGTH_MAX ? text : `${text.slice(0, TEXT_LENGTH_MAX)}...`;
}
