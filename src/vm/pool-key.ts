// The key of a VM: whose code it may run, and on which toolchain. Only makePoolKey makes one, from parts that are named,
// so that no string that happens to be at hand can stand in for it.
import type { Digest } from "../core/digest/digest.ts";

declare const poolKeyBrand: unique symbol;

/** `session`: stays warm across the executions of one principal. */
export type TrustTier = "session";

export interface PoolKeyParts {
  readonly tenant: string;
  readonly principal: string;
  readonly image: Digest;
  readonly trust: TrustTier;
}

export type PoolKey = PoolKeyParts & { readonly [poolKeyBrand]: true };

export function makePoolKey(parts: PoolKeyParts): PoolKey {
  const { tenant, principal, image, trust } = parts;
  return Object.freeze({ tenant, principal, image, trust }) as PoolKey;
}

/** One string per key; fields are length-prefixed, so that no two keys share one. */
export function poolKeyText(key: PoolKey): string {
  return [key.tenant, key.principal, key.image, key.trust].map((field) => `${field.length}:${field}`).join("");
}
