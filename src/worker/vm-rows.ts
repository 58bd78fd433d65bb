// A VM's life as audit rows of kind `vm`: its boot with all digests before it runs anything, and its end.
import type { AuditLog } from "../audit/audit-log.ts";
import type { EnvelopeBody } from "../audit/envelope.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { VmEventSink } from "../vm/pool.ts";
import type { VmEvent } from "../vm/vm-event.ts";
import { versionsForRows } from "./execute-action.ts";

export interface VmRowsOptions {
  readonly log: AuditLog;
  readonly worker: string;
  readonly clock: Clock;
}

/** Resolves when the row is durable; the pool destroys a VM whose boot cannot be recorded. */
export function vmRows({ log, worker, clock }: VmRowsOptions): VmEventSink {
  return async (event) => {
    const now = clock.wallMs();
    const vm = event.t === "boot-failed" ? null : event.vm;
    const lastedMs = event.t === "booted" ? event.bootMs : event.t === "destroyed" ? event.lifeMs : 0;
    const body: EnvelopeBody = {
      kind: "vm",
      note: noteOf(event),
      principal: null,
      startMs: now - Math.round(lastedMs),
      endMs: now,
      isolation: vm?.isolation ?? null,
      life: vm === null ? null : "warm",
      actionKey: null,
      resultDigest: null,
      compileUs: null,
      versions: vm === null ? {} : { ...versionsForRows(vm), user: event.key.user },
    };
    await log.append(
      {
        imageDigest: event.key.image,
        sourceDigest: null,
        flags: null,
        outputDigest: null,
        tenant: event.key.tenant,
        worker,
        vm: vm?.id ?? null,
        durationUs: Math.round(lastedMs * 1000),
        exit: null,
      },
      body,
    );
  };
}

function noteOf(event: VmEvent): string {
  switch (event.t) {
    case "booted":
      return "booted";
    case "boot-failed":
      return `boot failed: ${event.error instanceof HpccError ? event.error.code : "job.failed"}`;
    case "destroyed":
      return `destroyed: ${event.reason} after ${event.executions} executions`;
  }
}
