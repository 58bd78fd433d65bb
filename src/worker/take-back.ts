// What a VM made is worth nothing once its guest has broken the contract: it is taken out of the cache, whenever that is found out.
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { TenantId } from "../core/identity/spiffe.ts";
import type { RevokedBy } from "../core/revocation.ts";
import type { ActionCache, TenantStore } from "../store/action-cache.ts";
import type { VmEventSink } from "../vm/pool.ts";

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
