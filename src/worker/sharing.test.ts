// Whom a worker's results serve: clients with certificates of their own over mutual TLS, each asking for the same compile.
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TestWorker } from "../../test/support/test-worker.ts";
import { printInspection } from "../cli/inspect.ts";
import { fixedPolicies, type JobPolicy, type PolicySource } from "../core/tenant-policy.ts";
import { collectJob, type Evidence, jobEvidence } from "../reproduce/evidence.ts";
import { openState } from "./inspect/inspection.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };
const BROKEN = { path: "/hpcc/project/broken.c", content: "int answer = ;\n" };
const CLEAN = { sharing: "clean", life: "clean" } as const;

const acme = (policy: Partial<JobPolicy>): PolicySource => fixedPolicies(new Map([["acme", policy]]));

/** What each user's job comes to, one after the other: its outcome, and whose key answered or was filled. */
async function ask(at: TestWorker, users: readonly string[], file = HELLO): Promise<string[]> {
  const said: string[] = [];
  for (const user of users) {
    const client = await at.client(`tenant/acme/user/${user}`);
    const { outcome } = await client.compile(await at.job({ files: [file] }), NEVER);
    const { scope } = (await at.jobRows()).at(-1)!.envelope;
    said.push(`${outcome} ${scope}`);
  }
  return said;
}

const start = (t: TestContext, policies: PolicySource) => TestWorker.start(t, {}, { policies });

test("fifty users: with clean VMs one compiles, and the others are given it; its source came once", async (t) => {
  const at = await start(t, acme(CLEAN));
  const users = Array.from({ length: 50 }, (_, i) => `u${i}`);
  assert.deepEqual(await ask(at, users), ["compiled tenant", ...Array(49).fill("hit tenant")]);
  assert.deepEqual([at.pool.executions, at.sent.length], [1, 1]);
  const stranger = await at.client("tenant/other/user/u0");
  const { outcome } = await stranger.compile(await at.job({ files: [HELLO] }), NEVER);
  assert.equal(outcome, "compiled", "another tenant is given nothing");
});

test("with private none is given another's, and what a warm VM made is nobody else's either", async (t) => {
  for (const policy of [
    { sharing: "private", life: "clean" },
    { sharing: "confirm", life: "session" },
    { sharing: "clean", life: "session" },
  ] as const) {
    const at = await start(t, acme(policy));
    const own = ["compiled principal", "compiled principal", "hit principal"];
    assert.deepEqual(await ask(at, ["ann", "bob", "ann"]), own, JSON.stringify(policy));
  }
});

test("a failed compile is given to nobody, not even later to its own user", async (t) => {
  const at = await start(t, acme(CLEAN));
  assert.deepEqual(await ask(at, ["ann", "bob", "ann"], BROKEN), Array(3).fill("compiled null"));
});

test("inspect says whose result it was", async (t) => {
  const at = await start(t, acme(CLEAN));
  await ask(at, ["ann", "bob"]);
  const client = await at.client("tenant/acme/user/bob");
  const printed = printInspection(await client.inspect((await at.jobRows()).at(-1)!.digest));
  assert.match(printed, /^scope +tenant$/m);
  assert.match(printed, /^principal +spiffe:\S+\/user\/bob$/m);
});

const TIERS = ["release", "protected", "laptop"];

/** Each user is called as his tier. */
function tiered(): PolicySource {
  const fixed = acme(CLEAN);
  return {
    ...fixed,
    of: (principal) => {
      const tier = principal.user;
      return { ...fixed.of(principal)!, tier, readableTiers: TIERS.slice(0, TIERS.indexOf(tier) + 1).toReversed() };
    },
  };
}

test("a tier's results serve those below it, never one above", async (t) => {
  const policies = tiered();
  const upwards = await start(t, policies);
  assert.deepEqual(await ask(upwards, ["laptop", "protected", "release"]), Array(3).fill("compiled tenant"));
  const downwards = await start(t, policies);
  assert.deepEqual(await ask(downwards, TIERS), ["compiled tenant", "hit tenant", "hit tenant"]);
  assert.deepEqual(await ask(upwards, TIERS), Array(3).fill("hit tenant"), "each finds its own again");
});

test("rows name the tier of who asked, and those of hits also the tier of the key, from which the key is made again", async (t) => {
  const at = await start(t, tiered());
  await ask(at, ["protected", "laptop", "protected"]);
  const rows = await at.jobRows();
  assert.deepEqual(
    rows.map(({ envelope: { kind, tier, keyTier } }) => [kind, tier, keyTier]),
    [
      ["compile", "protected", null],
      ["hit", "laptop", "protected"],
      ["hit", "protected", "protected"],
    ],
  );
  const { line, digest } = rows[1]!;
  const state = await openState(join(at.folder, "state"));
  t.after(() => state.close());
  const blob: Evidence["blob"] = ({ row }, wanted, sizeMax) => state.blob(row.tenant, wanted, sizeMax);
  const { envelopes } = await state.inspector.find(digest, null);
  const collect = async (said: string) => {
    const envelope = envelopes[0]!.replace('"key_tier":"protected"', said);
    return collectJob(
      { find: async () => ({ rows: [line], envelopes: [envelope] }), blob },
      jobEvidence(line, envelope)!,
    );
  };
  assert.equal((await collect('"key_tier":"protected"')).evidence.digest, digest);
  await assert.rejects(collect('"key_tier":"laptop"'), { code: "audit.corrupt", message: /key/ });
});

test("a job under a policy that wants more isolation than a kept result has is no hit", async (t) => {
  let isolationMin: JobPolicy["isolationMin"] = null;
  const fixed = acme(CLEAN);
  const policies: PolicySource = { ...fixed, of: (principal) => ({ ...fixed.of(principal)!, isolationMin }) };
  const at = await start(t, policies);
  assert.deepEqual(await ask(at, ["ann", "bob"]), ["compiled tenant", "hit tenant"]);
  isolationMin = "qemu-kvm";
  await assert.rejects(ask(at, ["carol"]), { code: "isolation.weak" });
});
