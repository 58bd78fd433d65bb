// What a policy comes to, for people who write one: what holds for whom, what is probably not meant, what a change changes. Pure.
import { NAME } from "../identity/spiffe.ts";
import type { Isolation } from "../isolation.ts";
import type { JobPolicy, Quotas } from "../tenant-policy.ts";
import { jobPolicy, type Retention, type SitePolicy, type TenantRules, type TierRules } from "./site-policy.ts";
import { commonUser, coversUsers, type UserPattern } from "./user-pattern.ts";

/** What holds for one tier of a tenant, or for a tenant that has none. */
export interface PolicyEntry {
  /** Null: tenants that are not listed. */
  readonly tenant: string | null;
  readonly tier: string | null;
  /** Null: all users of the tenant. */
  readonly users: readonly UserPattern[] | null;
  /** Null: they are refused. What rows there are of them stay for as long as `retention` says. */
  readonly policy: JobPolicy | null;
  readonly retention: Retention;
}

/** A name and its value, as JSON may have it; null for "not limited", or "as the worker has it". */
export type PolicyField = readonly [name: string, value: string | number | readonly string[] | null];

export function entriesOf(policy: SitePolicy, isolation: Isolation): PolicyEntry[] {
  const { defaults, servesUnlisted, tenants } = policy;
  const refused = { tenant: null, tier: null, users: null, policy: null, retention: defaults.retention };
  return [
    ...[...tenants].flatMap(([tenant, rules]) => entriesOfTenant(tenant, rules, isolation)),
    ...(servesUnlisted ? entriesOfTenant(null, defaults, isolation) : [refused]),
  ];
}

function entriesOfTenant(tenant: string | null, rules: TenantRules, isolation: Isolation): PolicyEntry[] {
  const { retention, tiers } = rules;
  if (tiers.length === 0)
    return [{ tenant, tier: null, users: null, policy: jobPolicy(rules, null, isolation), retention }];
  return tiers.map((tier) => {
    const policy = jobPolicy(rules, tier, isolation);
    return { tenant, tier: tier.name, users: tier.users, policy, retention };
  });
}

/** All that an entry says, in the words of the file. */
export function fieldsOf({ policy, retention, tenant, users }: PolicyEntry): PolicyField[] {
  return [
    ...(tenant === null ? [["served", policy === null ? "no" : "yes"] as const] : []),
    ...(users === null ? [] : [["users", users] as const]),
    ...(policy === null ? [] : jobFields(policy)),
    ["retention.days", retention.days],
    ["retention.bytes", retention.bytes],
    ["retention.removal", removal(retention)],
  ];
}

function jobFields(policy: JobPolicy): PolicyField[] {
  const { tenant, tier, principal } = policy.quotas;
  return [
    ["sharing", policy.sharing],
    ["life", policy.life],
    ["golden", policy.golden],
    ["isolation_min", policy.isolationMin],
    ["images", policy.images === null ? null : [...policy.images].toSorted()],
    ...(policy.tier === null ? [] : [["served_by", policy.readableTiers as readonly string[]] as const]),
    ...quotaFields("tenant", tenant),
    ...(policy.tier === null ? [] : quotaFields("tier", tier)),
    ...quotaFields("user", principal),
  ];
}

/** Who removes what is over the limits; null where nobody does. */
function removal({ days, bytes, automatic }: Retention): string | null {
  if (automatic) return "by workers, once a day";
  return days === null && bytes === null ? null : "by `hpcc audit prune --policy`";
}

function quotaFields(whose: string, { jobsMax, bytesPerDayMax, cpuUsPerDayMax }: Quotas): PolicyField[] {
  return [
    [`${whose}.jobs`, jobsMax],
    [`${whose}.source_bytes_per_day`, bytesPerDayMax],
    [`${whose}.cpu_seconds_per_day`, cpuUsPerDayMax === null ? null : cpuUsPerDayMax / 1e6],
  ];
}

const UNLISTED = "tenants that are not listed";

/** "acme, tier release", "acme", "tenants that are not listed". */
export function nameOfEntry({ tenant, tier }: Pick<PolicyEntry, "tenant" | "tier">): string {
  return (tenant ?? UNLISTED) + (tier === null ? "" : `, tier ${tier}`);
}

/** What is allowed, and probably not meant. */
export function warningsOf(policy: SitePolicy): string[] {
  const { defaults, servesUnlisted, tenants } = policy;
  const warnings = [...tenants].flatMap(([tenant, rules]) => tenantWarnings(tenant, rules));
  // What they say of jobs concerns nobody else: listed tenants have been warned of it.
  warnings.push(...(servesUnlisted ? tenantWarnings(UNLISTED, defaults) : retentionWarnings(UNLISTED, defaults)));
  if (tenants.size === 0 && !servesUnlisted)
    warnings.push('nobody is served: no tenant is listed, and unlisted = "refuse"');
  return warnings;
}

function tenantWarnings(tenant: string, rules: TenantRules): string[] {
  return [
    ...tierWarnings(tenant, rules),
    ...imageWarnings(tenant, rules),
    ...quotaWarnings(tenant, rules),
    ...isolationWarnings(tenant, rules),
    ...retentionWarnings(tenant, rules),
  ];
}

function tierWarnings(tenant: string, { tiers }: TenantRules): string[] {
  const warnings: string[] = [];
  for (const [index, tier] of tiers.entries()) {
    const above = tiers.slice(0, index);
    const named = `${tenant}, tier ${tier.name}`;
    const dead = tier.users.flatMap((pattern) => {
      const why = namesNobody(above, pattern);
      return why === null ? [] : [{ pattern, why }];
    });
    if (tier.users.length === 0) warnings.push(`${named}: nobody can be in it, as its users are an empty list`);
    else if (tier.users.every((pattern) => coveredBy(above, pattern) !== null))
      warnings.push(`${named}: nobody can be in it, as tiers above it take all of its users`);
    else for (const { pattern, why } of dead) warnings.push(`${named}: "${pattern}" names nobody, as ${why}`);
    warnings.push(...overlaps(tenant, above, tier));
  }
  if (tiers.length > 0 && !tiers.some(({ users }) => users.some((pattern) => pattern === "*")))
    warnings.push(`${tenant}: users whom no tier names are refused; a last tier with users = ["*"] would take them`);
  return warnings;
}

/** Why nobody is in a tier by this pattern; null when somebody may be. */
function namesNobody(above: readonly TierRules[], pattern: UserPattern): string | null {
  // A letter fits wherever anything does.
  if (!NAME.test(pattern.replaceAll("*", "a"))) return "no user can have such a name";
  const taker = coveredBy(above, pattern);
  return taker === null ? null : `tier ${taker} takes them`;
}

function coveredBy(tiers: readonly TierRules[], pattern: UserPattern): string | null {
  return tiers.find(({ users }) => users.some((other) => coversUsers(other, pattern)))?.name ?? null;
}

/** Names that fit two tiers, where neither pattern is plainly the exception to the other. */
function overlaps(tenant: string, above: readonly TierRules[], tier: TierRules): string[] {
  return above.flatMap((higher) =>
    higher.users.flatMap((theirs) =>
      tier.users.flatMap((ours) => {
        if (coversUsers(ours, theirs) || coversUsers(theirs, ours)) return [];
        const both = commonUser(theirs, ours);
        if (both === null) return [];
        const patterns = `"${theirs}" of tier ${higher.name} and "${ours}" of tier ${tier.name}`;
        return [`${tenant}: ${patterns} overlap: a user "${both}" is in tier ${higher.name}, the more trusted one`];
      }),
    ),
  );
}

function imageWarnings(tenant: string, { images, tiers }: TenantRules): string[] {
  const problem = "nobody can compile, as images = [] allows none";
  if (tiers.length === 0) return images?.size === 0 ? [`${tenant}: ${problem}`] : [];
  return tiers.flatMap((tier) => (tier.images?.size === 0 ? [`${tenant}, tier ${tier.name}: ${problem}`] : []));
}

function quotaWarnings(tenant: string, { quotas, tiers, userQuotas }: TenantRules): string[] {
  const warnings: string[] = [];
  const check = (name: string, inner: Quotas, outer: Quotas, whole: string) => {
    for (const key of QUOTA_KEYS)
      if (inner[key] !== null && outer[key] !== null && inner[key] > outer[key])
        warnings.push(`${name} has a higher quota (${QUOTA_NAMES[key]}) than ${whole}; the lower one holds`);
  };
  check(`${tenant}: a user`, userQuotas, quotas, "the tenant");
  for (const tier of tiers) {
    const user = `${tenant}: a user of tier ${tier.name}`;
    check(`${tenant}: tier ${tier.name}`, tier.quotas, quotas, "the tenant");
    check(user, tier.userQuotas, tier.quotas, "the tier");
    check(user, ownQuotas(tier.userQuotas, userQuotas), quotas, "the tenant");
  }
  return warnings;
}

/** Without what the tenant says too, which has been warned of once. */
function ownQuotas(quotas: Quotas, tenants: Quotas): Quotas {
  const own = (key: keyof Quotas) => (quotas[key] === tenants[key] ? null : quotas[key]);
  return {
    jobsMax: own("jobsMax"),
    bytesPerDayMax: own("bytesPerDayMax"),
    cpuUsPerDayMax: own("cpuUsPerDayMax"),
  };
}

const QUOTA_KEYS = ["jobsMax", "bytesPerDayMax", "cpuUsPerDayMax"] as const;
const QUOTA_NAMES = {
  jobsMax: "jobs",
  bytesPerDayMax: "source_bytes_per_day",
  cpuUsPerDayMax: "cpu_seconds_per_day",
} as const;

/** Namespaces and an emulator hold nobody back who wants out. */
function isolationWarnings(tenant: string, { isolationMin, tiers }: TenantRules): string[] {
  const floors = new Set([isolationMin, ...tiers.map((tier) => tier.isolationMin)]);
  return [...floors].flatMap((floor) =>
    floor === "namespace" || floor === "qemu-tcg"
      ? [`${tenant}: isolation_min = "${floor}" is no boundary against hostile code; use it for tests alone`]
      : [],
  );
}

function retentionWarnings(tenant: string, { retention: { days, bytes, automatic } }: TenantRules): string[] {
  return automatic && days === null && bytes === null
    ? [`${tenant}: retention is automatic and has no limit, so that nothing is ever removed`]
    : [];
}

/** What a change does that is probably not meant. */
export function warningsOfChange(before: SitePolicy, after: SitePolicy): string[] {
  return [...after.tenants].flatMap(([tenant, { tiers }]) => {
    const old = (before.tenants.get(tenant)?.tiers ?? []).map(({ name }) => name);
    const names = tiers.map(({ name }) => name).filter((name) => old.includes(name));
    return names.flatMap((name, index) =>
      names
        .slice(index + 1)
        .filter((lower) => old.indexOf(lower) < old.indexOf(name))
        .map(
          (lower) =>
            `${tenant}: tier ${name} was below tier ${lower} and is above it now, so results that it shared before serve ` +
            `${lower} too; give a tier that becomes more trusted a new name`,
        ),
    );
  });
}

/** One line for each difference that somebody would notice. */
export function changesBetween(before: SitePolicy, after: SitePolicy, isolation: Isolation): string[] {
  const [old, now] = [fieldsByName(before, isolation), fieldsByName(after, isolation)];
  const changes: string[] = [];
  for (const name of old.keys()) if (!now.has(name)) changes.push(`${name}: no longer listed`);
  for (const [name, fields] of now) {
    const earlier = old.get(name);
    if (earlier === undefined) changes.push(`${name}: new`);
    else
      for (const field of comparable(earlier, fields)) {
        const [was, is] = [printValue(field, earlier.get(field)), printValue(field, fields.get(field))];
        if (was !== is) changes.push(`${name}: ${field}: ${was} -> ${is}`);
      }
  }
  return changes;
}

type Fields = ReadonlyMap<string, PolicyField[1]>;

/** Who was or is refused has no more in common than what holds for his rows. */
function comparable(before: Fields, after: Fields): string[] {
  const fields = [...new Set([...before.keys(), ...after.keys()])];
  const isRefused = before.get("served") === "no" || after.get("served") === "no";
  return isRefused ? fields.filter((field) => before.has(field) && after.has(field)) : fields;
}

function fieldsByName(policy: SitePolicy, isolation: Isolation) {
  return new Map(
    entriesOf(policy, isolation).map((entry) => [nameOfEntry(entry), new Map<string, PolicyField[1]>(fieldsOf(entry))]),
  );
}

/** A field's value in words. */
export function printValue(name: string, value: PolicyField[1] | undefined): string {
  if (value === null || value === undefined) {
    if (name === "isolation_min") return "the worker's own";
    if (name === "retention.removal") return "none";
    return name === "images" ? "all that the worker has" : "no limit";
  }
  if (typeof value !== "object") return String(value);
  return value.length === 0 ? "none" : value.join(", ");
}
