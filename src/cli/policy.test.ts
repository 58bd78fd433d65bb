import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkPolicy, isPolicyAcceptable, type PolicyCheckOptions, printPolicyCheck } from "./policy.ts";

const HEAD = 'schema = 1\nunlisted = "refuse"\n';
const TIERS = `[[tenants.acme.tiers]]
name = "release"
users = ["ci-release"]
sharing = "clean"
[[tenants.acme.tiers]]
name = "branch"
users = ["ci-*"]
user_quotas = { jobs = 4 }
`;

describe("hpcc policy check", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-policy-"));
  });
  after(() => rmSync(folder, { recursive: true }));

  let files = 0;
  const write = (content: string): string => {
    const file = join(folder, `${++files}.toml`);
    writeFileSync(file, content);
    return file;
  };
  const check = (content: string, options: Partial<PolicyCheckOptions> = {}) =>
    checkPolicy(write(content), { principal: null, against: null, isolation: "firecracker", ...options });
  const user = (tenant: string, name: string) => `spiffe://example.org/tenant/${tenant}/user/${name}`;

  test("prints what holds for each tenant and tier", () => {
    const checked = check(`${HEAD}version = 7\n${TIERS}`);
    assert.ok(isPolicyAcceptable(checked));
    const printed = printPolicyCheck(checked);
    assert.match(printed, /^version +7$/m);
    assert.match(printed, /^digest +sha256:[0-9a-f]{64}$/m);
    assert.match(printed, /^acme, tier release\n +users +ci-release\n +sharing +clean\n +life +clean$/m);
    assert.match(printed, /^acme, tier branch\n +users +ci-\*\n(.*\n)*? +served_by +branch, release\n +user.jobs +4$/m);
    assert.doesNotMatch(printed, /no limit/);
  });

  test("prints what holds for one user, and why one is refused", () => {
    const content = `${HEAD}version = 1\n[tenants.small]\n${TIERS}`;
    const shown = (tenant: string, name: string) => check(content, { principal: user(tenant, name) });
    assert.deepEqual(
      shown("acme", "ci-7").entries.map(({ tier }) => tier),
      ["branch"],
    );
    assert.deepEqual(
      shown("small", "ann").entries.map(({ tenant, tier }) => [tenant, tier]),
      [["small", null]],
    );
    for (const [tenant, name, why] of [
      ["acme", "ann", "no tier of acme names the user ann"],
      ["other", "ann", 'the tenant other is not listed, and unlisted = "refuse"'],
    ] as const) {
      const refused = shown(tenant, name);
      assert.deepEqual([refused.entries, refused.principal?.refused], [[], why]);
      assert.equal(isPolicyAcceptable(refused), false);
    }
    assert.throws(() => check(content, { principal: "spiffe://example.org/worker/w1" }), { code: "argument.invalid" });
  });

  test("warns of what is probably not meant", () => {
    const tier = (name: string, users: string) => `[[tenants.a.tiers]]\nname = "${name}"\nusers = ${users}\n`;
    for (const [content, warning] of [
      ["", "nobody is served"],
      [tier("x", '["*"]') + tier("y", '["bob"]'), "a, tier y: nobody can be in it, as tiers above it take all"],
      [tier("x", '["b*"]') + tier("y", '["bob", "*"]'), 'a, tier y: "bob" names nobody, as tier x takes them'],
      [tier("x", '["ci-*"]') + tier("y", '["*-pr", "*"]'), '"*-pr" of tier y overlap: a user "ci-pr" is in tier x'],
      [tier("x", '["b*"]'), "a: users whom no tier names are refused"],
      ["[tenants.a]\nquotas = { jobs = 1 }\nuser_quotas = { jobs = 2 }", "a: a user has a higher quota (jobs) than"],
      [
        `[tenants.a]\nquotas = { jobs = 1 }\n${tier("x", '["*"]')}quotas = { jobs = 2 }`,
        "a: tier x has a higher quota",
      ],
      ['[tenants.a]\nisolation_min = "qemu-tcg"', 'a: isolation_min = "qemu-tcg" is no boundary'],
      [tier("x", "[]"), "a, tier x: nobody can be in it, as its users are an empty list"],
      [tier("x", '["ci", "c..*"]'), 'a, tier x: "c..*" names nobody, as no user can have such a name'],
      [tier("x", '["*"]') + tier("y", '["*.b", "c.*"]'), "a, tier y: nobody can be in it, as tiers above it take all"],
      [
        `${tier("x", '["*"]')}quotas = { jobs = 2 }\nuser_quotas = { jobs = 64 }`,
        "a user of tier x has a higher quota",
      ],
      [
        `[tenants.a]\nquotas = { jobs = 2 }\n${tier("x", '["*"]')}user_quotas = { jobs = 64 }`,
        "a: a user of tier x has a higher quota (jobs) than the tenant",
      ],
      ["[tenants.a]\nimages = []", "a: nobody can compile, as images = [] allows none"],
      [`${tier("x", '["*"]')}images = []`, "a, tier x: nobody can compile, as images = [] allows none"],
    ] as const) {
      const { warnings } = check(`${HEAD}version = 1\n${content}`);
      assert.ok(
        warnings.some((line) => line.includes(warning)),
        `${warning}: ${warnings.join("; ")}`,
      );
    }
    const clean = `${HEAD}version = 1\n${tier("x", '["ci-release"]')}${tier("y", '["ci-*", "a.*.b"]')}${tier("z", '["*"]')}`;
    assert.deepEqual(check(clean).warnings, [], "an exception above its rule is meant");
  });

  test("tells of the defaults what concerns tenants that are not listed", () => {
    const defaults = `[defaults]
isolation_min = "namespace"
quotas = { jobs = 2 }
user_quotas = { jobs = 64 }
retention = { automatic = true }
`;
    const served = check(`schema = 1\nunlisted = "serve"\nversion = 1\n${defaults}`);
    assert.deepEqual(served.warnings, [
      "tenants that are not listed: a user has a higher quota (jobs) than the tenant; the lower one holds",
      'tenants that are not listed: isolation_min = "namespace" is no boundary against hostile code; use it for tests alone',
      "tenants that are not listed: retention is automatic and has no limit, so that nothing is ever removed",
    ]);
    assert.deepEqual(
      served.entries.map(({ tenant, fields }) => [tenant, fields["retention.removal"]]),
      [[null, "by workers, once a day"]],
    );
    const refused = check(
      `${HEAD}version = 1\n${defaults}[tenants.a]\nisolation_min = "firecracker"\nquotas.jobs = 64\n`,
    );
    assert.deepEqual(
      refused.warnings.filter((line) => line.startsWith("tenants that are not listed")),
      ["tenants that are not listed: retention is automatic and has no limit, so that nothing is ever removed"],
    );
    assert.match(
      printPolicyCheck(refused),
      /^tenants that are not listed\n +served +no\n +retention.removal +by workers, once a day$/m,
    );
  });

  test("shows how long rows of refused tenants stay, and what changes that", () => {
    const kept = (retention: string) => `${HEAD}version = 1\n[defaults]\nretention = ${retention}\n[tenants.a]\n`;
    const old = write(kept("{ days = 3650 }"));
    const changed = kept("{ days = 1, automatic = true }").replace("version = 1", "version = 2");
    const ofRetention = [
      "retention.days: 3650 -> 1",
      "retention.removal: by `hpcc audit prune --policy` -> by workers, once a day",
    ];
    assert.deepEqual(
      check(changed, { against: old }).against?.changes,
      ["a", "tenants that are not listed"].flatMap((name) => ofRetention.map((change) => `${name}: ${change}`)),
    );
    const serving = changed.replace("refuse", "serve");
    assert.deepEqual(check(serving, { against: old }).against?.changes.slice(2), [
      "tenants that are not listed: served: no -> yes",
      ...ofRetention.map((change) => `tenants that are not listed: ${change}`),
    ]);
  });

  test("a file that is not there is named, and no command that says nothing of it", () => {
    const file = join(folder, "none.toml");
    assert.throws(() => checkPolicy(file, { principal: null, against: null, isolation: "firecracker" }), {
      code: "config.invalid",
      message: /^cannot read .*none\.toml: ENOENT/,
      hint: "Correct the file, variable or flag that is named.",
    });
  });

  test("prints empty lists as such", () => {
    const printed = printPolicyCheck(
      check(`${HEAD}version = 1\n[[tenants.a.tiers]]\nname = "x"\nusers = []\nimages = []\n`),
    );
    assert.match(printed, /^ +users +none$/m);
    assert.match(printed, /^ +images +none$/m);
  });

  test("says what changes against another file, and whether a worker takes it", () => {
    const old = write(`${HEAD}version = 3\n[tenants.gone]\n${TIERS}`);
    const changed = `${HEAD}version = 4\n[tenants.new]\n${TIERS.replace("jobs = 4", "jobs = 8").replace("clean", "confirm")}`;
    const { against } = check(changed, { against: old });
    assert.deepEqual(against?.changes, [
      "gone: no longer listed",
      "new: new",
      "acme, tier release: sharing: clean -> confirm",
      "acme, tier release: life: clean -> session",
      "acme, tier branch: user.jobs: 4 -> 8",
    ]);
    assert.equal(against?.refused, null);
    const [release, branch] = TIERS.split("[[tenants.acme.tiers]]").slice(1);
    const turned = `${HEAD}version = 4\n[[tenants.acme.tiers]]${branch}[[tenants.acme.tiers]]${release}`;
    const ofTurn =
      /tier branch was below tier release and is above it now.*give a tier that becomes more trusted a new name/;
    assert.ok(check(turned, { against: old }).warnings.some((warning) => ofTurn.test(warning)));
    assert.ok(!check(changed, { against: old }).warnings.some((warning) => ofTurn.test(warning)));
    for (const [version, refused] of [
      [2, /its version is 2, and version 3 has been seen/],
      [3, /another file with that version has been seen/],
    ] as const) {
      const stale = check(changed.replace("version = 4", `version = ${version}`), { against: old });
      assert.match(stale.against?.refused ?? "", refused);
      assert.equal(isPolicyAcceptable(stale), false);
      assert.match(printPolicyCheck(stale), /refuses this file/);
    }
  });
});
