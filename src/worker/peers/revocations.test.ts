// What one worker takes back, every worker of the site takes back: at once, and after having been away.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { user } from "../../../test/support/layer-jobs.ts";
import { type Member, PeerSite, siteJob } from "../../../test/support/peer-site.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import type { Revocation } from "../../core/revocation.ts";
import { RevocationKind, WatchRevocationsResponseSchema } from "../../gen/hpcc/peer/v1/peer_pb.js";
import { parseRevocations } from "../../wire/peer/revocations.ts";

const OPERATOR = { cause: "operator", askedBy: "ops" } as const;
const ACME = parseTenantId("acme");

async function site(context: TestContext, names: readonly string[]): Promise<[PeerSite, ...Member[]]> {
  const made = await PeerSite.open(context);
  const members: Member[] = [];
  for (const name of names) members.push(await made.add(name));
  return [made, ...members];
}

function revocation(kind: Revocation["kind"], value: string, atMs = Date.now()): Revocation {
  return { kind, value, atMs };
}

/** Resolves when a worker has the result no more; the test's time limit ends a wait for nothing. */
async function gone(member: Member, job = siteJob(1)): Promise<void> {
  while ((await member.store().actions.get(job.keys.shared!.key)).kind === "hit")
    await new Promise((resolve) => setImmediate(resolve));
}

/** Resolves when a worker has taken over so many revocations of peers since it started. */
async function heard(member: Member, count: number): Promise<void> {
  while (member.peers.counters.revocations < count) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(member.peers.counters.revocations, count);
}

async function spread(members: readonly Member[], job = siteJob(1)): Promise<void> {
  await members[0]!.outcome(job);
  for (const member of members.slice(1)) assert.equal(await member.outcome(job), `hit from ${members[0]!.name}`);
}

describe("a revocation on one worker", () => {
  for (const [kind, value] of [
    ["vm", "w1-vm-1"],
    ["image", siteJob(1).action.imageDigest],
    ["principal", "spiffe://test.example/tenant/acme/user/ann"],
    ["key", siteJob(1).keys.shared!.key],
  ] as const)
    test(`of a ${kind} reaches all, whoever made the result, and each compiles again`, async (context) => {
      const [, ...members] = await site(context, ["w1", "w2", "w3"]);
      await spread(members);
      await members[2]!.revocations.revoke(revocation(kind, value), OPERATOR, ACME);
      for (const member of members) await gone(member);
      for (const member of members.slice(0, 2)) await heard(member, 1);
      assert.equal(members[2]!.peers.counters.revocations, 0, "it comes back to nobody");
      const again = siteJob(1, { principal: user("bob") });
      if (kind === "vm") assert.equal(await members[1]!.outcome(again), "compiled");
    });

  test("reaches one that was away, also through another than the first", async (context) => {
    const [all, w1, w2, w3] = await site(context, ["w1", "w2", "w3"]);
    await spread([w1!, w2!, w3!]);
    await all.remove("w3");
    await w1!.revocations.revoke(revocation("vm", "w1-vm-1"), OPERATOR, null);
    await gone(w2!);
    await all.remove("w1");
    const back = await all.add("w3");
    await gone(back);
    await heard(back, 1);
    const again = await all.add("w3");
    await w2!.revocations.revoke(revocation("vm", "another-vm"), OPERATOR, null);
    await heard(again, 1);
    const told = await again.disk.revocations.since(0);
    assert.deepEqual(
      told.map(({ mark }) => mark.value),
      ["w1-vm-1", "another-vm"],
    );
  });

  test("ends what is on its way: a statement about something revoked is not taken", async (context) => {
    const [, w1, w2] = await site(context, ["w1", "w2"]);
    await w1!.outcome(siteJob(1));
    // Only here: what the other worker still gives is refused.
    await w2!.disk.revocations.revoke(revocation("vm", "w1-vm-1"), OPERATOR, ACME);
    const stale = siteJob(1);
    assert.equal(await w2!.outcome(stale), "compiled");
  });

  test("for a tenant that a worker does not know makes no folder there", async (context) => {
    const [, w1, w2] = await site(context, ["w1", "w2"]);
    const tenant = parseTenantId("unknown");
    await w1!.revocations.revoke(revocation("vm", "some-vm"), OPERATOR, tenant);
    await heard(w2!, 1);
    assert.equal(await w2!.disk.has(tenant), false);
    const [noted] = await w2!.disk.revocations.since(0);
    assert.deepEqual([noted?.tenant, noted?.mark.value], [null, "some-vm"]);
  });
});

test("what a peer says is parsed: kinds, values, times and order", () => {
  const nowMs = 1_000_000_000_000;
  const message = (changes: object) =>
    create(WatchRevocationsResponseSchema, {
      revocations: [
        { sequence: 5n, tenant: "acme", kind: RevocationKind.VM, value: "vm-1", atMs: BigInt(nowMs), ...changes },
      ],
    });
  assert.deepEqual(parseRevocations(message({}), nowMs), [
    { sequence: 5, tenant: "acme", revocation: { kind: "vm", value: "vm-1", atMs: nowMs } },
  ]);
  const [future] = parseRevocations(message({ atMs: BigInt(nowMs) * 2n }), nowMs);
  assert.ok(future?.revocation && future.revocation.atMs <= nowMs + 300_000);
  for (const changes of [
    { tenant: "../acme" },
    { kind: 0 },
    { kind: 99 },
    { value: "" },
    { value: "a\nb" },
    { kind: RevocationKind.IMAGE, value: "latest" },
    { kind: RevocationKind.PRINCIPAL, value: "ann" },
    { kind: RevocationKind.KEY, value: "vm-1" },
  ])
    assert.equal(parseRevocations(message(changes), nowMs)[0]?.revocation, null, JSON.stringify(changes));
  const twice = create(WatchRevocationsResponseSchema, { revocations: [{ sequence: 5n }, { sequence: 5n }] });
  assert.throws(() => parseRevocations(twice, nowMs), { code: "peer.protocol" });
  assert.throws(() => parseRevocations(message({ sequence: 2n ** 60n }), nowMs), { code: "peer.protocol" });
  const many = create(WatchRevocationsResponseSchema, {
    revocations: Array.from({ length: 257 }, (_, at) => ({ sequence: BigInt(at + 1) })),
  });
  assert.throws(() => parseRevocations(many, nowMs), { code: "peer.protocol" });
});
