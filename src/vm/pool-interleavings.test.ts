// The pool under thousands of steps in random order, seeded: jobs come, leave and end, machines boot, park, come back, fail and
// die, time goes by. After each step what must never be is looked for; at the end nothing is left and each VM's rows make a life.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { HELD_LIMITS, heldKey, heldPool } from "../../test/support/held-pool.ts";
import { type HeldOperation, HeldRuntime } from "../../test/support/held-runtime.ts";
import { HpccError } from "../base/errors.ts";
import type { VmPoolLimits } from "./pool.ts";
import type { PoolKey } from "./pool-key.ts";
import type { Parking } from "./runtime.ts";

const STEPS = 2_500;
const LIMITS: VmPoolLimits = {
  ...HELD_LIMITS,
  placesMax: 5,
  vmsMax: 4,
  memoryBytesMax: 5 * 2 ** 28,
  vcpusMax: 7,
  vmVcpus: 2,
  parkedMax: 3,
  parkedDiskBytesMax: 2 * 2 ** 28,
  queuePerTenantMax: 6,
  sparesMax: 2,
};
const KEYS: readonly PoolKey[] = [
  heldKey("a"),
  heldKey("a", { user: "bob" }),
  heldKey("a", { image: "clang" }),
  heldKey("b"),
  heldKey("b", { golden: "own" }),
  heldKey("c", { trust: "clean" }),
  heldKey("c", { trust: "clean", user: "bob" }),
  heldKey("a", { trust: "clean" }),
  heldKey("b", { trust: "clean", golden: "own" }),
];
const SESSIONS = KEYS.filter(({ trust }) => trust === "session");
/** How often each event and each reason comes at least in all runs together: fewer would be luck. */
const REACHED_MIN = 5;
const KEY_OF = new Map<string, PoolKey>(KEYS.map((key) => [key.text, key]));

/** Numbers in [0, 1), the same for the same seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

class Simulation {
  readonly random: () => number;
  readonly fixture: ReturnType<typeof heldPool>;
  readonly runtime: HeldRuntime;
  /** Jobs that have not ended, with what makes them leave. */
  readonly open = new Map<Promise<unknown>, AbortController>();
  readonly ends = new Map<string, number>();
  faults = true;

  constructor(seed: number, parking: Parking) {
    this.random = seeded(seed);
    this.runtime = new HeldRuntime(parking);
    for (const kind of ["boot", "park", "restore", "destroy"] as const) this.runtime.hold.add(kind);
    this.fixture = heldPool({
      limits: LIMITS,
      runtime: this.runtime,
      onEvent: (event) =>
        this.faults && (event.t === "booted" || event.t === "restored") && this.random() < 0.03
          ? Promise.reject(new HpccError("audit.io", "the disk is full"))
          : Promise.resolve(),
    });
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[Math.floor(this.random() * items.length)];
  }

  begin(keys: readonly PoolKey[]): void {
    const key = this.pick(keys)!;
    const leave = new AbortController();
    const job: Promise<unknown> = this.fixture.execute(key, leave.signal).then(
      ({ vm, life }) => {
        assert.equal(life, key.trust);
        assert.ok(this.#ran(vm.id).includes(key.text), `${vm.id} did not run what it answers for`);
        this.#count("done");
      },
      (error: unknown) => {
        assert.ok(error instanceof HpccError, String(error));
        this.#count(error.code);
      },
    );
    this.open.set(job, leave);
    void job.finally(() => this.open.delete(job)).catch(() => undefined);
  }

  /** One random step; in a quiet hour few jobs come, all of sessions: VMs are idle, are parked and come back. */
  step(quiet: boolean): void {
    const { runtime } = this;
    const dice = this.random();
    if (dice < 0.3 && quiet && this.random() < 0.75) return;
    if (dice < 0.3) this.begin(quiet ? SESSIONS : KEYS);
    else if (dice < 0.34) this.pick([...this.open.values()])?.abort();
    else if (dice < 0.56)
      this.pick(this.pick(runtime.alive.filter(({ running }) => running.length > 0))?.running ?? [])?.finish();
    else if (dice < 0.78) this.#end(this.pick(runtime.pending));
    else if (dice < 0.8)
      this.pick(runtime.alive)?.die(this.random() < 0.5 ? { t: "lost", detail: "" } : { t: "breach", detail: "" });
    else if (dice < 0.81) this.pick(runtime.standing.filter(({ restoring }) => !restoring))?.lose("");
    else if (dice < 0.82)
      this.pick(this.pick(runtime.alive)?.running ?? [])?.fail(
        new HpccError(this.random() < 0.5 ? "vm.breach" : "job.failed", ""),
      );
    else if (dice < 0.96) this.fixture.clock.advance(this.random() * 3_000);
    else if (dice < 0.995) this.fixture.clock.advance(LIMITS.idleMs * (0.5 + this.random()));
    else this.fixture.clock.advance(this.pick([LIMITS.parkedMs, LIMITS.sessionMs])!);
  }

  #end(operation: HeldOperation | undefined): void {
    if (!operation) return;
    if (operation.kind === "destroy" || this.random() < 0.85) operation.finish();
    else if (operation.kind === "park")
      operation.fail(new HpccError(this.random() < 0.5 ? "vm.lost" : "vm.breach", ""));
    else operation.fail(new HpccError("vm.boot", ""));
  }

  /** What must never be. */
  check(): void {
    const { runtime } = this;
    const running = runtime.present.length + runtime.starting.size;
    assert.ok(running <= LIMITS.vmsMax, `${running} VMs`);
    assert.ok(runtime.memoryBytes <= LIMITS.memoryBytesMax, `${runtime.memoryBytes} bytes of memory`);
    assert.ok(runtime.vcpus <= LIMITS.vcpusMax, `${runtime.vcpus} processors`);
    const executions = runtime.alive.map((machine) => machine.running.length);
    assert.ok(
      executions.every((count) => count <= LIMITS.executionsPerVmMax),
      `${executions.join()} executions`,
    );
    const total = executions.reduce((sum, count) => sum + count, 0);
    assert.ok(total <= LIMITS.placesMax, `${total} executions`);
    const standing = runtime.standing.filter(({ restoring }) => !restoring);
    const parking = runtime.pending.filter(({ kind }) => kind === "park").length;
    assert.ok(standing.length + parking <= LIMITS.parkedMax, `${standing.length} parked`);
    // What is being written may take as much as the VM's memory.
    const coming = runtime.parking === "snapshot" ? parking * LIMITS.vmMemoryBytes : 0;
    const diskBytes = standing.reduce((sum, parked) => sum + parked.diskBytes, coming);
    assert.ok(diskBytes <= LIMITS.parkedDiskBytesMax, `${diskBytes} bytes on disk`);
    this.#checkOwners();
  }

  #checkOwners(): void {
    const owners = this.#owners();
    const seen = new Set<string>();
    for (const { id } of this.runtime.standing.filter(({ restoring }) => !restoring)) {
      const owner = owners.get(id)!;
      assert.ok(!seen.has(owner.text), `two parked VMs of one key, one of them ${id}`);
      seen.add(owner.text);
    }
    for (const { id, spec } of this.runtime.machines) {
      const ran = this.#ran(id);
      const [first] = ran;
      if (first === undefined) continue;
      const key = KEY_OF.get(first)!;
      assert.equal(spec.rootfs, `/rootfs/${key.image}`, "its image is the job's");
      assert.equal(spec.goldenOwner, key.golden === "own" ? key.tenant : null);
      if (key.trust === "clean") assert.equal(ran.length, 1, `the clean ${id} ran ${ran.length} jobs`);
      else
        assert.ok(
          ran.every((text) => text === first),
          `${id} ran the jobs of two keys`,
        );
      assert.equal(owners.get(id)?.tenant, key.tenant, "nothing runs before the row of its boot");
    }
  }

  #owners(): Map<string, { readonly tenant: string; readonly trust: string; readonly text: string }> {
    const owners = new Map<string, { tenant: string; trust: string; text: string }>();
    for (const event of this.fixture.events)
      if (event.t === "booted") {
        const { tenant, trust, user, image } = event.owner;
        owners.set(event.vm.id, { tenant, trust, text: [tenant, user, image, event.spec.goldenOwner].join() });
      }
    return owners;
  }

  #ran(id: string): string[] {
    return this.runtime.machines.filter((machine) => machine.id === id).flatMap(({ ran }) => ran);
  }

  #count(end: string): void {
    this.ends.set(end, (this.ends.get(end) ?? 0) + 1);
  }

  /** No more faults: all that waits is served. */
  async calm(): Promise<void> {
    this.faults = false;
    for (let round = 0; round < 500 && this.open.size > 0; round += 1) {
      this.runtime.finishPending();
      for (const machine of this.runtime.alive) machine.finishAll();
      this.fixture.clock.advance(1_000);
      await turn();
      this.check();
    }
    assert.equal(this.open.size, 0, "a job was forgotten");
  }

  async close(): Promise<void> {
    const closed = this.fixture.pool.close();
    for (let round = 0; round < 100; round += 1) {
      this.runtime.finishPending();
      await turn();
    }
    await closed;
    assert.deepEqual([this.runtime.memoryBytes, this.runtime.diskBytes, this.runtime.pending.length], [0, 0, 0]);
    assert.deepEqual([this.runtime.present.length, this.runtime.standing.length], [0, 0]);
    assert.equal(this.fixture.clock.pendingTimers, 0);
    assert.equal(this.open.size, 0);
  }

  checkRows(): void {
    const lives = new Map<string, string>();
    for (const event of this.fixture.events) {
      if (event.t === "boot-failed") continue;
      lives.set(event.vm.id, `${lives.get(event.vm.id) ?? ""}${event.t} `);
    }
    for (const [id, life] of lives)
      assert.match(life, /^booted (parked restored )*(parked )?destroyed $/, `the rows of ${id}`);
    for (const { id, ran } of this.runtime.machines) assert.ok(ran.length === 0 || lives.has(id), `${id} has no rows`);
  }
}

/** Lets all that is due happen. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe("the pool under random interleavings", () => {
  const reached = new Map<string, number>();
  for (const [parking, seeds] of [
    ["snapshot", [1, 2, 3, 4]],
    ["stopped", [5, 6, 7, 8]],
  ] as const)
    for (const seed of seeds)
      it(`keeps its promises: parking is ${parking}, seed ${seed}`, async () => {
        const simulation = new Simulation(seed, parking);
        for (let step = 0; step < STEPS; step += 1) {
          simulation.step(step % 400 >= 100);
          await turn();
          simulation.check();
        }
        assert.ok((simulation.ends.get("done") ?? 0) > STEPS / 20, JSON.stringify([...simulation.ends]));
        if (seed % 2 === 0) await simulation.calm();
        await simulation.close();
        simulation.checkRows();
        for (const event of simulation.fixture.events) {
          const what = event.t === "destroyed" ? event.reason : event.t;
          reached.set(what, (reached.get(what) ?? 0) + 1);
        }
      });

  it("came by every event and every reason more than once", () => {
    const all =
      "booted boot-failed parked restored idle evicted closed lost breach session-limit quota one-job park-failed";
    for (const one of [...all.split(" "), "restore-failed"]) {
      const times = reached.get(one) ?? 0;
      assert.ok(times >= REACHED_MIN, `${one} only ${times} times`);
    }
  });
});
