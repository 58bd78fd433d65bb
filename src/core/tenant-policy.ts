// How a tenant's VMs live, as a worker's configuration says it; and the default, stated here alone.
import type { TenantId } from "./identity/spiffe.ts";
import type { Life } from "./life.ts";

/** Which golden snapshot a VM may come from: the one that all tenants share, or its tenant's own. */
export const GOLDEN_POLICIES = ["shared", "own"] as const;
export type GoldenPolicy = (typeof GOLDEN_POLICIES)[number];

export interface TenantPolicy {
  readonly life: Life;
  readonly golden: GoldenPolicy;
}

/** By the tenant's name; who is not in it has the default. */
export type TenantPolicies = ReadonlyMap<string, TenantPolicy>;

export const DEFAULT_TENANT_POLICY: TenantPolicy = { life: "session", golden: "shared" };

export function policyOf(policies: TenantPolicies, tenant: TenantId): TenantPolicy {
  return policies.get(tenant) ?? DEFAULT_TENANT_POLICY;
}
