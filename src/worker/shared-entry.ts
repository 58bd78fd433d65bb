// A result that serves a whole tenant, as those hear of it who tell others.
import type { Digest } from "../core/digest/digest.ts";
import type { TenantId } from "../core/identity/spiffe.ts";
import type { CachedAction, TenantStore } from "../store/action-cache.ts";

/** An entry that was put under a tenant's key. */
export interface SharedEntry {
  readonly tenant: TenantId;
  /** The trust tier that shared it; null where the tenant has none. */
  readonly tier: string | null;
  readonly key: Digest;
  readonly action: CachedAction;
  readonly store: TenantStore;
}
