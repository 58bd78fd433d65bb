// What a VM made is worth nothing once its guest has broken the contract: it is taken out of the cache, whenever that is found out.
import type { AuditLog } from "../audit/audit-log.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { TenantId } from "../core/identity/spiffe.ts";
import type { RevokedBy } from "../core/revocation.ts";
import type { ActionCache, TenantStore } from "../store/action-cache.ts";
import type { Swept } from "../store/disk/disk-revocations.ts";
import type { VmEventSink } from "../vm/pool.ts";
import { revokeRow } from "./rows/log-rows.ts";

const BREACH: RevokedBy = { cause: "breach", askedBy: null };

/** Resolves when nothing of the VM is found any more; what cannot be written down holds until the worker ends, and is logged. */
export async function takeBack(
  vm: string,
  actions: ActionCache,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Promise<void> {
  try {
    await actions.revoke({ kind: "vm", value: vm, atMs: clock.wallMs() }, BREACH);
  } catch (error) {
    logger.error("worker.results.not_taken_back", { vm, error: String(error) });
  }
}

/** Tells events on, and takes back what a VM made that ended by a breach, also one that no job saw. */
export function takingBack(
  events: VmEventSink,
  store: (tenant: TenantId) => TenantStore,
  on: { readonly clock: Clock; readonly logger: Logger },
): VmEventSink {
  return async (event) => {
    if (event.t === "destroyed" && event.reason === "breach")
      await takeBack(event.vm.id, store(event.owner.tenant).actions, on);
    await events(event);
  };
}

export interface TakenBackOptions {
  readonly log: AuditLog;
  readonly worker: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Writes the row that says how many results were removed. */
export function takenBackRows({ log, worker, clock, logger }: TakenBackOptions) {
  return ({ tenant, mark, entries }: Swept): void => {
    const { kind, value, atMs, by } = mark;
    const row = revokeRow({
      worker,
      tenant,
      what: kind,
      value,
      upToMs: kind === "vm" ? null : atMs,
      ...by,
      entries,
      served: null,
      servedRows: [],
      nowMs: clock.wallMs(),
    });
    log
      .append(...row)
      .catch((error: unknown) => logger.error("vm.event.lost", { event: "taken-back", error: String(error) }));
  };
}
