// Sessions that are parked and come back: every edge of a parked VM's life, on a runtime that is real but trivial.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HELD_LIMITS, heldKey, heldPool, rejectsWith, settle } from "../../test/support/held-pool.ts";
import { HeldRuntime } from "../../test/support/held-runtime.ts";
import { HpccError } from "../base/errors.ts";

const A = heldKey("a");
const B = heldKey("b");
const C = heldKey("c");
const { idleMs, parkedMs, sessionMs } = HELD_LIMITS;

/** A pool with one parked VM, vm-0 of A. */
async function withOneParked(options: Parameters<typeof heldPool>[0] = {}) {
  const fixture = heldPool(options);
  await fixture.runOne(A);
  fixture.clock.advance(idleMs);
  await settle();
  assert.equal(fixture.runtime.standing.length, 1);
  return fixture;
}

describe("a session that is idle", () => {
  it("is parked, gives its memory back, and is restored for its own key with the same name", async () => {
    const { runtime, pool, runOne, told } = await withOneParked();
    assert.deepEqual([runtime.memoryBytes, runtime.vcpus, runtime.diskBytes], [0, 0, runtime.stateBytes]);
    assert.equal(await runOne(A), "vm-0");
    assert.equal(runtime.machines.at(-1)?.origin, "parked");
    assert.equal(runtime.diskBytes, 0);
    await pool.close();
    assert.deepEqual(told(), ["booted vm-0", "parked vm-0", "restored vm-0", "destroyed vm-0 closed"]);
  });

  it("tells how long it took and what it left on disk", async () => {
    const fixture = heldPool();
    const { runtime, clock, pool, events, runOne } = fixture;
    await runOne(A);
    runtime.hold.add("park");
    clock.advance(idleMs);
    await settle();
    clock.advance(1_600);
    runtime.pending[0]?.finish();
    await settle();
    const parked = events.at(-1);
    assert.ok(parked?.t === "parked");
    assert.deepEqual([parked.parkMs, parked.diskBytes, parked.parking], [1_600, runtime.stateBytes, "snapshot"]);
    await pool.close();
  });

  it("leaves its place to as many others as the memory holds", async () => {
    const { runtime, pool, execute } = await withOneParked({ limits: { vmsMax: 1 } });
    const other = execute(B);
    await settle();
    assert.deepEqual(
      runtime.alive.map(({ id }) => id),
      ["vm-1"],
    );
    assert.equal(runtime.standing.length, 1, "the parked one stays");
    runtime.alive[0]?.finishAll();
    await other;
    await pool.close();
  });

  it("waits for room to come back, which the longest idle one must give", async () => {
    const { runtime, clock, pool, runOne, execute, told } = await withOneParked({ limits: { vmsMax: 1 } });
    await runOne(B);
    const back = execute(A);
    await settle();
    assert.equal(runtime.standing.length, 1);
    clock.advance(1_000);
    await settle();
    runtime.alive[0]?.finishAll();
    assert.equal((await back).vm.id, "vm-0");
    assert.ok(told().includes("destroyed vm-1 evicted"));
    await pool.close();
  });

  it("never serves another key, and a new VM of that key is booted beside it", async () => {
    const { runtime, pool, runOne } = await withOneParked({ limits: { vmsMax: 3 } });
    for (const other of [B, heldKey("a", { user: "bob" }), heldKey("a", { image: "clang" })])
      assert.notEqual(await runOne(other), "vm-0");
    assert.equal(runtime.standing.length, 1);
    await pool.close();
  });

  it("is parked once, however many jobs came while it was", async () => {
    const { runtime, clock, pool, runOne, execute, told } = heldPool({});
    await runOne(A);
    runtime.hold.add("park");
    clock.advance(idleMs);
    await settle();
    const jobs = [execute(A), execute(A)];
    await settle();
    assert.equal(runtime.alive[0]?.running.length, 0, "nothing runs in a VM that is being scrubbed");
    runtime.pending[0]?.finish();
    await settle();
    runtime.alive[0]?.finishAll();
    assert.deepEqual(
      (await Promise.all(jobs)).map(({ vm, life }) => `${vm.id} ${life}`),
      ["vm-0 session", "vm-0 session"],
    );
    assert.deepEqual(told(), ["booted vm-0", "parked vm-0", "restored vm-0"]);
    await pool.close();
  });

  it("goes on without those who left while it was restored", async () => {
    const { runtime, pool, execute, runOne } = await withOneParked();
    runtime.hold.add("restore");
    const leave = new AbortController();
    const left = execute(A, leave.signal);
    await settle();
    leave.abort();
    await assert.rejects(left, rejectsWith("job.cancelled"));
    runtime.hold.clear();
    runtime.pending[0]?.finish();
    await settle();
    assert.equal(await runOne(A), "vm-0");
    await pool.close();
  });
});

describe("a session that cannot be parked or restored", () => {
  for (const [code, reason] of [
    ["vm.lost", "park-failed"],
    ["vm.breach", "breach"],
  ] as const)
    it(`is destroyed by ${code} while it is parked, and its key gets another`, async () => {
      const { runtime, clock, pool, runOne, told } = heldPool();
      await runOne(A);
      runtime.failures.set("park", new HpccError(code, "the disk is full"));
      clock.advance(idleMs);
      await settle();
      assert.deepEqual(told(), ["booted vm-0", `destroyed vm-0 ${reason}`]);
      assert.equal(await runOne(A), "vm-1");
      await pool.close();
    });

  it("is never parked after a breach", async () => {
    const { runtime, clock, pool, execute, told } = heldPool();
    const job = execute(A);
    await settle();
    runtime.machines[0]?.running[0]?.fail(new HpccError("vm.breach", "it lied"));
    await assert.rejects(job, rejectsWith("vm.breach"));
    await settle();
    clock.advance(idleMs);
    await settle();
    assert.equal(runtime.parked.length, 0);
    assert.deepEqual(told(), ["booted vm-0", "destroyed vm-0 breach"]);
    await pool.close();
  });

  it("dies while it is parked: its key boots", async () => {
    const { runtime, pool, runOne, told } = await withOneParked();
    runtime.standing[0]?.lose("its process ended");
    await settle();
    assert.equal(await runOne(A), "vm-1");
    assert.equal(told()[2], "destroyed vm-0 lost");
    await pool.close();
  });

  it("does not come back: the job that wanted it gets a boot", async () => {
    const { runtime, pool, runOne, told, events } = await withOneParked();
    runtime.failures.set("restore", new HpccError("vm.boot", "the snapshot is another's"));
    assert.equal(await runOne(A), "vm-1");
    assert.deepEqual(told().slice(1), ["parked vm-0", "destroyed vm-0 restore-failed", "booted vm-1"]);
    assert.match(JSON.stringify(events[2]), /does not come back/);
    await pool.close();
  });

  it("breaks the contract while it comes back", async () => {
    const { runtime, pool, runOne, told } = await withOneParked();
    runtime.failures.set("restore", new HpccError("vm.breach", "its agent did not answer"));
    assert.equal(await runOne(A), "vm-1");
    assert.ok(told().includes("destroyed vm-0 breach"));
    await pool.close();
  });

  it("neither comes back nor boots: the job fails", async () => {
    const { runtime, pool, execute } = await withOneParked();
    runtime.failures.set("restore", new HpccError("vm.boot", "no"));
    runtime.failures.set("boot", new HpccError("vm.boot", "no"));
    await assert.rejects(execute(A), rejectsWith("vm.boot"));
    await pool.close();
  });

  it("runs nothing when its restore cannot be recorded", async () => {
    const { runtime, pool, execute, told } = await withOneParked({
      onEvent: (event) =>
        event.t === "restored" ? Promise.reject(new HpccError("audit.io", "disk full")) : Promise.resolve(),
    });
    const job = execute(A);
    await settle();
    assert.deepEqual(
      runtime.alive.map(({ id }) => id),
      ["vm-1"],
    );
    assert.deepEqual(runtime.machines.filter(({ id }) => id === "vm-0").at(-1)?.ran, []);
    assert.ok(told().includes("destroyed vm-0 restore-failed"));
    runtime.alive[0]?.finishAll();
    await job;
    await pool.close();
  });
});

describe("the hard limit of a session", () => {
  it("ends a parked one", async () => {
    const { clock, runtime, pool, told } = await withOneParked({ limits: { parkedMs: sessionMs * 2 } });
    clock.advance(sessionMs - idleMs - 1);
    await settle();
    assert.equal(runtime.standing.length, 1);
    clock.advance(1);
    await settle();
    assert.equal(runtime.standing.length, 0);
    assert.equal(told().at(-1), "destroyed vm-0 session-limit");
    await pool.close();
    assert.equal(clock.pendingTimers, 0);
  });

  it("counts from the first start, restores included, and lets a busy one drain", async () => {
    const { clock, runtime, pool, execute, told } = await withOneParked({ limits: { parkedMs: sessionMs * 2 } });
    clock.advance(sessionMs - idleMs - 10);
    const last = execute(A);
    await settle();
    clock.advance(10);
    const next = execute(A);
    await settle();
    assert.equal(runtime.alive[0]?.running.length, 1, "it takes nothing more");
    runtime.alive[0]?.finishAll();
    assert.equal((await last).vm.id, "vm-0");
    await settle();
    runtime.alive[0]?.finishAll();
    assert.equal((await next).vm.id, "vm-1");
    assert.ok(told().includes("destroyed vm-0 session-limit"));
    await pool.close();
  });

  for (const kind of ["park", "restore"] as const)
    it(`comes in the middle of a ${kind}`, async () => {
      const { clock, runtime, pool, execute, told } =
        kind === "park"
          ? heldPool({ limits: { idleMs: sessionMs - 10 } })
          : await withOneParked({ limits: { parkedMs: sessionMs * 2 } });
      if (kind === "park") {
        const job = execute(A);
        await settle();
        runtime.alive[0]?.finishAll();
        await job;
      }
      runtime.hold.add(kind);
      if (kind === "park") clock.advance(sessionMs - 10);
      else clock.advance(sessionMs - idleMs - 10);
      const waiting = execute(A);
      await settle();
      assert.equal(runtime.pending[0]?.kind, kind);
      clock.advance(10);
      await settle();
      assert.equal(told().at(-2), "destroyed vm-0 session-limit");
      runtime.alive[0]?.finishAll();
      assert.equal((await waiting).vm.id, "vm-1");
      assert.equal(runtime.standing.length, 0);
      await pool.close();
    });
});

describe("the room of parked ones", () => {
  it("is bounded by their number, the one parked first goes first", async () => {
    const { runtime, clock, pool, runOne, told } = heldPool({ limits: { parkedMax: 2 } });
    for (const key of [A, B, C]) {
      await runOne(key);
      clock.advance(idleMs);
      await settle();
    }
    assert.deepEqual(
      runtime.standing.map(({ id }) => id),
      ["vm-1", "vm-2"],
    );
    assert.ok(told().includes("destroyed vm-0 quota"));
    await pool.close();
  });

  it("is bounded by what they take on disk, also when a state is larger than was expected", async () => {
    const { runtime, clock, pool, runOne } = heldPool({ limits: { parkedDiskBytesMax: 3 * 2 ** 28, parkedMax: 9 } });
    for (const key of [A, B, C]) {
      await runOne(key);
      clock.advance(idleMs);
      await settle();
    }
    assert.equal(runtime.standing.length, 3);
    runtime.stateBytes = 2 ** 29;
    await runOne(heldKey("d"));
    clock.advance(idleMs);
    await settle();
    assert.deepEqual(
      runtime.standing.map(({ id }) => id),
      ["vm-2", "vm-3"],
    );
    await pool.close();
  });

  it("is not asked for where no state fits", async () => {
    const { runtime, clock, pool, runOne, told } = heldPool({ limits: { parkedDiskBytesMax: 2 ** 28 - 1 } });
    await runOne(A);
    clock.advance(idleMs);
    await settle();
    assert.equal(runtime.parked.length, 0);
    assert.equal(told().at(-1), "destroyed vm-0 idle");
    await pool.close();
  });

  it("is given up when nobody wants it for long", async () => {
    const { runtime, clock, pool, told } = await withOneParked();
    clock.advance(parkedMs - 1);
    await settle();
    assert.equal(runtime.standing.length, 1);
    clock.advance(1);
    await settle();
    assert.equal(told().at(-1), "destroyed vm-0 idle");
    await pool.close();
    assert.equal(clock.pendingTimers, 0);
  });
});

describe("where parking is to stand still", () => {
  const stopped = { limits: { memoryBytesMax: 2 ** 29, vmsMax: 4 } };

  it("keeps its memory, and goes before anything else when memory is needed", async () => {
    const { runtime, clock, pool, runOne, execute, told } = await withOneParked({
      ...stopped,
      runtime: new HeldRuntime("stopped"),
    });
    assert.deepEqual([runtime.memoryBytes, runtime.vcpus, runtime.diskBytes], [2 ** 28, 0, 0]);
    await runOne(B);
    clock.advance(5_000);
    const third = execute(C);
    await settle();
    assert.ok(told().includes("destroyed vm-0 evicted"));
    assert.deepEqual(
      runtime.alive.map(({ id }) => id),
      ["vm-1", "vm-2"],
      "the warm one stays",
    );
    runtime.alive[1]?.finishAll();
    await third;
    await pool.close();
  });

  it("stays when it is a place that lacks, not memory", async () => {
    const { runtime, pool, runOne, execute, clock } = await withOneParked({
      limits: { vmsMax: 1 },
      runtime: new HeldRuntime("stopped"),
    });
    await runOne(B);
    const third = execute(C);
    await settle();
    clock.advance(1_000);
    await settle();
    assert.equal(runtime.standing.length, 1);
    assert.deepEqual(
      runtime.alive.map(({ id }) => id),
      ["vm-2"],
    );
    runtime.alive[0]?.finishAll();
    await third;
    await pool.close();
  });

  it("comes back without more memory", async () => {
    const { runtime, pool, runOne } = await withOneParked({
      limits: { memoryBytesMax: 2 ** 28 },
      runtime: new HeldRuntime("stopped"),
    });
    assert.equal(await runOne(A), "vm-0");
    assert.equal(runtime.memoryBytes, 2 ** 28);
    await pool.close();
  });
});

describe("processors", () => {
  it("bound the VMs that run, as memory does", async () => {
    const { runtime, pool, execute } = heldPool({ limits: { vmsMax: 9, vmVcpus: 4, vcpusMax: 11 } });
    const jobs = [A, B, C].map((key) => execute(key));
    await settle();
    assert.equal(runtime.vcpus, 8);
    for (const machine of runtime.alive) machine.finishAll();
    await Promise.all(jobs.slice(0, 2));
    jobs[2]?.catch(() => undefined);
    await pool.close();
  });

  it("must hold one VM", () => {
    assert.throws(() => heldPool({ limits: { vmVcpus: 4, vcpusMax: 3 } }), rejectsWith("config.invalid"));
    assert.throws(() => heldPool({ limits: { memoryBytesMax: 1 } }), rejectsWith("config.invalid"));
  });
});

describe("closing", () => {
  for (const kind of ["boot", "park", "restore", "destroy"] as const)
    it(`ends a ${kind} that is under way, and who waits for it`, async () => {
      const { runtime, clock, pool, execute, told } =
        kind === "restore"
          ? await withOneParked()
          : heldPool({ limits: { vmsMax: 1, parkedMax: kind === "destroy" ? 0 : 1 } });
      if (kind === "park" || kind === "destroy") {
        const job = execute(A);
        await settle();
        runtime.alive[0]?.finishAll();
        await job;
      }
      runtime.hold.add(kind);
      if (kind === "park" || kind === "destroy") clock.advance(idleMs);
      const waiting = execute(A);
      await settle();
      assert.equal(runtime.pending[0]?.kind, kind);
      const closed = pool.close();
      await assert.rejects(waiting, rejectsWith("vm.lost"));
      await settle();
      while (runtime.pending[0]) runtime.pending[0].finish();
      await closed;
      assert.deepEqual([runtime.memoryBytes, runtime.diskBytes, runtime.pending.length], [0, 0, 0]);
      assert.equal(clock.pendingTimers, 0);
      const ended = told().filter((line) => line.startsWith("destroyed"));
      assert.equal(ended.length, kind === "boot" ? 0 : 1);
    });

  it("destroys what is parked", async () => {
    const { runtime, pool, told } = await withOneParked();
    await pool.close();
    assert.equal(runtime.standing.length, 0);
    assert.equal(told().at(-1), "destroyed vm-0 closed");
  });
});
