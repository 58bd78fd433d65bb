// The pool and the life of a session on a runtime that is real but trivial. Time is moved by hand.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { heldKey, heldPool, rejectsWith, settle } from "../../test/support/held-pool.ts";
import { heldRequest } from "../../test/support/held-runtime.ts";
import { HpccError } from "../base/errors.ts";
import type { VmPoolLimits } from "./pool.ts";
import type { PoolKey } from "./pool-key.ts";

const key = (tenant: string, user = "ann", image = "gcc"): PoolKey => heldKey(tenant, { user, image });
const fixture = (limits: Partial<VmPoolLimits> = {}) => heldPool({ limits });

describe("the pool", () => {
  it("boots one VM for what fits into it, and keeps it for the next execution", async () => {
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
    const { runtime, pool, execute } = fixture({ vmsMax: 1 });
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

  it("destroys a VM that has been idle for too long where none may be parked", async () => {
    const { runtime, clock, events, pool, execute } = fixture({ parkedMax: 0 });
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

  it("lets a busy VM leave after its tenure when its tenant has one and another tenant none", async () => {
    const { runtime, clock, pool, execute } = fixture({ vmsMax: 1 });
    const busy = execute(key("a"));
    await settle();
    const waiting = execute(key("b"));
    const more = execute(key("a"));
    await settle();
    assert.equal(runtime.machines[0]?.running.length, 2);
    clock.advance(9_999);
    await settle();
    runtime.machines[0]?.running[0]?.finish();
    const still = execute(key("a"));
    await settle();
    assert.equal(runtime.machines[0]?.running.length, 2, "it takes more until then");
    clock.advance(1);
    await settle();
    const late = execute(key("a"));
    runtime.machines[0]?.finishAll();
    await settle();
    assert.equal(runtime.machines[0]?.alive, false);
    assert.equal(runtime.machines[1]?.running.length, 1, "the other tenant has the room");
    runtime.machines[1]?.finishAll();
    await settle();
    clock.advance(1_000);
    await settle();
    runtime.machines[2]?.finishAll();
    await Promise.all([busy, more, still, waiting, late]);
    await pool.close();
  });

  it("lets a busy VM leave at once when its tenant has two more than who waits", async () => {
    const { runtime, pool, execute } = fixture();
    const busy = [execute(key("a")), execute(key("a", "bob"))];
    await settle();
    const waiting = execute(key("b"));
    const more = execute(key("a"));
    await settle();
    assert.deepEqual(
      runtime.machines.map(({ running }) => running.length),
      [1, 1],
      "the one that leaves takes nothing more",
    );
    runtime.machines[0]?.finishAll();
    await settle();
    assert.equal(runtime.machines[2]?.running.length, 1, "the other tenant has the room");
    more.catch(() => undefined);
    for (const machine of runtime.alive) machine.finishAll();
    await Promise.all([...busy, waiting]);
    await pool.close();
  });

  for (const together of [true, false])
    it(`gives a tenant with many demands his share of busy VMs, ${together ? "" : "not "}made at once`, async () => {
      const { runtime, clock, pool, execute } = fixture({ vmsMax: 4, executionsPerVmMax: 1, queuePerTenantMax: 8 });
      const users = ["ann", "bob", "eve", "joe"];
      const all = [1, 2].flatMap(() => users.map((user) => execute(key("a", user))));
      await settle();
      if (!together) clock.advance(10_000);
      all.push(...users.map((user) => execute(key("b", user))));
      if (together) clock.advance(10_000);
      await settle();
      for (const machine of runtime.alive) machine.finishAll();
      await settle();
      const places = (tenant: string) => runtime.alive.filter(({ ran }) => ran[0]?.includes(`:${tenant}3:`)).length;
      assert.deepEqual([places("a"), places("b")], [2, 2]);
      for (let round = 0; round < 8; round += 1) {
        clock.advance(10_000);
        await settle();
        for (const machine of runtime.alive) machine.finishAll();
        await settle();
      }
      await Promise.all(all);
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
    runtime.failures.set("boot", new HpccError("vm.boot", "no"));
    await Promise.all([1, 2].map(() => assert.rejects(execute(key("a")), rejectsWith("vm.boot"))));
    runtime.failures.clear();
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
    const { runtime, pool } = heldPool({ onEvent: () => Promise.reject(new HpccError("audit.io", "disk full")) });
    const { signal } = new AbortController();
    await assert.rejects(pool.execute(key("a"), "/rootfs", heldRequest("x"), { signal }), rejectsWith("audit.io"));
    assert.equal(runtime.alive.length, 0);
    await pool.close();
  });

  it("is closed for all who close it once nothing is left", async () => {
    const { runtime, pool, execute } = fixture();
    const running = execute(key("a"));
    await settle();
    runtime.hold.add("destroy");
    let closed = 0;
    const closing = [1, 2].map(() => pool.close().then(() => (closed += 1)));
    await assert.rejects(running, rejectsWith("vm.lost"));
    await settle();
    assert.equal(closed, 0);
    runtime.finishPending();
    await settle();
    assert.equal(closed, 2);
    await Promise.all([...closing, pool.close()]);
  });

  it("ends boots, waits and executions when it closes", async () => {
    const { runtime, pool, execute } = fixture({ executionsPerVmMax: 1 });
    const running = execute(key("a"));
    await settle();
    const waiting = execute(key("a"));
    runtime.hold.add("boot");
    const booting = execute(key("b"));
    await settle();
    const closed = pool.close();
    for (const one of [running, waiting, booting]) await assert.rejects(one, rejectsWith("vm.lost"));
    await closed;
    assert.equal(runtime.alive.length, 0);
    await assert.rejects(execute(key("a")), rejectsWith("vm.lost"));
  });
});
