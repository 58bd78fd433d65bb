// A VM's life as audit rows of kind `vm`: its boot with all digests before it runs anything, each time that it was parked and
// restored, and its end.
import type { AuditLog } from "../../audit/audit-log.ts";
import { emptyRow } from "../../audit/row.ts";
import type { BodyOfKind } from "../../audit/rows/bodies.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { VmEventSink } from "../../vm/pool.ts";
import type { VmEvent, VmIdentity } from "../../vm/vm-event.ts";
import { foreignText } from "./foreign-text.ts";

export interface VmRowsOptions {
  readonly log: AuditLog;
  readonly worker: string;
  readonly clock: Clock;
}

/** Resolves when the row is durable; the pool destroys a VM whose boot or restore cannot be recorded. */
export function vmRows({ log, worker, clock }: VmRowsOptions): VmEventSink {
  return async (event) => {
    const endMs = clock.wallMs();
    const lastedMs = durationMs(event);
    const { image, tenant } = event.owner;
    const vm = event.t === "boot-failed" ? null : event.vm.id;
    const row = { ...emptyRow(worker), imageDigest: image, tenant, vm, durationUs: Math.round(lastedMs * 1000) };
    await log.append(row, bodyOf(event, { startMs: endMs - Math.round(lastedMs), endMs }));
  };
}

/** A VM's versions, bounded: some are the guest's word. */
export function versionsForRows({ versions }: VmIdentity): Record<string, string> {
  return Object.fromEntries(Object.entries(versions).map(([name, text]) => [name, foreignText(text)]));
}

function durationMs(event: VmEvent): number {
  switch (event.t) {
    case "booted":
      return event.bootMs;
    case "boot-failed":
      return 0;
    case "parked":
      return event.parkMs;
    case "restored":
      return event.restoreMs;
    case "destroyed":
      return event.lifeMs;
  }
}

function bodyOf(event: VmEvent, times: { readonly startMs: number; readonly endMs: number }): BodyOfKind<"vm"> {
  const { trust: life, user } = event.owner;
  const common = { kind: "vm", ...times, life, user } as const;
  if (event.t === "boot-failed") {
    const code = event.error instanceof HpccError ? event.error.code : "job.failed";
    return { ...common, event: event.t, code };
  }
  const { isolation } = event.vm;
  const vm = { ...common, isolation, versions: versionsForRows(event.vm) };
  switch (event.t) {
    case "booted":
      return { ...vm, event: event.t, origin: event.origin === "golden" ? "golden" : "kernel" };
    case "parked":
      return {
        ...vm,
        event: event.t,
        parking: event.parking === "snapshot" ? "snapshot" : "memory",
        diskBytes: event.diskBytes,
      };
    case "restored":
      return { ...vm, event: event.t };
    case "destroyed":
      return { ...vm, event: event.t, reason: event.reason, executions: event.executions };
  }
}
