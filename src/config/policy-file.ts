// Reads a site's policy file (docs/operations/policy.md): TOML in, the core's SitePolicy out, with all defaults filled in.
import { readFileSync } from "node:fs";
import { HpccError } from "../base/errors.ts";
import { type Digest, parseDigest, sha256 } from "../core/digest/digest.ts";
import { NAME, NAME_RULE } from "../core/identity/spiffe.ts";
import { ISOLATIONS, isolationAtLeast } from "../core/isolation.ts";
import { LIVES } from "../core/life.ts";
import type { SitePolicy, TenantRules, TierRules } from "../core/policy/site-policy.ts";
import { parseUserPattern } from "../core/policy/user-pattern.ts";
import { DEFAULT_GOLDEN, GOLDEN_POLICIES, NO_QUOTAS, type Quotas, SHARINGS } from "../core/tenant-policy.ts";
import { parseToml } from "./load.ts";
import { TableReader } from "./table-reader.ts";
import { lineOf } from "./toml-lines.ts";
import { BOOLEAN, byteSize, integer, listOf, oneOf, text, type ValueKind } from "./value.ts";

const SCHEMA = 1;
export const POLICY_BYTES_MAX = 1024 * 1024;
const TIERS_MAX = 16;
const VERSION_MAX = 2_147_483_647;
const JOBS_MAX = 100_000;
const BYTES_MAX = Number.MAX_SAFE_INTEGER;
const CPU_SECONDS_MAX = 1_000_000_000;
const US_PER_SECOND = 1_000_000;
const DAYS_MAX = 36_500;

const DIGESTS = listOf(text('a digest "sha256:..."', (value) => parseDigest(value, "the digest")));
/** Null stands for all. */
const IMAGES: ValueKind<ReadonlySet<Digest> | null> = {
  expected: 'a list of digests "sha256:...", or "*" for all that the worker has',
  parse(value) {
    if (value === "*") return null;
    const digests = DIGESTS.parse(value, null);
    return digests && new Set(digests);
  },
  fromText: (value) => value,
};
const PATTERNS = listOf(text("a user's name, in which * stands for any characters", parseUserPattern));
const TIER_NAME = text(`a name: ${NAME_RULE}`, (value) => {
  if (!NAME.test(value)) throw new HpccError("config.invalid", "no name");
  return value;
});

const NO_RULES: TenantRules = {
  life: null,
  sharing: null,
  golden: DEFAULT_GOLDEN,
  isolationMin: null,
  images: null,
  quotas: NO_QUOTAS,
  userQuotas: NO_QUOTAS,
  retention: { days: null, bytes: null, automatic: false },
  tiers: [],
};

/** Reads the policy file at `path`. */
export function readPolicyFile(path: string): SitePolicy {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new HpccError("config.invalid", `cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
  return parsePolicy(bytes, path);
}

/** Parses a policy; `shown` names it in errors. UNTRUSTED: whoever may write the file. */
export function parsePolicy(bytes: Uint8Array, shown: string): SitePolicy {
  const invalid = (where: string, problem: string) =>
    new HpccError("config.invalid", `${where}: ${problem}`, { hint: "`hpcc policy check FILE` checks a policy." });
  if (bytes.length > POLICY_BYTES_MAX) throw invalid(shown, `it is larger than ${POLICY_BYTES_MAX} bytes`);
  let content: string;
  try {
    content = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid(shown, "it is not UTF-8");
  }
  const root = new TableReader(parseToml(content, shown), (path, problem) => {
    const line = lineOf(content, path);
    const name = path.map((word) => (typeof word === "number" ? `[${word + 1}]` : `.${word}`)).join("");
    return invalid(line === null ? shown : `${shown}:${line}`, `${name.slice(1)} ${problem}`);
  });
  const schema = root.required("schema", integer(0, VERSION_MAX), `say schema = ${SCHEMA}`);
  if (schema !== SCHEMA) throw root.wrong("schema", `is ${schema}, and this version of hpcc reads ${SCHEMA}`);
  const version = root.required("version", integer(1, VERSION_MAX), "a number that grows with every change");
  const unlisted = root.required("unlisted", oneOf(["serve", "refuse"]), 'for other tenants: "serve" or "refuse"');
  const defaultsTable = root.table("defaults");
  const defaults = readTenant(defaultsTable, NO_RULES, false);
  const tenants = root.table("tenants").named({ pattern: NAME, rule: NAME_RULE }, "a tenant");
  const policy = {
    digest: sha256(bytes),
    version,
    servesUnlisted: unlisted === "serve",
    defaults,
    tenants: new Map(tenants.map(([name, table]) => [name, readTenant(table, defaults, true)])),
  };
  root.end();
  return policy;
}

type Said = Pick<TenantRules, "life" | "sharing" | "isolationMin" | "images" | "userQuotas">;

function readTenant(table: TableReader, above: TenantRules, mayHaveTiers: boolean): TenantRules {
  const said = readSaid(table, above);
  const retention = table.table("retention");
  const rules: TenantRules = {
    ...said,
    golden: table.value("golden", oneOf(GOLDEN_POLICIES)) ?? above.golden,
    quotas: readQuotas(table.table("quotas"), above.quotas),
    retention: {
      days: retention.value("days", integer(1, DAYS_MAX)) ?? above.retention.days,
      bytes: retention.value("bytes", byteSize(1, BYTES_MAX)) ?? above.retention.bytes,
      automatic: retention.value("automatic", BOOLEAN) ?? above.retention.automatic,
    },
    tiers: [],
  };
  retention.end();
  const tiers = mayHaveTiers ? readTiers(table, rules) : [];
  table.end();
  return { ...rules, tiers };
}

function readTiers(table: TableReader, tenant: TenantRules): TierRules[] {
  const names = new Set<string>();
  return table.tables("tiers", TIERS_MAX).map((tier) => {
    const name = tier.required("name", TIER_NAME, "each tier has one");
    if (names.has(name)) throw tier.wrong("name", `is that of another tier of this tenant too`);
    names.add(name);
    const users = tier.required(
      "users",
      PATTERNS,
      'a list of names or patterns, such as ["ci-*"]; ["*"] for all others',
    );
    const rules = { name, users, ...readSaid(tier, tenant), quotas: readQuotas(tier.table("quotas"), NO_QUOTAS) };
    checkNarrower(tier, rules, tenant);
    tier.end();
    return rules;
  });
}

/** What a tenant may not do, none of its tiers may. */
function checkNarrower(table: TableReader, tier: TierRules, tenant: TenantRules): void {
  const floor = tenant.isolationMin;
  if (floor !== null && (tier.isolationMin === null || !isolationAtLeast(tier.isolationMin, floor)))
    throw table.wrong("isolation_min", `is weaker than the tenant's ${floor}; a tier may only ask for more`);
  for (const image of tier.images ?? [])
    if (tenant.images !== null && !tenant.images.has(image))
      throw table.wrong("images", `names ${image}, which the tenant's images lack; add it there, or take it out`);
  if (tier.images === null && tenant.images !== null)
    throw table.wrong("images", 'is "*" and the tenant has a list; leave it out to have the tenant\'s');
}

function readSaid(table: TableReader, above: Said): Said {
  const images = table.value("images", IMAGES);
  const rules = {
    life: table.value("life", oneOf(LIVES)) ?? above.life,
    sharing: table.value("sharing", oneOf(SHARINGS)) ?? above.sharing,
    isolationMin: table.value("isolation_min", oneOf(ISOLATIONS)) ?? above.isolationMin,
    images: images === undefined ? above.images : images,
    userQuotas: readQuotas(table.table("user_quotas"), above.userQuotas),
  };
  if (rules.sharing === "clean" && rules.life === "session")
    throw table.wrong(
      table.has("life") ? "life" : "sharing",
      'cannot be so: life = "session" keeps VMs warm, and sharing = "clean" shares what clean VMs made alone; ' +
        'set sharing = "confirm", or life = "clean"',
    );
  return rules;
}

function readQuotas(table: TableReader, above: Quotas): Quotas {
  const cpuSeconds = table.value("cpu_seconds_per_day", integer(1, CPU_SECONDS_MAX));
  const quotas = {
    jobsMax: table.value("jobs", integer(1, JOBS_MAX)) ?? above.jobsMax,
    bytesPerDayMax: table.value("source_bytes_per_day", byteSize(1, BYTES_MAX)) ?? above.bytesPerDayMax,
    cpuUsPerDayMax: cpuSeconds === undefined ? above.cpuUsPerDayMax : cpuSeconds * US_PER_SECOND,
  };
  table.end();
  return quotas;
}
