// The keys of one job's result: under which it may be found, in which order, and under which it may be put. What may be shared is
// decided by the policy that held when the job was admitted, and by how the VM lived that made the result.
import type { Digest } from "../digest/digest.ts";
import { type Principal, spiffeId } from "../identity/spiffe.ts";
import type { Life } from "../life.ts";
import type { JobPolicy } from "../tenant-policy.ts";
import type { Action } from "./action.ts";
import { deriveActionKey } from "./action-key.ts";

/** Whose key it is: of all of the tenant (or of a tier of it), or of one principal. */
export interface ResultKey {
  readonly key: Digest;
  readonly scope: "tenant" | "principal";
  readonly tier: string | null;
}

export interface ResultKeys {
  /** Where a result of others, or of oneself, may be found; asked in this order. */
  readonly candidates: readonly ResultKey[];
  /** Under which all of the tenant find a result; null when the principal shares nothing. */
  readonly shared: ResultKey | null;
  /** Under which the principal alone finds it. */
  readonly own: ResultKey;
}

export interface ResultKeysParts {
  readonly action: Action;
  readonly sourceDigest: Digest;
  readonly principal: Principal;
  readonly policy: Pick<JobPolicy, "sharing" | "tier" | "readableTiers">;
}

export function resultKeys({ action, sourceDigest, principal, policy }: ResultKeysParts): ResultKeys {
  const { tenant } = principal;
  const { sharing, tier, readableTiers } = policy;
  const ofTier = (of: string | null): ResultKey => ({
    key: deriveActionKey({ action, sourceDigest, scope: { tenant, tier: of, principal: null } }),
    scope: "tenant",
    tier: of,
  });
  const ownScope = { tenant, tier, principal: spiffeId(principal) };
  const own: ResultKey = { key: deriveActionKey({ action, sourceDigest, scope: ownScope }), scope: "principal", tier };
  if (sharing === "private") return { candidates: [own], shared: null, own };
  const shared = ofTier(tier);
  const above = readableTiers.filter((other) => other !== tier).map(ofTier);
  return { candidates: [shared, ...above, own], shared, own };
}

/** Under which key a result is put. Only what a clean VM made may serve others: a warm one may be its user's own by now. */
export function keyToPut({ shared, own }: ResultKeys, life: Life): ResultKey {
  return shared !== null && life === "clean" ? shared : own;
}
