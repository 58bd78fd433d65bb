// A site's policy: what one policy file says, with all defaults filled in. Pure; how the file is written is config's matter.
import type { Digest } from "../digest/digest.ts";
import type { Principal } from "../identity/spiffe.ts";
import type { Isolation } from "../isolation.ts";
import {
  type GoldenPolicy,
  type JobPolicy,
  type LivesAndSharing,
  livesAndSharing,
  NO_QUOTAS,
  type Quotas,
} from "../tenant-policy.ts";
import { matchesUser, type UserPattern } from "./user-pattern.ts";

/** What is said alike of a tenant and of a tier. */
interface Rules extends LivesAndSharing {
  readonly isolationMin: Isolation | null;
  /** Null: all that the worker has. */
  readonly images: ReadonlySet<Digest> | null;
  /** Of all users of the tenant or tier together. */
  readonly quotas: Quotas;
  /** Of each user alone. */
  readonly userQuotas: Quotas;
}

export interface TierRules extends Rules {
  readonly name: string;
  readonly users: readonly UserPattern[];
}

/** How long a tenant's rows stay, and what they need; null: without a limit. */
export interface Retention {
  readonly days: number | null;
  readonly bytes: number | null;
  /** Whether workers remove by themselves what is over it. */
  readonly automatic: boolean;
}

export interface TenantRules extends Rules {
  readonly golden: GoldenPolicy;
  readonly retention: Retention;
  /** From the most to the least trusted; empty for a tenant without tiers. */
  readonly tiers: readonly TierRules[];
}

export interface SitePolicy {
  /** Of the file's bytes. */
  readonly digest: Digest;
  /** Grows with every change. */
  readonly version: number;
  readonly servesUnlisted: boolean;
  /** What holds for tenants that the file does not list. */
  readonly defaults: TenantRules;
  readonly tenants: ReadonlyMap<string, TenantRules>;
}

/** The rules of a tenant; null when it is not served. */
export function rulesOf(policy: SitePolicy, tenant: string): TenantRules | null {
  return policy.tenants.get(tenant) ?? (policy.servesUnlisted ? policy.defaults : null);
}

/** The tier that a user is in: the first that names him. Null for a user of none. */
export function tierOf(rules: TenantRules, user: string): TierRules | null {
  return rules.tiers.find(({ users }) => users.some((pattern) => matchesUser(pattern, user))) ?? null;
}

/** What holds for a principal's jobs on a worker with machines of `isolation`; null for one who is not served. */
export function jobPolicyOf(policy: SitePolicy, principal: Principal, isolation: Isolation): JobPolicy | null {
  const rules = rulesOf(policy, principal.tenant);
  if (rules === null) return null;
  if (rules.tiers.length === 0) return jobPolicy(rules, null, isolation);
  const tier = tierOf(rules, principal.user);
  return tier === null ? null : jobPolicy(rules, tier, isolation);
}

/** What holds for the users of a tier, or of a tenant that has none. */
export function jobPolicy(rules: TenantRules, tier: TierRules | null, isolation: Isolation): JobPolicy {
  const { images, isolationMin, life, sharing, userQuotas } = tier ?? rules;
  return {
    ...livesAndSharing({ life, sharing }, isolation),
    golden: rules.golden,
    isolationMin,
    images,
    tier: tier?.name ?? null,
    readableTiers: tier === null ? [null] : readableTiers(rules, tier),
    quotas: { tenant: rules.quotas, tier: tier?.quotas ?? NO_QUOTAS, principal: userQuotas },
  };
}

/** The tier itself, then those above it, the nearest first. */
function readableTiers({ tiers }: TenantRules, tier: TierRules): readonly string[] {
  return tiers
    .slice(0, tiers.indexOf(tier) + 1)
    .map(({ name }) => name)
    .toReversed();
}
