// Whole workers of one site, that learn of each other from a scheduler: what one compiles is a hit on all, with rows, and is taken
// back on all.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TestWorker } from "../../../test/support/test-worker.ts";
import { WorkerSite } from "../../../test/support/worker-site.ts";
import type { TenantSettings } from "../../core/tenant-policy.ts";

async function compile(worker: TestWorker, user: string, text: string): Promise<string> {
  const client = await worker.client(`tenant/acme/user/${user}`);
  const job = await worker.job({ files: [{ path: "/hpcc/project/a.c", content: text }] });
  return (await client.compile(job, { signal: new AbortController().signal })).outcome;
}

describe("three workers of a site", () => {
  test("what one compiles is a hit on all for all users of the tenant, and each hit's row says whose result it was", async (context) => {
    const site = await WorkerSite.open(context, ["w1", "w2", "w3"]);
    const [w1, w2, w3] = site.workers;
    // The first has been told of the others when it asks them in vain.
    while (w1!.worker.stats().peers!.asked === 0)
      assert.equal(await compile(w1!, "ann", `int n${Date.now()};\n`), "compiled");
    const text = "int a;\n";
    assert.equal(await compile(w1!, "ann", text), "compiled");
    const [made] = (await w1!.jobRows()).toReversed();
    assert.equal(await compile(w2!, "bob", text), "hit");
    assert.equal(await compile(w3!, "eve", text), "hit");
    assert.equal(await compile(w3!, "ann", text), "hit");
    for (const worker of [w2!, w3!]) {
      const [first] = (await worker.jobRows()).filter(({ envelope }) => envelope.kind === "hit");
      const { from, compiledRow, scope, resultDigest } = first!.envelope;
      assert.deepEqual([from, compiledRow, scope], ["w1", made!.digest, "tenant"]);
      assert.equal(resultDigest, made!.envelope.resultDigest);
      assert.equal(first!.row.vm, made!.row.vm);
      assert.equal(first!.row.outputDigest, made!.row.outputDigest);
    }
    assert.equal(w3!.worker.stats().peers!.hits, 1, "the second time it has it itself");
  });

  test("a warm VM's result serves the others once a clean VM has confirmed it", async (context) => {
    const settings: TenantSettings = { life: "session", sharing: "confirm" };
    const site = await WorkerSite.open(context, ["w1", "w2"], { settings, confirmationsMax: 1 });
    const [w1, w2] = site.workers;
    assert.equal(await compile(w2!, "bob", "int b;\n"), "compiled");
    assert.equal(await compile(w1!, "ann", "int a;\n"), "compiled");
    while (w1!.worker.stats().peers!.signed === 0) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(w1!.worker.stats().confirmed.equal, 1);
    assert.equal(await compile(w2!, "bob", "int a;\n"), "hit");
    const hit = (await w2!.jobRows()).findLast(({ envelope }) => envelope.kind === "hit");
    assert.equal(hit?.envelope.from, "w1");
    assert.notEqual(hit?.envelope.confirmedBy, null);
    assert.notEqual(hit?.envelope.confirmedBy, hit?.row.vm);
  });

  test("private results stay where they are", async (context) => {
    const site = await WorkerSite.open(context, ["w1", "w2"], { settings: { life: "clean", sharing: "private" } });
    assert.equal(await compile(site.workers[0]!, "ann", "int a;\n"), "compiled");
    assert.equal(await compile(site.workers[1]!, "ann", "int a;\n"), "compiled");
    assert.equal(site.workers[1]!.worker.stats().peers!.asked, 0);
  });
});
