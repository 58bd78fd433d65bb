// The key of a VM: whose code it may run, and on which toolchain. Only makePoolKey makes one, from parts that are named,
// so that no string that happens to be at hand can stand in for it.
import type { Digest } from "../core/digest/digest.ts";
import type { IdentityName, Principal, TenantId } from "../core/identity/spiffe.ts";

declare const poolKeyBrand: unique symbol;

/** `session`: stays warm across the executions of one principal. */
export type TrustTier = "session";

export interface PoolKey {
  readonly [poolKeyBrand]: true;
  readonly tenant: TenantId;
  readonly user: IdentityName;
  readonly image: Digest;
  readonly trust: TrustTier;
  /** One string per key, for maps and logs; fields are length-prefixed, so that no two keys share one. */
  readonly text: string;
}

export interface PoolKeyParts {
  readonly principal: Principal;
  readonly image: Digest;
  readonly trust: TrustTier;
}

export function makePoolKey({ principal, image, trust }: PoolKeyParts): PoolKey {
  const { trustDomain, tenant, user } = principal;
  const text = [trustDomain, tenant, user, image, trust].map((field) => `${field.length}:${field}`).join("");
  return Object.freeze({ tenant, user, image, trust, text }) as PoolKey;
}
