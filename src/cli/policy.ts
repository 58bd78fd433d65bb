// `hpcc policy check FILE`: what a site's policy comes to.
import { HpccError } from "../base/errors.ts";
import { readPolicyFile } from "../config/policy-file.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type Principal, parseSpiffeId, spiffeId } from "../core/identity/spiffe.ts";
import type { Isolation } from "../core/isolation.ts";
import {
  changesBetween,
  entriesOf,
  fieldsOf,
  nameOfEntry,
  type PolicyEntry,
  type PolicyField,
  printValue,
  warningsOf,
  warningsOfChange,
} from "../core/policy/policy-report.ts";
import { rulesOf, type SitePolicy, tierOf } from "../core/policy/site-policy.ts";
import { refusalOf } from "../core/policy/version-order.ts";
import { printable, table } from "./output.ts";

export interface PolicyCheckOptions {
  /** The principal whose policy is asked for; null for everybody's. */
  readonly principal: string | null;
  /** The file that is in force now. */
  readonly against: string | null;
  readonly isolation: Isolation;
}

interface ShownEntry {
  readonly tenant: string | null;
  readonly tier: string | null;
  readonly fields: Readonly<Record<string, PolicyField[1]>>;
}

export interface PolicyCheck {
  readonly file: string;
  readonly digest: Digest;
  readonly version: number;
  readonly unlisted: "serve" | "refuse";
  readonly isolation: Isolation;
  /** Those that were asked for. */
  readonly entries: readonly ShownEntry[];
  /** Who was asked for, and why he is refused if he is. */
  readonly principal: { readonly id: string; readonly refused: string | null } | null;
  readonly warnings: readonly string[];
  readonly against: {
    readonly digest: Digest;
    readonly version: number;
    readonly changes: readonly string[];
    /** Why a worker that has the other file refuses this one. */
    readonly refused: string | null;
  } | null;
}

/** Reads and checks a policy; throws `config.invalid` for one that no worker would take. */
export function checkPolicy(file: string, options: PolicyCheckOptions): PolicyCheck {
  const { isolation } = options;
  const policy = readPolicyFile(file);
  const before = options.against === null ? null : readPolicyFile(options.against);
  const asked = options.principal === null ? null : principalOf(options.principal);
  const refused = asked === null ? null : refusalFor(policy, asked);
  const entries = entriesOf(policy, isolation).filter((entry) => asked === null || holdsFor(policy, entry, asked));
  return {
    file,
    digest: policy.digest,
    version: policy.version,
    unlisted: policy.servesUnlisted ? "serve" : "refuse",
    isolation,
    entries: entries.map((entry) => ({
      tenant: entry.tenant,
      tier: entry.tier,
      fields: Object.fromEntries(fieldsOf(entry)),
    })),
    principal: asked && { id: spiffeId(asked), refused },
    warnings: [...warningsOf(policy), ...(before === null ? [] : warningsOfChange(before, policy))],
    against: before && compared(before, policy, isolation),
  };
}

function principalOf(text: string): Principal {
  const identity = parseSpiffeId(text);
  if (identity.kind !== "user")
    throw new HpccError("argument.invalid", `--for wants a user, spiffe://DOMAIN/tenant/NAME/user/NAME, not ${text}`);
  return identity;
}

function refusalFor(policy: SitePolicy, { tenant, user }: Principal): string | null {
  const rules = rulesOf(policy, tenant);
  if (rules === null) return `the tenant ${tenant} is not listed, and unlisted = "refuse"`;
  return rules.tiers.length > 0 && tierOf(rules, user) === null ? `no tier of ${tenant} names the user ${user}` : null;
}

function holdsFor(policy: SitePolicy, entry: PolicyEntry, { tenant, user }: Principal): boolean {
  const rules = rulesOf(policy, tenant);
  if (rules === null || (entry.tenant ?? "") !== (policy.tenants.has(tenant) ? tenant : "")) return false;
  return rules.tiers.length === 0 || tierOf(rules, user)?.name === entry.tier;
}

function compared(before: SitePolicy, after: SitePolicy, isolation: Isolation): PolicyCheck["against"] {
  const changes = changesBetween(before, after, isolation);
  return { digest: before.digest, version: before.version, changes, refused: refusalOf(after, before) };
}

/** False when something stands against handing the file out. */
export function isPolicyAcceptable({ against, principal }: PolicyCheck): boolean {
  return (against?.refused ?? principal?.refused ?? null) === null;
}

export function printPolicyCheck(check: PolicyCheck): string {
  const { against, principal } = check;
  const head = table([
    ["file", printable(check.file)],
    ["version", String(check.version)],
    ["digest", check.digest],
    ["other tenants", check.unlisted === "serve" ? "served, with the defaults" : "refused"],
  ]);
  const parts = [head, ...check.entries.map(printEntry)];
  if (principal?.refused) parts.push(`${printable(principal.id)} is refused: ${principal.refused}\n`);
  if (against !== null) parts.push(printComparison(against));
  if (check.warnings.length > 0) parts.push(check.warnings.map((warning) => `warning: ${warning}\n`).join(""));
  return parts.join("\n");
}

/** Quotas and retention only where there is a limit. */
function printEntry({ tenant, tier, fields }: ShownEntry): string {
  const shown = Object.entries(fields).filter(([name, value]) => value !== null || !name.includes("."));
  return `${nameOfEntry({ tenant, tier })}\n${table(shown.map(([name, value]) => [`  ${name}`, printValue(name, value)]))}`;
}

function printComparison({ version, digest, changes, refused }: NonNullable<PolicyCheck["against"]>): string {
  const title = `changes since version ${version} (${digest})\n`;
  const lines = changes.length === 0 ? ["  none\n"] : changes.map((change) => `  ${change}\n`);
  return (
    title + lines.join("") + (refused === null ? "" : `A worker that has that version refuses this file: ${refused}\n`)
  );
}
