// Quotas as jobs meet them: a worker on loopback, whose clients are told to compile elsewhere.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { TestWorker } from "../../../test/support/test-worker.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { fixedPolicies, NO_QUOTAS, type Quotas } from "../../core/tenant-policy.ts";

const NEVER = { signal: new AbortController().signal };
const BOB = "tenant/acme/user/bob";
const source = (at: number) => ({ path: "/hpcc/project/a.c", content: `int answer = ${at};\n` });

function policies(who: "tenant" | "principal", quotas: Partial<Quotas>) {
  const none = { tenant: NO_QUOTAS, tier: NO_QUOTAS, principal: NO_QUOTAS };
  return fixedPolicies(new Map([["acme", { quotas: { ...none, [who]: { ...NO_QUOTAS, ...quotas } } }]]));
}

async function lastNote(at: TestWorker): Promise<string> {
  const { kind, note } = (await at.jobRows()).at(-1)!.envelope;
  return `${kind} ${note}`;
}

describe("a quota", () => {
  test("of jobs at a time denies one too many with a row, and has room again when one ends", async (t) => {
    const at = await TestWorker.start(t, {}, { policies: policies("principal", { jobsMax: 1 }) });
    const [ann, bob] = [await at.client(), await at.client(BOB)];
    const gate = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    at.pool.gate = gate.promise;
    const running = ann.compile(await at.job({ files: [source(1)] }), {
      ...NEVER,
      onProgress: (state) => state === "queued" && begun.resolve(),
    });
    await begun.promise;
    await assert.rejects(ann.compile(await at.job({ files: [source(2)] }), NEVER), {
      code: "limit.exceeded",
      message: /the user ann of acme has 1 jobs under way on this worker, and its quota \(jobs\) is 1/,
      retryable: false,
    });
    assert.equal(await lastNote(at), "denied limit.exceeded");
    const other = bob.compile(await at.job({ files: [source(3)] }), NEVER);
    gate.resolve();
    assert.deepEqual([(await running).outcome, (await other).outcome], ["compiled", "compiled"]);
    assert.equal((await ann.compile(await at.job({ files: [source(2)] }), NEVER)).outcome, "compiled");
    await assert.rejects(ann.compile(await at.job({ files: [source(4)], argv: ["/no/compiler"] }), NEVER));
    assert.equal(
      (await ann.compile(await at.job({ files: [source(5)] }), NEVER)).outcome,
      "compiled",
      "after a failure",
    );
  });

  test("of source bytes a day is the tenant's, stops no hit, and holds over a restart", async (t) => {
    const quota = { policies: policies("tenant", { bytesPerDayMax: source(1).content.length + 1 }) };
    const at = await TestWorker.start(t, {}, quota);
    const [ann, bob] = [await at.client(), await at.client(BOB)];
    await ann.compile(await at.job({ files: [source(1)] }), NEVER);
    await ann.compile(await at.job({ files: [source(2)] }), NEVER);
    const usedUp = { code: "limit.exceeded", message: /the tenant acme has used up .* \(source_bytes_per_day\)/ };
    for (const client of [ann, bob])
      await assert.rejects(client.compile(await at.job({ files: [source(3)] }), NEVER), usedUp);
    const uncached = { ...(await at.job({ files: [source(1)] })), again: true } as const;
    await assert.rejects(ann.compile(uncached, NEVER), usedUp, "who asks no cache is no exception");
    assert.equal(await lastNote(at), "denied limit.exceeded");
    assert.equal((await ann.compile(await at.job({ files: [source(1)] }), NEVER)).outcome, "hit");
    await at.stop();
    const again = await TestWorker.start(t, {}, quota, at.folder);
    const late = await again.client();
    await assert.rejects(late.compile(await again.job({ files: [source(3)] }), NEVER), usedUp);
    assert.equal((await late.compile(await again.job({ files: [source(2)] }), NEVER)).outcome, "hit");
  });

  test("of CPU time a day counts what the worker measured, also of a compile that its client left", async (t) => {
    // Each millisecond of this machine is a thousand of the worker's.
    const fast = { ...SYSTEM_CLOCK, monotonicMs: () => SYSTEM_CLOCK.monotonicMs() * 1000 };
    const quota = policies("principal", { cpuUsPerDayMax: 1_000_000 });
    const at = await TestWorker.start(t, {}, { policies: quota, clock: fast });
    const client = await at.client();
    at.pool.gate = new Promise(() => {});
    const leave = new AbortController();
    const running = client.compile(await at.job({ files: [source(1)] }), { signal: leave.signal });
    while (at.pool.executions === 0) await new Promise((resolve) => setImmediate(resolve));
    const beganMs = performance.now();
    while (performance.now() - beganMs < 5) await new Promise((resolve) => setImmediate(resolve));
    leave.abort();
    await assert.rejects(running, { code: "job.cancelled" });
    while ((await at.jobRows()).length === 0) await new Promise((resolve) => setImmediate(resolve));
    await assert.rejects(client.compile(await at.job({ files: [source(2)] }), NEVER), {
      code: "limit.exceeded",
      message: /the user ann of acme has used up its quota \(cpu_seconds_per_day\) of 1 seconds/,
    });
    assert.equal(at.pool.executions, 1);
  });
});
