// The rule of tiers, through all that decides it: whatever a policy says, no result of a lower tier is under a key that somebody of
// a higher one is answered from, and none of another tenant under any.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { ACTION } from "../../../test/support/layer-jobs.ts";
import { resultKeys } from "../action/result-keys.ts";
import { sha256 } from "../digest/digest.ts";
import { type Principal, parseSpiffeId } from "../identity/spiffe.ts";
import { NO_QUOTAS, SHARINGS } from "../tenant-policy.ts";
import { jobPolicyOf, type SitePolicy, type TenantRules } from "./site-policy.ts";
import { parseUserPattern } from "./user-pattern.ts";

const SOURCE = sha256(Buffer.from("source"));
const USERS = ["ann", "bob", "ci-main", "ci-release", "ci-pr-1"];
const RULES = { life: null, isolationMin: null, images: null, quotas: NO_QUOTAS, userQuotas: NO_QUOTAS } as const;

const sharing = fc.constantFrom(null, ...SHARINGS);
const users = fc.uniqueArray(fc.constantFrom("*", "ci-*", "*-pr-*", "a*", ...USERS).map(parseUserPattern), {
  minLength: 1,
  maxLength: 3,
});
const tiers = fc.uniqueArray(fc.record({ name: fc.constantFrom("a", "b", "c", "d"), users, sharing }), {
  selector: ({ name }) => name,
  maxLength: 4,
});
const tenants: fc.Arbitrary<TenantRules> = fc.record({ tiers, sharing }).map((said) => ({
  ...RULES,
  golden: "shared",
  retention: { days: null, bytes: null, automatic: false },
  sharing: said.sharing,
  tiers: said.tiers.map((tier) => ({ ...RULES, ...tier })),
}));

function principal(tenant: string, user: string): Principal {
  const id = parseSpiffeId(`spiffe://example.org/tenant/${tenant}/user/${user}`);
  assert.ok(id.kind === "user");
  return id;
}

/** What somebody is answered from, and where what he compiles may be put; null for one who is not served. */
function keysOf(policy: SitePolicy, who: Principal) {
  const held = jobPolicyOf(policy, who, "firecracker");
  if (held === null) return null;
  const { candidates, shared, own } = resultKeys({
    action: ACTION,
    sourceDigest: SOURCE,
    principal: who,
    policy: held,
  });
  const rank = policy.tenants.get(who.tenant)!.tiers.findIndex(({ name }) => name === held.tier);
  const put = [shared, own].flatMap((key) => (key === null ? [] : [key.key]));
  return { tier: held.tier, rank, read: new Set(candidates.map(({ key }) => key)), put };
}

describe("keys under a policy", () => {
  test("never give a result of a lower tier to a higher one, nor to another tenant", () => {
    let pairs = 0;
    fc.assert(
      fc.property(tenants, tenants, (acme, other) => {
        const policy: SitePolicy = {
          digest: SOURCE,
          version: 1,
          servesUnlisted: false,
          defaults: acme,
          tenants: new Map([
            ["acme", acme],
            ["other", other],
          ]),
        };
        const mine = USERS.map((user) => keysOf(policy, principal("acme", user)));
        const foreign = keysOf(policy, principal("other", "ann"));
        for (const reader of mine)
          for (const [maker, isForeign] of [...mine.map((keys) => [keys, false] as const), [foreign, true] as const]) {
            if (reader === null || maker === null || (!isForeign && maker.rank <= reader.rank)) continue;
            pairs += 1;
            for (const key of maker.put)
              assert.ok(!reader.read.has(key), `${reader.tier} reads what ${maker.tier} made`);
          }
      }),
    );
    assert.ok(pairs > 100, `${pairs} pairs`);
  });

  test("give a lower tier what a higher one shared", () => {
    const acme: TenantRules = {
      ...RULES,
      sharing: "confirm",
      golden: "shared",
      retention: { days: null, bytes: null, automatic: false },
      tiers: [
        { ...RULES, sharing: "clean", name: "release", users: [parseUserPattern("ci-release")] },
        { ...RULES, sharing: "confirm", name: "laptop", users: [parseUserPattern("*")] },
      ],
    };
    const tenant = new Map([["acme", acme]]);
    const policy: SitePolicy = { digest: SOURCE, version: 1, servesUnlisted: false, defaults: acme, tenants: tenant };
    const [release, laptop] = ["ci-release", "ann"].map((user) => keysOf(policy, principal("acme", user))!);
    assert.ok(laptop!.read.has(release!.put[0]!));
  });
});
