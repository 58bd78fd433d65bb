import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { parseSpiffeId } from "../identity/spiffe.ts";
import { fixedPolicies, NO_QUOTAS, type Quotas } from "../tenant-policy.ts";
import { partiesOf, QuotaLedger, type QuotaParty } from "./quota-ledger.ts";

const NOON = Date.UTC(2026, 10, 28, 12);
const DAY_MS = 86_400_000;

function parties(tenant: Partial<Quotas>, user: Partial<Quotas> = {}, name = "ann"): QuotaParty[] {
  const principal = parseSpiffeId(`spiffe://example.org/tenant/acme/user/${name}`);
  assert.ok(principal.kind === "user");
  const policy = fixedPolicies().of(principal)!;
  const quotas = {
    tenant: { ...NO_QUOTAS, ...tenant },
    tier: NO_QUOTAS,
    principal: { ...NO_QUOTAS, ...user },
  };
  return partiesOf(principal, { ...policy, tier: "laptop", quotas });
}

test("a job counts for its tenant, its tier and its user", () => {
  assert.deepEqual(
    parties({}).map(({ name, key }) => `${name}: ${key}`),
    ["the tenant acme: acme", "tier laptop of acme: acme/tier/laptop", "the user ann of acme: acme/user/ann"],
  );
});

test("one job too many is refused with the quota's name, and counts for nobody", () => {
  const ledger = new QuotaLedger();
  const [ann, bob] = [parties({ jobsMax: 3 }, { jobsMax: 2 }), parties({ jobsMax: 3 }, { jobsMax: 2 }, "bob")];
  ledger.begin(ann);
  ledger.begin(ann);
  const tooMany = {
    code: "limit.exceeded",
    message: /the user ann of acme has 2 jobs under way .* quota \(jobs\) is 2/,
  };
  assert.throws(() => ledger.begin(ann), tooMany);
  ledger.begin(bob);
  assert.throws(() => ledger.begin(bob), { message: /^the tenant acme has 3 jobs/ });
  assert.equal(ledger.jobs("acme/user/bob"), 1);
  ledger.end(ann);
  ledger.begin(bob);
});

test("whatever begins and ends, no party has more jobs than its quota, and none is left over", () => {
  const users = ["ann", "bob", "eve"].map((name) => parties({ jobsMax: 4 }, { jobsMax: 2 }, name));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2), fc.boolean())), (steps) => {
      const ledger = new QuotaLedger();
      const running: QuotaParty[][] = [];
      for (const [who, begins] of steps) {
        const user = users[who]!;
        if (begins)
          try {
            ledger.begin(user);
            running.push(user);
          } catch {
            // It was one too many.
          }
        else if (running.length > 0) ledger.end(running.pop()!);
        assert.equal(ledger.jobs("acme"), running.length);
        for (const { key, quotas } of users.flat()) assert.ok(ledger.jobs(key) <= (quotas.jobsMax ?? 4));
      }
      for (const user of running) ledger.end(user);
      assert.equal(ledger.jobs("acme"), 0);
    }),
  );
});

test("what a day may cost is refused once it is used up, until the next day (UTC)", () => {
  const ledger = new QuotaLedger();
  const ann = parties({ bytesPerDayMax: 100 }, { cpuUsPerDayMax: 5_000_000 });
  ledger.check(ann, NOON);
  assert.equal(ledger.charge(ann, { bytes: 99, cpuUs: 4_999_999 }, NOON), true);
  ledger.check(ann, NOON);
  ledger.charge(ann, { bytes: 0, cpuUs: 1 }, NOON);
  const usedUp = {
    code: "limit.exceeded",
    message:
      "the user ann of acme has used up its quota (cpu_seconds_per_day) of 5 seconds on this worker for 2026-11-28; " +
      "the next one begins at 2026-11-29T00:00:00Z",
  };
  assert.throws(() => ledger.check(ann, NOON), usedUp);
  ledger.charge(ann, { bytes: 1, cpuUs: 0 }, NOON);
  assert.throws(() => ledger.check(parties({ bytesPerDayMax: 100 }, {}, "bob"), NOON), {
    message: /^the tenant acme has used up its quota \(source_bytes_per_day\) of 100 bytes/,
  });
  const again = new QuotaLedger(ledger.saved());
  assert.throws(() => again.check(ann, NOON + DAY_MS / 2 - 1), { code: "limit.exceeded" }, "after a restart too");
  again.check(ann, NOON + DAY_MS / 2);
  assert.deepEqual(again.used("acme"), { bytes: 0, cpuUs: 0 });
});

test("who has no quota for a day is not counted", () => {
  const ledger = new QuotaLedger();
  assert.equal(ledger.charge(parties({ jobsMax: 1 }), { bytes: 5, cpuUs: 5 }, NOON), false);
  assert.equal(ledger.saved().used.size, 0);
});
