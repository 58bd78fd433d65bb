// Who gets how many of a worker's places: one user all of them while he is alone, and nobody waits long when he is not. Compiles
// have lengths, and the clock is moved by hand.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { heldKey, rejectsWith, settle } from "../../test/support/held-pool.ts";
import type { HeldMachine } from "../../test/support/held-runtime.ts";
import { TimedLoad } from "../../test/support/timed-load.ts";
import { HpccError } from "../base/errors.ts";
import type { VmPoolLimits } from "./pool.ts";
import type { PoolKey } from "./pool-key.ts";

const ANN = heldKey("acme");
const BOB = heldKey("acme", { user: "bob" });
const EVE = heldKey("other", { user: "eve" });
const BOOT_MS = 200;
const COMPILE_MS = 1_000;
const times = (count: number, lengthMs = COMPILE_MS): number[] => Array.from({ length: count }, () => lengthMs);

/** As a worker of eight processors has by default: eight places, and room for as many VMs again as fill them. */
const EIGHT: Partial<VmPoolLimits> = { placesMax: 8, vmsMax: 8, executionsPerVmMax: 2, memoryBytesMax: 2 ** 31 };
/** No more room than VMs that fill the places. */
const SCARCE: Partial<VmPoolLimits> = { ...EIGHT, vmsMax: 4 };

describe("a user alone", () => {
  it("has all eight places with -j64, from the first boot to the last compile", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    load.arrive(ANN, times(64));
    await load.until(() => load.running > 0, BOOT_MS, "the first compile begins");
    assert.equal(load.running, 8);
    assert.equal(load.runtime.machines.length, 4, "two executions in each VM");
    await load.until(() => load.ended === 64, 8 * COMPILE_MS, "all end");
    assert.equal(load.nowMs, BOOT_MS + 8 * COMPILE_MS, "eight rounds, no place idle between two compiles");
    assert.equal(load.runtime.machines.length, 4);
    await load.close();
  });

  it("has no more VMs than his compiles fill", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    load.arrive(ANN, times(3));
    await load.until(() => load.running === 3, BOOT_MS, "all run");
    assert.equal(load.runtime.machines.length, 2);
    for (let round = 0; round < 5; round += 1) {
      await load.until(() => load.running === 0, COMPILE_MS, "they end");
      load.arrive(ANN, times(4));
      await load.settle();
      assert.equal(load.running, 4);
    }
    assert.equal(load.runtime.machines.length, 2);
    await load.close();
  });

  it("keeps one VM parked when he has gone, and gives the others' memory back", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    load.arrive(ANN, times(8));
    await load.until(() => load.ended === 8, BOOT_MS + COMPILE_MS, "all end");
    load.fixture.clock.advance(load.limits.idleMs);
    await load.settle();
    assert.deepEqual([load.runtime.alive.length, load.runtime.standing.length, load.runtime.memoryBytes], [0, 1, 0]);
    load.arrive(ANN, times(8));
    await load.until(() => load.running === 8, BOOT_MS, "he grows again");
    assert.equal(load.runtime.machines.at(-1)?.origin === "parked" || load.runtime.standing.length === 0, true);
    await load.close();
  });

  it("goes on with what he has when a further VM does not boot, and grows again later", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    load.arrive(ANN, times(1));
    await load.until(() => load.running === 1, BOOT_MS, "it runs");
    load.runtime.failures.set("boot", new HpccError("vm.boot", "no"));
    load.arrive(ANN, times(100));
    await load.until(() => load.ended > 4, 4 * COMPILE_MS, "they are compiled");
    const failed = load.fixture.events.filter(({ t }) => t === "boot-failed").length;
    assert.ok(failed > 0 && failed <= 4, `${failed} boots failed`);
    load.runtime.failures.clear();
    await load.until(() => load.running === 8, 10 * COMPILE_MS, "he has all places again");
    await load.close();
  });

  it("gets no more VMs than his share fills while compiles of VMs that leave hold places", async () => {
    const load = new TimedLoad({ ...EIGHT, placesMax: 4, sessionMs: 5_000 }, BOOT_MS);
    load.arrive(ANN, times(4, 60_000));
    await load.until(() => load.nowMs >= 6_000, 7_000, "his sessions are over");
    load.arrive(ANN, times(20));
    await load.settle();
    assert.equal(load.runtime.starting.size, 1, "one, for the place that becomes free next");
    await load.close();
  });

  it("with clean lives has no more VMs than places and spares", async () => {
    const load = new TimedLoad({ ...EIGHT, placesMax: 4, vmsMax: 32, memoryBytesMax: 2 ** 34 }, BOOT_MS);
    load.arrive(heldKey("third", { trust: "clean" }), times(40));
    let most = 0;
    while (load.ended < 40) {
      await load.step();
      most = Math.max(most, load.runtime.present.length + load.runtime.starting.size);
    }
    assert.ok(most <= 2 * 4, `${most} VMs`);
    await load.close();
  });

  it("waits for nothing when his only VM does not boot", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    load.runtime.failures.set("boot", new HpccError("vm.boot", "no"));
    await assert.rejects(load.fixture.execute(ANN), rejectsWith("vm.boot"));
    await load.close();
  });
});

describe("a second user", () => {
  for (const [room, limits] of [
    ["room for his VMs", EIGHT],
    ["room for his VMs only when others leave", SCARCE],
  ] as const)
    for (const second of [BOB, EVE])
      it(`of ${second.tenant === ANN.tenant ? "the same" : "another"} tenant has his half within a compile and a boot, with ${room}`, async () => {
        const load = new TimedLoad(limits, BOOT_MS);
        load.arrive(ANN, times(300));
        await load.until(() => load.ended >= 20, 10 * COMPILE_MS, "ann is busy");
        load.arrive(second, times(64));
        const half = (): boolean => load.runningOf(({ text }) => text === second.text) === 4;
        await load.until(half, COMPILE_MS + BOOT_MS, "he has half of the places");
        for (let ms = 0; ms < 5 * COMPILE_MS; ms += 50) {
          await load.step();
          assert.ok(half(), `at ${load.nowMs} ms he has ${load.runningOf(({ text }) => text === second.text)}`);
          assert.equal(load.running, 8, "and no place is idle");
        }
        await load.until(
          () => load.running === 8 && load.waiting.every(({ key }) => key === ANN),
          60_000,
          "he is done",
        );
        const whenIdleMs = COMPILE_MS + (limits === SCARCE ? load.limits.tenureMs : 0);
        await load.until(() => load.runningOf((key) => key === ANN) === 8, whenIdleMs + BOOT_MS, "ann has all again");
        await load.close();
      });

  it("with one compile has the next place", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    load.arrive(
      ANN,
      Array.from({ length: 100 }, (_, at) => 500 + ((at * 150) % 1_050)),
    );
    await load.until(() => load.ended >= 20, 10 * COMPILE_MS, "ann is busy");
    const [one] = load.arrive(BOB, times(1));
    await load.until(() => load.runtime.starting.size === 0, BOOT_MS, "his VM boots while all places are taken");
    const ended = load.ended;
    await load.until(() => one!.startedMs !== null, COMPILE_MS, "it runs");
    assert.ok(load.ended - ended <= 1 + 1, `after ${load.ended - ended} compiles of others`);
    await load.close();
  });

  it("who has as many VMs as the first takes none from him, and loses none", async () => {
    const load = new TimedLoad({ ...EIGHT, vmsMax: 2 }, BOOT_MS);
    load.arrive(ANN, times(300));
    load.arrive(BOB, times(300));
    const places = () => [ANN, BOB].map((key) => load.runningOf((other) => other === key));
    await load.until(() => places().join() === "2,2", 2 * COMPILE_MS, "each has a VM");
    const booted = load.runtime.machines.length;
    await load.until(() => load.nowMs >= 5 * load.limits.tenureMs, 5 * load.limits.tenureMs, "time goes by");
    assert.equal(load.runtime.machines.length, booted);
    assert.deepEqual(places(), [2, 2]);
    await load.close();
  });

  it("has his turn where there are fewer places than users", async () => {
    const load = new TimedLoad({ ...EIGHT, placesMax: 1 }, BOOT_MS);
    load.arrive(ANN, times(50));
    load.arrive(EVE, times(50));
    await load.until(() => load.ended >= 4, 10 * COMPILE_MS, "they are busy");
    const [one] = load.arrive(BOB, times(1));
    await load.until(() => one!.endedMs !== null, 4 * COMPILE_MS + BOOT_MS, "each of the three had a turn");
    await load.close();
  });

  it("does not lose an idle VM to one who grows, before it is idle for a tenure", async () => {
    const load = new TimedLoad(SCARCE, BOOT_MS);
    load.arrive(BOB, times(1));
    await load.until(() => load.ended === 1, 2 * COMPILE_MS, "bob's compile ends");
    load.arrive(ANN, times(64));
    await load.until(() => load.running === 6, BOOT_MS, "ann has the other three VMs");
    await load.until(() => load.nowMs >= 5_000, 5_000, "time goes by");
    const [next] = load.arrive(BOB, times(1));
    await load.until(() => next!.startedMs !== null, 100, "his VM is still there");
    await load.until(() => next!.endedMs !== null, COMPILE_MS, "it ends");
    load.arrive(ANN, times(100));
    await load.until(() => load.running === 8, load.limits.tenureMs + BOOT_MS + 100, "then ann has it");
    await load.close();
  });

  it("counts as one of his tenant: a tenant with many users has no more than one with one", async () => {
    const load = new TimedLoad(EIGHT, BOOT_MS);
    for (const user of ["ann", "bob", "joe"]) load.arrive(heldKey("acme", { user }), times(50));
    load.arrive(EVE, times(50));
    await load.until(() => load.ended >= 40, 20 * COMPILE_MS, "they are busy");
    const places = ["ann", "bob", "joe"].map((user) => load.runningOf((key) => key.user === user));
    assert.deepEqual([places.toSorted((a, b) => a - b), load.runningOf((key) => key === EVE)], [[1, 1, 2], 4]);
    await load.close();
  });
});

describe("any arrivals", () => {
  const KEYS = [
    ANN,
    BOB,
    EVE,
    heldKey("acme", { image: "clang" }),
    heldKey("third", { trust: "clean" }),
    heldKey("third", { trust: "clean", user: "bob" }),
  ];
  const arrivals = fc.array(
    fc.record({
      gapMs: fc.constantFrom(0, 0, 50, 400, 2_500),
      key: fc.constantFrom(...KEYS),
      lengthsMs: fc.array(
        fc.integer({ min: 1, max: 30 }).map((steps) => steps * 50),
        { minLength: 1, maxLength: 16 },
      ),
    }),
    { minLength: 1, maxLength: 12 },
  );
  const sizes = fc.record({
    placesMax: fc.integer({ min: 1, max: 9 }),
    vmsMax: fc.integer({ min: 1, max: 8 }),
    vmsOfMemory: fc.integer({ min: 1, max: 8 }),
    executionsPerVmMax: fc.integer({ min: 1, max: 3 }),
  });
  const LONGEST_MS = 1_500;

  it("never more than there is, no place idle that somebody could use, nobody forgotten", async () => {
    await fc.assert(
      fc.asyncProperty(arrivals, sizes, async (coming, { vmsOfMemory, ...size }) => {
        const limits = { ...size, memoryBytesMax: vmsOfMemory * 2 ** 28, tenureMs: 2_000, sparesMax: 1 };
        const load = new TimedLoad(limits, BOOT_MS);
        const watch = new Watch(load);
        for (const { gapMs, key, lengthsMs } of coming) {
          for (let ms = 0; ms < gapMs; ms += 50) await watch.step();
          load.arrive(key, lengthsMs);
        }
        const total = load.jobs.length;
        // Each in turn, with a tenure and a boot before each: slower than that is standing still.
        const worstMs = total * (LONGEST_MS + BOOT_MS + limits.tenureMs);
        while (load.ended < total) {
          assert.ok(load.nowMs < worstMs + 60_000, `${total - load.ended} of ${total} compiles never ran`);
          await watch.step();
        }
        watch.checkWhoLeft();
        await load.close();
      }),
      { numRuns: 120 },
    );
  });

  it("where all have room for a VM, nobody waits for more compiles than there are users, but for his boot", async () => {
    await fc.assert(
      fc.asyncProperty(arrivals, fc.integer({ min: 1, max: 6 }), async (coming, placesMax) => {
        const sessions = coming.filter(({ key }) => key.trust === "session");
        const load = new TimedLoad({ ...EIGHT, placesMax, vmsMax: 16, memoryBytesMax: 2 ** 33 }, BOOT_MS);
        const turns = new Turns(load);
        for (const { gapMs, key, lengthsMs } of sessions) {
          for (let ms = 0; ms < gapMs; ms += 50) await turns.step();
          load.arrive(key, lengthsMs);
        }
        while (load.ended < load.jobs.length) await turns.step();
        await load.close();
      }),
      { numRuns: 80 },
    );
  });

  /** Looks after each step for what must never be. */
  class Watch {
    readonly #load: TimedLoad;
    /** Machines that had a free place while their key waited, with what they had run then. */
    readonly #passedOver = new Map<HeldMachine, number>();

    constructor(load: TimedLoad) {
      this.#load = load;
    }

    async step(): Promise<void> {
      await this.#load.step();
      await settle();
      const { runtime, limits, running, waiting } = this.#load;
      assert.ok(running <= limits.placesMax, `${running} executions`);
      const present = runtime.present.length + runtime.starting.size;
      assert.ok(present <= limits.vmsMax, `${present} VMs`);
      assert.ok(runtime.memoryBytes <= limits.memoryBytesMax, `${runtime.memoryBytes} bytes`);
      for (const machine of runtime.alive)
        assert.ok(machine.running.length <= limits.executionsPerVmMax, `${machine.running.length} in ${machine.id}`);
      if (running === limits.placesMax || waiting.length === 0) return;
      const hasRoom = present < limits.vmsMax && runtime.memoryBytes + 2 ** 28 <= limits.memoryBytesMax;
      assert.ok(!hasRoom || runtime.starting.size > 0, "a place and room are idle while somebody waits");
      for (const machine of runtime.alive)
        if (this.#couldServe(machine)) this.#passedOver.set(machine, machine.ran.length);
    }

    #couldServe(machine: HeldMachine): boolean {
      const [first] = machine.ran;
      if (first === undefined || machine.running.length === this.#load.limits.executionsPerVmMax) return false;
      const { key } = this.#load.jobs[Number(first)]!;
      return key.trust === "session" && this.#load.waiting.some((job) => job.key === key);
    }

    /** One that was passed over was on its way out. */
    checkWhoLeft(): void {
      const reasons = new Map<string, string>();
      for (const event of this.#load.fixture.events)
        if (event.t === "destroyed") reasons.set(event.vm.id, event.reason);
      for (const [machine, ran] of this.#passedOver) {
        assert.equal(machine.ran.length, ran, `${machine.id} was idle while its user waited`);
        assert.equal(reasons.get(machine.id), "evicted");
      }
    }
  }

  /** Counts how many compiles of others end while a user has a VM and runs nothing. */
  class Turns {
    readonly #load: TimedLoad;
    readonly #waitedFrom = new Map<string, number>();

    constructor(load: TimedLoad) {
      this.#load = load;
    }

    async step(): Promise<void> {
      const { placesMax } = this.#load.limits;
      await this.#load.step();
      const { ended, waiting } = this.#load;
      const keys = new Set(waiting.map(({ key }) => key));
      for (const key of KEYS) {
        const served = !keys.has(key) || this.#load.runningOf((other) => other === key) > 0 || !this.#hasVm(key);
        if (served) this.#waitedFrom.delete(key.text);
        else {
          const from = this.#waitedFrom.get(key.text) ?? ended;
          this.#waitedFrom.set(key.text, from);
          assert.ok(ended - from <= KEYS.length + placesMax, `${ended - from} compiles went before`);
        }
      }
    }

    #hasVm(key: PoolKey): boolean {
      return this.#load.runtime.alive.some(({ spec, ran }) => {
        const [first] = ran;
        if (first !== undefined) return this.#load.jobs[Number(first)]!.key === key;
        return spec.rootfs === `/rootfs/${key.image}` && this.#load.runtime.starting.size === 0;
      });
    }
  }
});
