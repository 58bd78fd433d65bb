// The key of a VM: whose code it may run, on which toolchain, and how it lives. Only makePoolKey makes one, from parts that
// are named, so that no string that happens to be at hand can stand in for it.
import type { Digest } from "../core/digest/digest.ts";
import type { IdentityName, Principal, TenantId } from "../core/identity/spiffe.ts";
import type { Life } from "../core/life.ts";
import { DEFAULT_GOLDEN, type GoldenPolicy } from "../core/tenant-policy.ts";

declare const poolKeyBrand: unique symbol;

/** `session`: stays across the executions of one principal. `clean`: has run nothing, runs one execution, is destroyed. */
export type TrustTier = Life;

export interface PoolKey {
  readonly [poolKeyBrand]: true;
  readonly tenant: TenantId;
  readonly user: IdentityName;
  readonly image: Digest;
  readonly trust: TrustTier;
  readonly golden: GoldenPolicy;
  /** One string per key, for maps and logs; fields are length-prefixed, so that no two keys share one. */
  readonly text: string;
  /** One string for all users of the tenant: as long as a clean VM has run nothing, it may become any of theirs. */
  readonly spareText: string;
  /** Whom it counts for when places and room are shared, one name each: its tenant, that one's user, the key itself. */
  readonly parties: readonly [tenant: string, principal: string, key: string];
}

/** Whose a VM is, as its rows say. A clean one belongs to its tenant until a job gets it, and has no user before. */
export interface VmOwner {
  readonly tenant: TenantId;
  readonly user: IdentityName | null;
  readonly image: Digest;
  readonly trust: TrustTier;
}

export interface PoolKeyParts {
  readonly principal: Principal;
  readonly image: Digest;
  readonly trust: TrustTier;
  /** By default that of a tenant without a policy. */
  readonly golden?: GoldenPolicy;
}

export function makePoolKey(parts: PoolKeyParts): PoolKey {
  const { principal, image, trust, golden = DEFAULT_GOLDEN } = parts;
  const { trustDomain, tenant, user } = principal;
  const text = joined([trustDomain, tenant, user, image, trust, golden]);
  const spareText = joined([trustDomain, tenant, image, golden]);
  const parties = [joined([trustDomain, tenant]), joined([trustDomain, tenant, user]), text] as const;
  return Object.freeze({ tenant, user, image, trust, golden, text, spareText, parties }) as PoolKey;
}

function joined(fields: readonly string[]): string {
  return fields.map((field) => `${field.length}:${field}`).join("");
}
