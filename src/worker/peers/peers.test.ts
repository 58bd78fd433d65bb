// Workers of one site find each other's results, and believe nothing that is not proven.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { user } from "../../../test/support/layer-jobs.ts";
import { type Member, PeerSite, peerName, siteJob } from "../../../test/support/peer-site.ts";
import { fixedPolicies } from "../../core/tenant-policy.ts";
import type { Job } from "../layers/layer.ts";

async function site(context: TestContext, names: readonly string[]): Promise<[PeerSite, ...Member[]]> {
  const made = await PeerSite.open(context);
  const members: Member[] = [];
  for (const name of names) members.push(await made.add(name));
  return [made, ...members];
}

function of(principal: string, at: number, changes: Partial<Job> = {}): Job {
  return siteJob(at, { principal: user(principal), ...changes });
}

describe("a result that serves a tenant", () => {
  test("is found by every worker of the site, for every user of the tenant, and compiled once", async (context) => {
    const [, ...members] = await site(context, ["w1", "w2", "w3", "w4", "w5"]);
    for (let at = 0; at < 10; at += 1) {
      const maker = members[at % members.length]!;
      assert.equal(await maker.outcome(of("ann", at)), "compiled");
      for (const member of members)
        assert.equal(await member.outcome(of("bob", at)), member === maker ? "hit" : `hit from ${maker.name}`, `${at}`);
    }
    assert.deepEqual(
      members.map(({ compiled }) => compiled),
      [2, 2, 2, 2, 2],
    );
  });

  test("is passed on by who took it, when its maker has gone", async (context) => {
    const [all, w1, w2, w3] = await site(context, ["w1", "w2", "w3"]);
    assert.equal(await w1!.outcome(of("ann", 1)), "compiled");
    assert.equal(await w2!.outcome(of("ann", 1)), "hit from w1");
    await all.remove("w1");
    assert.equal(await w3!.outcome(of("ann", 1)), "hit from w1");
    assert.equal(w3!.peers.counters.hits, 1);
  });

  test("is found after restarts of the asking and of the answering worker", async (context) => {
    const [all, w1] = await site(context, ["w1", "w2"]);
    await w1!.outcome(of("ann", 1));
    await all.add("w1");
    const w2 = await all.add("w2");
    assert.equal(await w2.outcome(of("ann", 1)), "hit from w1");
    const again = await all.add("w2");
    assert.equal(await again.outcome(of("bob", 1)), "hit");
  });

  test("is told to workers that come later", async (context) => {
    const [all, w1] = await site(context, ["w1"]);
    for (let at = 0; at < 20; at += 1) await w1!.outcome(of("ann", at));
    const others = [];
    for (const name of ["w2", "w3", "w4", "w5", "w6"]) others.push(await all.add(name));
    await w1!.peers.settled();
    for (let at = 0; at < 20; at += 1) assert.equal(await others[at % 5]!.outcome(of("bob", at)), "hit from w1");
  });

  test("of a tier is found by its own tier and those below it", async (context) => {
    const [, w1, w2] = await site(context, ["w1", "w2"]);
    const tiered = (name: string, tier: string, readableTiers: readonly string[]) => {
      const principal = user(name);
      const policy = { ...fixedPolicies().of(principal)!, tier, readableTiers };
      return of(name, 1, { principal, policy });
    };
    assert.equal(await w1!.outcome(tiered("ann", "release", ["release"])), "compiled");
    assert.equal(await w2!.outcome(tiered("bob", "laptop", ["laptop", "release"])), "hit from w1");
    const [, w3, w4] = await site(context, ["w3", "w4"]);
    assert.equal(await w3!.outcome(tiered("ann", "laptop", ["laptop", "release"])), "compiled");
    assert.equal(await w4!.outcome(tiered("bob", "release", ["release"])), "compiled", "never one above");
  });
});

describe("nothing else travels", () => {
  test("results of a principal alone, of other tenants, of warm VMs", async (context) => {
    const [, w1, w2] = await site(context, ["w1", "w2"]);
    const policy = { ...fixedPolicies().of(user("ann"))!, sharing: "private" as const };
    const own = of("ann", 1, { policy });
    assert.equal(await w1!.outcome(own), "compiled");
    assert.equal(await w2!.outcome(own), "compiled");
    assert.equal(w2!.peers.counters.asked, 0, "nobody is asked for a principal's key");
    const shared = of("ann", 2);
    await w1!.outcome(shared);
    assert.equal(await w2!.outcome(siteJob(2, { principal: user("ann", "other") })), "compiled");
    const warm = of("ann", 3);
    await w1!.share(warm, { life: "session" });
    assert.equal(await w2!.outcome(warm), "compiled");
    const confirmed = of("ann", 4);
    await w1!.share(confirmed, { life: "session", confirmedBy: "w1-vm-2" });
    assert.equal(await w2!.outcome(confirmed), "hit from w1");
  });

  test("to a worker that trusts nobody, or others; what it took in better days is a miss", async (context) => {
    const [all, w1, w2, w3] = await site(context, ["w1", "w2", "w3"]);
    await w1!.outcome(of("ann", 1));
    assert.equal(await w2!.outcome(of("ann", 1)), "hit from w1");
    const none = await all.add("w2", { trust: "none" });
    assert.equal(await none.outcome(of("ann", 1)), "compiled");
    await w3!.outcome(of("ann", 2));
    await w1!.outcome(of("ann", 3));
    const some = await all.add("w4", { trust: new Set([peerName("w3")]) });
    assert.equal(await some.outcome(of("ann", 2)), "hit from w3");
    assert.equal(await some.outcome(of("ann", 3)), "compiled");
    assert.equal(some.peers.counters.unfit > 0, true);
    assert.equal(await w1!.outcome(of("ann", 9)), "compiled");
    assert.equal(none.peers.counters.asked, 0);
  });

  test("with less isolation or another life than the job asks for", async (context) => {
    const [, w1, w2] = await site(context, ["w1", "w2"]);
    await w1!.outcome(of("ann", 1));
    assert.equal(await w2!.outcome(of("ann", 1, { isolationMin: "qemu-kvm" })), "compiled");
    assert.equal(w2!.peers.counters.lies, 0);
  });
});
