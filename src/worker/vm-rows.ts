// A VM's life as audit rows of kind `vm`: its boot with all digests before it runs anything, each time that it was parked and
// restored, and its end.
import type { AuditLog } from "../audit/audit-log.ts";
import type { EnvelopeBody } from "../audit/envelope.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { VmEventSink } from "../vm/pool.ts";
import type { VmEvent } from "../vm/vm-event.ts";
import { versionsForRows } from "./execute-action.ts";
import { lifeForRows } from "./job-record.ts";

export interface VmRowsOptions {
  readonly log: AuditLog;
  readonly worker: string;
  readonly clock: Clock;
}

/** Resolves when the row is durable; the pool destroys a VM whose boot or restore cannot be recorded. */
export function vmRows({ log, worker, clock }: VmRowsOptions): VmEventSink {
  return async (event) => {
    const now = clock.wallMs();
    const vm = event.t === "boot-failed" ? null : event.vm;
    const { owner } = event;
    const lastedMs = durationMs(event);
    const body: EnvelopeBody = {
      kind: "vm",
      note: noteOf(event),
      principal: null,
      startMs: now - Math.round(lastedMs),
      endMs: now,
      isolation: vm?.isolation ?? null,
      life: lifeForRows(owner.trust),
      actionKey: null,
      resultDigest: null,
      compileUs: null,
      versions: { ...(vm && versionsForRows(vm)), ...(owner.user !== null && { user: owner.user }) },
    };
    await log.append(
      {
        imageDigest: owner.image,
        sourceDigest: null,
        flags: null,
        outputDigest: null,
        tenant: owner.tenant,
        worker,
        vm: vm?.id ?? null,
        durationUs: Math.round(lastedMs * 1000),
        exit: null,
      },
      body,
    );
  };
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

function noteOf(event: VmEvent): string {
  switch (event.t) {
    case "booted":
      return event.origin === "golden" ? "booted from golden" : "booted";
    case "boot-failed":
      return `boot failed: ${event.error instanceof HpccError ? event.error.code : "job.failed"}`;
    case "parked":
      return event.parking === "snapshot" ? `parked: ${event.diskBytes} bytes on disk` : "parked: stopped, in memory";
    case "restored":
      return "restored";
    case "destroyed":
      return `destroyed: ${event.reason} after ${event.executions} executions`;
  }
}
