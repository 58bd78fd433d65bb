// Clean lives: one machine that has run nothing for each job, started ahead of demand; and how they share a worker with sessions.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  HELD_LIMITS,
  type HeldKeyParts,
  heldKey,
  heldPool,
  rejectsWith,
  settle,
} from "../../test/support/held-pool.ts";
import { HpccError } from "../base/errors.ts";
import type { PoolKey } from "./pool-key.ts";

const clean = (tenant: string, parts: HeldKeyParts = {}): PoolKey => heldKey(tenant, { ...parts, trust: "clean" });
const A = clean("a");
const { idleMs } = HELD_LIMITS;

describe("a clean job", () => {
  it("gets a machine that has run nothing, which is destroyed after it", async () => {
    const { runtime, pool, runOne, told } = heldPool({ limits: { sparesMax: 0 } });
    assert.equal(await runOne(A), "vm-0");
    assert.equal(await runOne(A), "vm-1");
    await settle();
    assert.deepEqual(told(), ["booted vm-0", "destroyed vm-0 one-job", "booted vm-1", "destroyed vm-1 one-job"]);
    assert.ok(runtime.machines.every(({ ran }) => ran.length === 1));
    await pool.close();
  });

  it("says so, and has its machine destroyed when it fails, too", async () => {
    const { runtime, pool, execute, told } = heldPool({ limits: { sparesMax: 0 } });
    const well = execute(A);
    await settle();
    runtime.alive[0]?.finishAll();
    assert.equal((await well).life, "clean");
    const leave = new AbortController();
    const left = execute(A, leave.signal);
    await settle();
    leave.abort();
    await assert.rejects(left, rejectsWith("job.cancelled"));
    await settle();
    assert.equal(told().at(-1), "destroyed vm-1 one-job");
    assert.equal(runtime.alive.length, 0);
    await pool.close();
  });

  it("never shares a machine with another that runs at the same time", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { vmsMax: 3, executionsPerVmMax: 8, sparesMax: 0 } });
    const jobs = [execute(A), execute(A), execute(A)];
    await settle();
    assert.deepEqual(
      runtime.alive.map(({ running }) => running.length),
      [1, 1, 1],
    );
    for (const machine of runtime.alive) machine.finishAll();
    assert.equal(new Set((await Promise.all(jobs)).map(({ vm }) => vm.id)).size, 3);
    await pool.close();
  });

  it("is never parked", async () => {
    const { runtime, clock, pool, runOne } = heldPool();
    await runOne(A);
    assert.equal(runtime.alive.length, 1, "a spare");
    clock.advance(idleMs);
    await settle();
    assert.deepEqual([runtime.alive.length, runtime.parked.length], [0, 0]);
    await pool.close();
  });

  it("fails with a boot that fails, but not while another boots for it", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { vmsMax: 2, sparesMax: 0 } });
    runtime.hold.add("boot");
    const jobs = [execute(A), execute(A)];
    await settle();
    runtime.pending[0]?.fail(new HpccError("vm.boot", "no"));
    const lost = await Promise.allSettled([Promise.race(jobs)]);
    assert.equal(lost[0]?.status, "rejected");
    assert.equal(runtime.pending.length, 1, "no other boot was begun");
    runtime.pending[0]?.finish();
    await settle();
    runtime.alive[0]?.finishAll();
    const ends = await Promise.allSettled(jobs);
    assert.deepEqual(ends.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    await pool.close();
  });
});

describe("a boot of a clean machine that fails", () => {
  it("fails the one job that it was for; those behind it have theirs to come", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { vmsMax: 1, sparesMax: 0 } });
    runtime.hold.add("boot");
    const jobs = [execute(A), execute(A), execute(A)];
    const ends = Promise.allSettled(jobs);
    await settle();
    runtime.pending[0]?.fail(new HpccError("vm.boot", "no"));
    await assert.rejects(jobs[0]!, rejectsWith("vm.boot"));
    await settle();
    assert.equal(runtime.pending.length, 1, "the next one's was begun");
    runtime.hold.delete("boot");
    runtime.finishPending();
    for (let ran = 0; ran < 2; ran += 1) {
      await settle();
      runtime.alive[0]?.finishAll();
    }
    assert.deepEqual(
      (await ends).map(({ status }) => status),
      ["rejected", "fulfilled", "fulfilled"],
    );
    await pool.close();
  });

  it("fails the first for whom no other boots", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { vmsMax: 2, sparesMax: 0 } });
    runtime.hold.add("boot");
    const ended: string[] = [];
    const job = (name: string): Promise<unknown> =>
      execute(A).then(
        () => ended.push(`${name} done`),
        () => ended.push(`${name} failed`),
      );
    const jobs = [job("first"), job("second"), job("third")];
    await settle();
    runtime.pending[0]?.fail(new HpccError("vm.boot", "no"));
    await settle();
    assert.deepEqual(ended, ["second failed"], "the first has the boot that is under way");
    assert.equal(runtime.pending.length, 2);
    runtime.finishPending();
    await settle();
    for (const machine of runtime.alive) machine.finishAll();
    await Promise.all(jobs);
    assert.deepEqual(ended.slice(1), ["first done", "third done"]);
    await pool.close();
  });
});

describe("spares", () => {
  it("are started after the first job, serve the next one at once, and are replaced", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { vmsMax: 4, sparesMax: 2 } });
    await settle();
    assert.equal(runtime.machines.length, 0, "none before there is a demand");
    const first = execute(A);
    await settle();
    assert.equal(runtime.alive.length, 3);
    runtime.hold.add("boot");
    const second = execute(A);
    await settle();
    assert.equal(runtime.alive[1]?.running.length, 1, "no boot was waited for");
    assert.equal(runtime.pending.length, 1, "one is replaced");
    for (const machine of runtime.alive) machine.finishAll();
    await Promise.all([first, second]);
    await pool.close();
  });

  it("are any user's of the tenant, and no other tenant's, image's or golden's", async () => {
    const { runtime, clock, pool, runOne } = heldPool({ limits: { vmsMax: 8, sparesMax: 1 } });
    await runOne(A);
    const [, spare] = runtime.machines;
    clock.advance(1_000);
    for (const other of [clean("b"), clean("a", { image: "clang" }), clean("a", { golden: "own" }), heldKey("a")])
      assert.notEqual(await runOne(other), spare?.id);
    assert.equal(await runOne(clean("a", { user: "bob" })), spare?.id);
    await pool.close();
  });

  it("name no user before a job has one, and that user in their end", async () => {
    const { events, pool, runOne } = heldPool();
    await runOne(A);
    await runOne(clean("a", { user: "bob" }));
    await settle();
    const users = events.map(
      (event) => `${event.t} ${event.t === "boot-failed" ? "" : event.vm.id} ${event.owner.user}`,
    );
    assert.ok(users.includes("booted vm-1 null"));
    assert.ok(users.includes("destroyed vm-1 bob"));
    await pool.close();
  });

  it("come from their tenant's own golden snapshot where the policy says so", async () => {
    const { runtime, pool, runOne } = heldPool();
    await runOne(clean("a", { golden: "own" }));
    assert.deepEqual(
      runtime.machines.map(({ spec }) => spec.goldenOwner),
      ["a", "a"],
    );
    await runOne(clean("b"));
    assert.equal(runtime.machines.at(-1)?.spec.goldenOwner, null);
    await pool.close();
  });

  it("are dropped when nobody needs them, and not started again without a job", async () => {
    const { runtime, clock, pool, runOne, told } = heldPool();
    await runOne(A);
    clock.advance(idleMs);
    await settle();
    assert.equal(runtime.alive.length, 0);
    assert.equal(told().at(-1), "destroyed vm-1 idle");
    clock.advance(idleMs);
    await settle();
    assert.equal(runtime.machines.length, 2);
    await pool.close();
    assert.equal(clock.pendingTimers, 0);
  });

  it("never wait before a job: they are the first to leave, and come back when there is room", async () => {
    const { runtime, pool, execute, runOne, told } = heldPool({ limits: { vmsMax: 2 } });
    await runOne(A);
    const first = execute(heldKey("b"));
    await settle();
    const second = execute(heldKey("c"));
    await settle();
    assert.ok(told().includes("destroyed vm-1 evicted"));
    assert.deepEqual(
      runtime.alive.map(({ running }) => running.length),
      [1, 1],
    );
    for (const machine of runtime.alive) machine.finishAll();
    await Promise.all([first, second]);
    await pool.close();
  });

  it("do not boot for ever where they cannot", async () => {
    const { runtime, pool, execute, told } = heldPool();
    const job = execute(A);
    // The job's own machine boots, its spare does not.
    runtime.hold.add("boot");
    await settle();
    runtime.pending[0]?.fail(new HpccError("vm.boot", "no"));
    await settle();
    assert.equal(runtime.pending.length, 0);
    runtime.alive[0]?.finishAll();
    await job;
    await settle();
    assert.deepEqual(told(), ["booted vm-0", "boot-failed", "destroyed vm-0 one-job"]);
    await pool.close();
  });

  it("become the machine of a job whose own was lost with its client", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { sparesMax: 0 } });
    runtime.hold.add("boot");
    const leave = new AbortController();
    const left = execute(A, leave.signal);
    await settle();
    leave.abort();
    await assert.rejects(left, rejectsWith("job.cancelled"));
    const next = execute(A);
    await settle();
    assert.equal(runtime.pending.length, 1, "the boot under way is the next one's");
    runtime.pending[0]?.finish();
    await settle();
    runtime.alive[0]?.finishAll();
    assert.equal((await next).vm.id, "vm-0");
    await pool.close();
  });
});

describe("a tenant with clean lives and one with sessions", () => {
  /** Both have work without end; gives how many jobs of each ended in so many seconds, each job taking one. */
  async function share(vmsMax: number, seconds: number): Promise<Record<string, number>> {
    const { runtime, clock, pool, execute } = heldPool({
      limits: { vmsMax, executionsPerVmMax: 1, sparesMax: 2, queuePerTenantMax: 100, tenureMs: 3_000 },
    });
    const done: Record<string, number> = { clean: 0, sessions: 0 };
    const users = ["ann", "bob", "eve"];
    const keys = [
      ...users.map((user) => ["clean", clean("a", { user })] as const),
      ...users.map((user) => ["sessions", heldKey("b", { user })] as const),
    ];
    const over = new AbortController();
    const loops = keys.map(async ([name, key]) => {
      while (!over.signal.aborted)
        await execute(key).then(
          () => (done[name] = (done[name] ?? 0) + 1),
          () => undefined,
        );
    });
    for (let second = 0; second < seconds; second += 1) {
      await settle();
      for (const machine of runtime.alive) machine.finishAll();
      clock.advance(1_000);
    }
    over.abort();
    await pool.close();
    await Promise.all(loops);
    return done;
  }

  for (const vmsMax of [1, 2, 3, 4])
    it(`share ${vmsMax} places: neither has less than a third of the work`, async () => {
      const done = await share(vmsMax, 120);
      const all = done["clean"]! + done["sessions"]!;
      assert.ok(all > 60 * vmsMax, `${all} jobs in 120 s`);
      for (const [name, jobs] of Object.entries(done)) assert.ok(jobs * 3 >= all, `${name}: ${jobs} of ${all}`);
    });

  it("wait in turn: a flood of clean jobs holds up no session for longer than one job", async () => {
    const { runtime, clock, pool, execute } = heldPool({ limits: { vmsMax: 1, queuePerTenantMax: 100 } });
    const flood = Array.from({ length: 20 }, () => execute(A));
    for (const job of flood) job.catch(() => undefined);
    await settle();
    const served = new AbortController();
    const session = execute(heldKey("b")).then(() => served.abort());
    let jobs = 0;
    for (; !served.signal.aborted && jobs < 20; jobs += 1) {
      for (const machine of runtime.alive) machine.finishAll();
      clock.advance(1_000);
      await settle();
    }
    assert.ok(jobs <= 3, `after ${jobs} rounds`);
    await session;
    await pool.close();
  });
});
