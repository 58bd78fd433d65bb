// The pool on a runtime that is real but trivial: its machines hold executions until the test ends them. Time is moved by hand.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ascii } from "../base/byte-string.ts";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { sha256 } from "../core/digest/digest.ts";
import { parseSpiffeId } from "../core/identity/spiffe.ts";
import type { ExecutionRequest, ExecutionResult, ReceivedBytes } from "./execution.ts";
import type { VmPoolLimits } from "./pool.ts";
import { makePoolKey, type PoolKey } from "./pool-key.ts";
import type { BootSpec, Machine, MachineEnd, Runtime } from "./runtime.ts";
import type { VmEvent } from "./vm-event.ts";
import { WarmVmPool } from "./warm-vm-pool.ts";

const EMPTY: ReceivedBytes = {
  sizeBytes: 0,
  async *chunks() {},
  bytes: () => Promise.resolve(new Uint8Array()),
};
const RESULT: ExecutionResult = {
  exit: { kind: "code", code: 0 },
  stdout: EMPTY,
  stderr: EMPTY,
  outputs: [],
  wallUs: 1,
  cpuUs: 1,
  memoryPeakBytes: 1,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
const REQUEST: ExecutionRequest = {
  argv: [ascii("/usr/bin/cc")],
  environment: [],
  cwd: ascii("/"),
  inputs: [],
  outputs: [],
  limits: { wallMs: 1, memoryBytes: 1, pids: 1, outputBytes: 1, stdioBytes: 1 },
  terminalColumns: 0,
};

class HeldMachine implements Machine {
  readonly isolation = "namespace";
  readonly versions = {
    vmm: "none",
    kernelDigest: "",
    initramfsDigest: "",
    agentDigest: "",
    kernelRelease: "",
    agentVersion: "",
  };
  readonly bootMs = 1;
  readonly id: string;
  readonly ended: Promise<MachineEnd>;
  alive = true;
  /** Ends the execution that began first. */
  readonly running: { readonly finish: () => void; readonly fail: (error: Error) => void }[] = [];
  #end!: (end: MachineEnd) => void;

  constructor(id: string) {
    this.id = id;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  readonly session = {
    execute: (_request: ExecutionRequest, { signal }: { signal: AbortSignal }): Promise<ExecutionResult> =>
      new Promise((resolve, reject) => {
        const run = {
          finish: () => {
            this.running.splice(this.running.indexOf(run), 1);
            resolve(RESULT);
          },
          fail: (error: Error) => {
            this.running.splice(this.running.indexOf(run), 1);
            reject(error);
          },
        };
        this.running.push(run);
        signal.addEventListener("abort", () => run.fail(new HpccError("job.cancelled", "cancelled")));
      }),
  };

  finishAll(): void {
    while (this.running[0]) this.running[0].finish();
  }

  die(end: MachineEnd): void {
    this.alive = false;
    const error = new HpccError(end.t === "breach" ? "vm.breach" : "vm.lost", "gone");
    while (this.running[0]) this.running[0].fail(error);
    this.#end(end);
  }

  async destroy(): Promise<void> {
    this.die({ t: "destroyed" });
    await this.ended;
  }
}

class HeldRuntime implements Runtime {
  readonly isolation = "namespace";
  readonly machines: HeldMachine[] = [];
  /** While set, boots wait for it. */
  gate: Promise<void> = Promise.resolve();
  refuse: Error | null = null;

  async boot(_spec: BootSpec, signal: AbortSignal): Promise<Machine> {
    await this.gate;
    signal.throwIfAborted();
    if (this.refuse) throw this.refuse;
    const machine = new HeldMachine(`vm-${this.machines.length}`);
    this.machines.push(machine);
    return machine;
  }

  get alive(): readonly HeldMachine[] {
    return this.machines.filter((machine) => machine.alive);
  }
}

function key(tenant: string, user = "ann", image = "gcc"): PoolKey {
  const principal = parseSpiffeId(`spiffe://example.org/tenant/${tenant}/user/${user}`);
  assert.ok(principal.kind === "user");
  return makePoolKey({ principal, image: sha256(Buffer.from(image)), trust: "session" });
}

const LIMITS: VmPoolLimits = {
  vmsMax: 2,
  memoryBytesMax: 2 ** 30,
  vmMemoryBytes: 2 ** 28,
  vmVcpus: 1,
  executionsPerVmMax: 2,
  queuePerTenantMax: 4,
  idleMs: 60_000,
  tenureMs: 10_000,
};

function fixture(limits: Partial<VmPoolLimits> = {}) {
  const runtime = new HeldRuntime();
  const clock = new ManualClock();
  const events: VmEvent[] = [];
  const pool = new WarmVmPool({
    runtime,
    limits: { ...LIMITS, ...limits },
    events: (event) => {
      events.push(event);
      return Promise.resolve();
    },
    clock,
    logger: SILENT_LOGGER,
  });
  return {
    runtime,
    clock,
    events,
    pool,
    execute: (of: PoolKey, signal = new AbortController().signal) => pool.execute(of, "/rootfs", REQUEST, { signal }),
  };
}

/** Lets all that is due happen. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

function rejectsWith(code: string) {
  return (error: unknown): boolean => error instanceof HpccError && error.code === code;
}

describe("the pool", () => {
  it("boots one VM per key, and keeps it for the next execution", async () => {
    const { runtime, events, pool, execute } = fixture();
    const both = [execute(key("a")), execute(key("a"))];
    await settle();
    assert.equal(runtime.machines.length, 1);
    const [machine] = runtime.machines;
    assert.equal(machine?.running.length, 2);
    machine.finishAll();
    assert.deepEqual(new Set((await Promise.all(both)).map(({ vm }) => vm.id)), new Set(["vm-0"]));
    const again = execute(key("a"));
    await settle();
    machine.running[0]?.finish();
    assert.equal((await again).vm.id, "vm-0");
    await pool.close();
    assert.deepEqual(
      events.map((event) => (event.t === "destroyed" ? [event.reason, event.executions] : event.t)),
      ["booted", ["closed", 3]],
    );
  });

  it("never shares a VM between tenants, users or images", async () => {
    const { runtime, pool, execute } = fixture({ vmsMax: 4 });
    const keys = [key("a"), key("b"), key("a", "bob"), key("a", "ann", "clang")];
    const running = keys.map((one) => execute(one));
    await settle();
    assert.equal(runtime.machines.length, 4);
    for (const machine of runtime.machines) machine.running[0]?.finish();
    assert.equal(new Set((await Promise.all(running)).map(({ vm }) => vm.id)).size, 4);
    await pool.close();
  });

  it("runs no more than so many executions in a VM", async () => {
    const { runtime, pool, execute } = fixture();
    const running = [1, 2, 3].map(() => execute(key("a")));
    await settle();
    const [machine] = runtime.machines;
    assert.equal(machine?.running.length, 2);
    machine.running[0]?.finish();
    await settle();
    assert.equal(machine.running.length, 2);
    machine.finishAll();
    await Promise.all(running);
    await pool.close();
  });

  it("destroys a VM that has been idle for too long", async () => {
    const { runtime, clock, events, pool, execute } = fixture();
    const one = execute(key("a"));
    await settle();
    runtime.machines[0]?.running[0]?.finish();
    await one;
    clock.advance(59_999);
    await settle();
    assert.equal(runtime.alive.length, 1);
    clock.advance(1);
    await settle();
    assert.equal(runtime.alive.length, 0);
    assert.equal(events.at(-1)?.t === "destroyed" && events.at(-1), events.at(-1));
    assert.match(JSON.stringify(events.at(-1)), /"reason":"idle"/);
    await pool.close();
    assert.equal(clock.pendingTimers, 0);
  });

  it("takes the place of the VM that was idle longest, but not in the moment between two compiles", async () => {
    const { runtime, clock, pool, execute } = fixture();
    for (const tenant of ["a", "b"]) {
      const one = execute(key(tenant));
      await settle();
      runtime.machines.at(-1)?.running[0]?.finish();
      await one;
      clock.advance(100);
    }
    const third = execute(key("c"));
    await settle();
    assert.deepEqual(
      runtime.alive.map(({ id }) => id),
      ["vm-0", "vm-1"],
    );
    clock.advance(800);
    await settle();
    assert.deepEqual(
      runtime.alive.map(({ id }) => id),
      ["vm-1", "vm-2"],
    );
    runtime.machines[2]?.running[0]?.finish();
    await third;
    await pool.close();
  });

  it("lets a busy VM of a tenant with more of them leave after its tenure", async () => {
    const { runtime, clock, pool, execute } = fixture();
    const busy = [execute(key("a")), execute(key("a", "bob"))];
    await settle();
    const waiting = execute(key("b"));
    const more = execute(key("a"));
    await settle();
    assert.equal(runtime.machines[0]?.running.length, 2);
    clock.advance(10_000);
    await settle();
    const late = execute(key("a"));
    runtime.machines[0]?.finishAll();
    await settle();
    assert.equal(runtime.machines[0]?.alive, false);
    assert.equal(runtime.machines[2]?.running.length, 1, "the other tenant has the place");
    runtime.machines[1]?.running[0]?.finish();
    runtime.machines[2].running[0]?.finish();
    await Promise.all([...busy, more, waiting]);
    // Now there is an idle VM to take for the one that came late.
    clock.advance(2_000);
    await settle();
    runtime.machines[3]?.running[0]?.finish();
    await late;
    await pool.close();
  });

  it("serves waiting tenants in turn", async () => {
    const { runtime, clock, pool, execute } = fixture({ vmsMax: 1, executionsPerVmMax: 1 });
    const order: string[] = [];
    const first = execute(key("a"));
    await settle();
    const rest = ["a", "a", "a", "b"].map((tenant) => execute(key(tenant)).then(() => order.push(tenant)));
    clock.advance(10_000);
    await settle();
    while (order.length < 4) {
      for (const machine of runtime.alive) machine.running[0]?.finish();
      clock.advance(1_000);
      await settle();
    }
    await Promise.all([first, ...rest]);
    assert.ok(order.indexOf("b") < 2, `b came ${order.indexOf("b")}th: ${order.join(" ")}`);
    await pool.close();
  });

  it("refuses beyond a tenant's queue, and only that tenant", async () => {
    const { runtime, pool, execute } = fixture({ executionsPerVmMax: 1 });
    const running = [execute(key("a"))];
    await settle();
    for (let waiting = 0; waiting < 4; waiting += 1) running.push(execute(key("a")));
    await assert.rejects(execute(key("a")), rejectsWith("limit.exceeded"));
    const other = execute(key("b"));
    await settle();
    assert.equal(runtime.machines.length, 2);
    for (const one of [...running, other]) one.catch(() => undefined);
    await pool.close();
  });

  it("lets go of who stops waiting", async () => {
    const { runtime, pool, execute } = fixture({ executionsPerVmMax: 1 });
    const first = execute(key("a"));
    const leave = new AbortController();
    const second = execute(key("a"), leave.signal);
    await settle();
    leave.abort();
    await assert.rejects(second, rejectsWith("job.cancelled"));
    runtime.machines[0]?.running[0]?.finish();
    await first;
    await pool.close();
  });

  for (const [t, code] of [
    ["lost", "vm.lost"],
    ["breach", "vm.breach"],
  ] as const)
    it(`replaces a VM that ended by ${t}`, async () => {
      const { runtime, events, pool, execute } = fixture();
      const first = execute(key("a"));
      await settle();
      runtime.machines[0]?.die({ t, detail: "said so" });
      await assert.rejects(first, (error) => rejectsWith(code)(error) && (error as HpccError).details["vm"] === "vm-0");
      const second = execute(key("a"));
      await settle();
      runtime.machines[1]?.running[0]?.finish();
      assert.equal((await second).vm.id, "vm-1");
      assert.match(JSON.stringify(events[1]), new RegExp(`"reason":"${t}","detail":"said so"`));
      await pool.close();
    });

  it("fails all who wait for a boot that fails, and boots again for the next", async () => {
    const { runtime, events, pool, execute } = fixture();
    runtime.refuse = new HpccError("vm.boot", "no");
    await Promise.all([1, 2].map(() => assert.rejects(execute(key("a")), rejectsWith("vm.boot"))));
    runtime.refuse = null;
    const next = execute(key("a"));
    await settle();
    runtime.machines[0]?.running[0]?.finish();
    await next;
    assert.deepEqual(
      events.map(({ t }) => t),
      ["boot-failed", "booted"],
    );
    await pool.close();
  });

  it("runs nothing in a VM whose boot could not be recorded", async () => {
    const runtime = new HeldRuntime();
    const pool = new WarmVmPool({
      runtime,
      limits: LIMITS,
      events: () => Promise.reject(new HpccError("audit.io", "disk full")),
      clock: new ManualClock(),
      logger: SILENT_LOGGER,
    });
    const { signal } = new AbortController();
    await assert.rejects(pool.execute(key("a"), "/rootfs", REQUEST, { signal }), rejectsWith("audit.io"));
    assert.equal(runtime.alive.length, 0);
    await pool.close();
  });

  it("ends boots, waits and executions when it closes", async () => {
    const { runtime, pool, execute } = fixture({ executionsPerVmMax: 1 });
    const running = execute(key("a"));
    await settle();
    const waiting = execute(key("a"));
    const gate = Promise.withResolvers<void>();
    runtime.gate = gate.promise;
    const booting = execute(key("b"));
    await settle();
    const closed = pool.close();
    gate.resolve();
    for (const one of [running, waiting, booting]) await assert.rejects(one, rejectsWith("vm.lost"));
    await closed;
    assert.equal(runtime.alive.length, 0);
    await assert.rejects(execute(key("a")), rejectsWith("vm.lost"));
  });
});
