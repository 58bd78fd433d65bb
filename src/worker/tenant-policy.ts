// What a worker's configuration says of each tenant.
import type { TenantId } from "../core/identity/spiffe.ts";
import type { Life } from "../core/life.ts";
import type { GoldenPolicy } from "../vm/pool-key.ts";

export interface TenantPolicy {
  readonly life: Life;
  readonly golden: GoldenPolicy;
}

/** By the tenant's name; who is not in it has the default. */
export type TenantPolicies = ReadonlyMap<string, TenantPolicy>;

const DEFAULT_POLICY: TenantPolicy = { life: "session", golden: "shared" };

export function policyOf(policies: TenantPolicies, tenant: TenantId): TenantPolicy {
  return policies.get(tenant) ?? DEFAULT_POLICY;
}
