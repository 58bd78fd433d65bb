import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sha256 } from "../core/digest/digest.ts";
import { parseSpiffeId } from "../core/identity/spiffe.ts";
import { jobPolicyOf, type SitePolicy } from "../core/policy/site-policy.ts";
import { parsePolicy } from "./policy-file.ts";

const HEAD = 'schema = 1\nversion = 3\nunlisted = "refuse"\n';
const [ONE, TWO] = [sha256(Buffer.from("1")), sha256(Buffer.from("2"))];

const parse = (content: string) => parsePolicy(Buffer.from(content), "p.toml");

function of(policy: SitePolicy, tenant: string, user = "ann") {
  const principal = parseSpiffeId(`spiffe://example.org/tenant/${tenant}/user/${user}`);
  assert.ok(principal.kind === "user");
  return jobPolicyOf(policy, principal, "firecracker");
}

const TIERED = `${HEAD}
[defaults]
user_quotas = { jobs = 8 }
[tenants.acme]
images = ["${ONE}", "${TWO}"]
isolation_min = "qemu-kvm"
golden = "own"
retention = { days = 30 }
[tenants.acme.quotas]
jobs = 100
source_bytes_per_day = "2GiB"
[[tenants.acme.tiers]]
name = "release"
users = ["ci-release"]
isolation_min = "firecracker"
images = ["${ONE}"]
sharing = "clean"
[[tenants.acme.tiers]]
name = "protected"
users = ["ci-main-*"]
user_quotas = { jobs = 32, cpu_seconds_per_day = 60 }
quotas = { jobs = 64 }
[[tenants.acme.tiers]]
name = "laptop"
users = ["*"]
sharing = "private"
`;

describe("a policy file", () => {
  test("says what holds for each tenant and tier", () => {
    const policy = parse(TIERED);
    assert.deepEqual([policy.version, policy.digest], [3, sha256(Buffer.from(TIERED))]);
    const release = of(policy, "acme", "ci-release");
    assert.deepEqual(release, {
      life: "clean",
      sharing: "clean",
      golden: "own",
      isolationMin: "firecracker",
      images: new Set([ONE]),
      tier: "release",
      readableTiers: ["release"],
      quotas: {
        tenant: { jobsMax: 100, bytesPerDayMax: 2 * 2 ** 30, cpuUsPerDayMax: null },
        tier: { jobsMax: null, bytesPerDayMax: null, cpuUsPerDayMax: null },
        principal: { jobsMax: 8, bytesPerDayMax: null, cpuUsPerDayMax: null },
      },
    });
    const main = of(policy, "acme", "ci-main-1");
    assert.deepEqual(
      [main?.tier, main?.readableTiers, main?.isolationMin, main?.images],
      ["protected", ["protected", "release"], "qemu-kvm", new Set([ONE, TWO])],
    );
    assert.deepEqual(main?.quotas.tier.jobsMax, 64);
    assert.deepEqual(main?.quotas.principal, { jobsMax: 32, bytesPerDayMax: null, cpuUsPerDayMax: 60_000_000 });
    const laptop = of(policy, "acme", "ann");
    assert.deepEqual(laptop?.readableTiers, ["laptop", "protected", "release"]);
    assert.deepEqual([laptop?.sharing, laptop?.life], ["private", "session"]);
    assert.deepEqual(policy.tenants.get("acme")?.retention, { days: 30, bytes: null, automatic: false });
  });

  test("serves who is not listed only if it says so, and users of no tier never", () => {
    assert.equal(of(parse(HEAD), "acme"), null);
    const open = parse('schema = 1\nversion = 1\nunlisted = "serve"\n[defaults]\nsharing = "private"\n');
    assert.deepEqual([of(open, "acme")?.sharing, of(open, "acme")?.tier], ["private", null]);
    const closed = parse(`${HEAD}[[tenants.acme.tiers]]\nname = "ci"\nusers = ["ci-*"]\n`);
    assert.equal(of(closed, "acme", "ann"), null);
    assert.equal(of(closed, "acme", "ci-1")?.tier, "ci");
  });

  test("that is wrong is refused with line, key and way out", () => {
    for (const [content, message] of [
      ["version = 1", /^p\.toml: schema is required: say schema = 1/],
      ['schema = 2\nversion = 1\nunlisted = "serve"', /^p\.toml:1: schema is 2, and this version of hpcc reads 1/],
      ['schema = 1\nunlisted = "serve"', /^p\.toml: version is required/],
      ["schema = 1\nversion = 1", /^p\.toml: unlisted is required: for other tenants: "serve" or "refuse"/],
      [
        `${HEAD}[tenants.acme]\nshering = "clean"`,
        /^p\.toml:5: tenants\.acme\.shering is no known key; did you mean sharing\?/,
      ],
      [`${HEAD}[tenant.acme]\nlife = "clean"`, /^p\.toml:4: tenant is no known key; did you mean tenants\?/],
      [`${HEAD}[tenants.acme]\nlife = "warm"`, /^p\.toml:5: tenants\.acme\.life must be "session", "clean"/],
      [`${HEAD}[tenants.Acme]\n`, /^p\.toml:4: tenants\.Acme is no name of a tenant: 1 to 63 of a-z/],
      [`${HEAD}[tenants."a..b"]\n`, /is no name of a tenant: .* at most three dots, none at the end or beside another/],
      [`${HEAD}[[tenants.a.tiers]]\nname = "x."`, /name must be a name: 1 to 63 .* at most three dots/],
      [`${HEAD}tenants.acme = 1`, /^p\.toml:4: tenants\.acme must be a table/],
      [
        `${HEAD}[tenants.a]\nsharing = "clean"\nlife = "session"`,
        /^p\.toml:6: tenants\.a\.life cannot be so: .*set sharing = "confirm", or life = "clean"/,
      ],
      [
        `${HEAD}[defaults]\nlife = "session"\n[tenants.a]\nsharing = "clean"`,
        /^p\.toml:7: tenants\.a\.sharing cannot be so/,
      ],
      [
        `${HEAD}[tenants.a.quotas]\njob = 1`,
        /^p\.toml:5: tenants\.a\.quotas\.job is no known key; did you mean jobs\?/,
      ],
      [`${HEAD}[tenants.a.quotas]\njobs = 0`, /tenants\.a\.quotas\.jobs must be a whole number from 1 to/],
      [`${HEAD}[tenants.a]\nimages = ["sha256:1"]`, /tenants\.a\.images must be a list of digests/],
      [`${HEAD}[tenants.a]\ntiers = 1`, /tenants\.a\.tiers must be an array of at most 16 tables/],
      [
        `${HEAD}[[tenants.a.tiers]]\nname = "x"\nusers = ["*"]\n[[tenants.a.tiers]]\nname = "x"\nusers = ["*"]`,
        /^p\.toml:8: tenants\.a\.tiers\[2\]\.name is that of another tier/,
      ],
      [`${HEAD}[[tenants.a.tiers]]\nname = "x"`, /^p\.toml:4: tenants\.a\.tiers\[1\]\.users is required/],
      [
        `${HEAD}[[tenants.a.tiers]]\nname = "x"\nusers = ["A"]`,
        /^p\.toml:6: tenants\.a\.tiers\[1\]\.users must be a list/,
      ],
      [
        `${HEAD}[[tenants.a.tiers]]\nname = "x"\nusers = ["*"]\nsharing = "c"`,
        /^p\.toml:7: tenants\.a\.tiers\[1\]\.sharing must be "clean"/,
      ],
      [`${HEAD}[defaults]\ntiers = []`, /^p\.toml:5: defaults\.tiers is no known key/],
      [`${HEAD}x = `, /^p\.toml:4:5: /],
    ] as const)
      assert.throws(() => parse(content), { code: "config.invalid", message }, content);
    assert.throws(() => parsePolicy(new Uint8Array([0xff]), "p.toml"), { message: /p\.toml: it is not UTF-8/ });
    assert.throws(() => parsePolicy(new Uint8Array(2 ** 21), "p.toml"), { message: /larger than 1048576 bytes/ });
  });

  test("no tier may do what its tenant may not", () => {
    const tenant = `${HEAD}[tenants.a]\nimages = ["${ONE}"]\nisolation_min = "qemu-kvm"\n[[tenants.a.tiers]]\nname = "x"\nusers = ["*"]\n`;
    assert.equal(of(parse(tenant), "a")?.isolationMin, "qemu-kvm");
    for (const [line, message] of [
      ['isolation_min = "qemu-tcg"', /isolation_min is weaker than the tenant's qemu-kvm/],
      ['images = "*"', /images is "\*" and the tenant has a list/],
      [`images = ["${TWO}"]`, /images names sha256:d4735e.* which the tenant's images lack/],
    ] as const)
      assert.throws(() => parse(`${tenant}${line}\n`), { message }, line);
  });
});
