// Compiles of known lengths on a pool with a HeldRuntime, in steps of a clock that is moved by hand: who runs what when.
import assert from "node:assert/strict";
import type { VmPoolLimits } from "../../src/vm/pool.ts";
import type { PoolKey } from "../../src/vm/pool-key.ts";
import { HELD_LIMITS, heldPool, settle } from "./held-pool.ts";
import { type HeldMachine, type HeldOperation, HeldRuntime, heldRequest } from "./held-runtime.ts";

export const STEP_MS = 50;

export interface TimedJob {
  readonly key: PoolKey;
  readonly lengthMs: number;
  readonly arrivedMs: number;
  startedMs: number | null;
  endedMs: number | null;
}

interface Running {
  readonly job: TimedJob;
  readonly machine: HeldMachine;
  readonly finish: () => void;
}

export class TimedLoad {
  readonly jobs: TimedJob[] = [];
  readonly limits: VmPoolLimits;
  readonly runtime = new HeldRuntime();
  readonly fixture: ReturnType<typeof heldPool>;
  readonly #bootMs: number;
  readonly #running = new Set<Running>();
  readonly #boots = new Map<HeldOperation, number>();
  readonly #ranSeen = new Map<HeldMachine, number>();
  readonly #startMs: number;

  constructor(limits: Partial<VmPoolLimits>, bootMs: number) {
    this.limits = { ...HELD_LIMITS, queuePerTenantMax: 10_000, ...limits };
    this.#bootMs = bootMs;
    this.runtime.hold.add("boot");
    this.fixture = heldPool({ limits: this.limits, runtime: this.runtime });
    this.#startMs = this.fixture.clock.monotonicMs();
  }

  get nowMs(): number {
    return this.fixture.clock.monotonicMs() - this.#startMs;
  }

  get running(): number {
    return this.#running.size;
  }

  runningOf(matches: (key: PoolKey) => boolean): number {
    return [...this.#running].filter(({ job }) => matches(job.key)).length;
  }

  get waiting(): readonly TimedJob[] {
    return this.jobs.filter(({ startedMs }) => startedMs === null);
  }

  get ended(): number {
    return this.jobs.filter(({ endedMs }) => endedMs !== null).length;
  }

  /** Compiles that arrive now. */
  arrive(key: PoolKey, lengthsMs: readonly number[]): TimedJob[] {
    const { signal } = new AbortController();
    return lengthsMs.map((lengthMs) => {
      const job: TimedJob = { key, lengthMs, arrivedMs: this.nowMs, startedMs: null, endedMs: null };
      const label = heldRequest(String(this.jobs.push(job) - 1));
      void this.fixture.pool.execute(key, `/rootfs/${key.image}`, label, { signal }).catch(() => undefined);
      return job;
    });
  }

  /** Lets all that is due now happen, then moves the clock on. */
  async step(): Promise<void> {
    await this.settle();
    this.fixture.clock.advance(STEP_MS);
    for (const one of this.#running)
      if (one.job.startedMs! + one.job.lengthMs <= this.nowMs) {
        this.#running.delete(one);
        one.job.endedMs = this.nowMs;
        one.finish();
      }
    for (const [boot, dueMs] of this.#boots)
      if (dueMs <= this.nowMs) {
        this.#boots.delete(boot);
        boot.finish();
      }
    await this.settle();
  }

  /** Steps until a condition holds; fails when it does not within so long. */
  async until(condition: () => boolean, withinMs: number, what: string): Promise<void> {
    const endMs = this.nowMs + withinMs;
    while (!condition()) {
      assert.ok(this.nowMs < endMs, `not within ${withinMs} ms: ${what}`);
      await this.step();
    }
  }

  async settle(): Promise<void> {
    await settle();
    for (const boot of this.runtime.pending)
      if (!this.#boots.has(boot)) this.#boots.set(boot, this.nowMs + this.#bootMs);
    for (const machine of this.runtime.machines) this.#note(machine);
  }

  /** Executions that began in a machine since the last look. */
  #note(machine: HeldMachine): void {
    const { ran, running } = machine;
    for (let at = this.#ranSeen.get(machine) ?? 0; at < ran.length; at += 1) {
      const job = this.jobs[Number(ran[at])]!;
      job.startedMs = this.nowMs;
      this.#running.add({ job, machine, finish: running[running.length - (ran.length - at)]!.finish });
    }
    this.#ranSeen.set(machine, ran.length);
  }

  async close(): Promise<void> {
    const closed = this.fixture.pool.close();
    this.runtime.finishPending();
    await closed;
  }
}
