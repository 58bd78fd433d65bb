// The rows of a VM's life, from the events of a pool to the log as a reader finds it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HELD_LIMITS, heldKey, heldPool, settle } from "../../../test/support/held-pool.ts";
import { HeldRuntime } from "../../../test/support/held-runtime.ts";
import { looseRecord } from "../../../test/support/loose-envelope.ts";
import { AuditLog } from "../../audit/audit-log.ts";
import { readLog } from "../../audit/read-log.ts";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { vmRows } from "./vm-rows.ts";

async function rowsOf(run: (pool: ReturnType<typeof heldPool>, runtime: HeldRuntime) => Promise<void>) {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-vm-rows-"));
  try {
    const log = await AuditLog.open({ folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER });
    const rows = vmRows({ log, worker: "w1", clock: new ManualClock() });
    const runtime = new HeldRuntime();
    runtime.origin = "golden";
    const fixture = heldPool({ runtime, onEvent: rows });
    await run(fixture, runtime);
    await fixture.pool.close();
    await log.close();
    const found = [];
    for await (const { record } of readLog(folder)) found.push(looseRecord(record));
    return found;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const PATIENCE_MS = 20_000;

/** The log's disk takes its time. */
async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + PATIENCE_MS;
  while (!condition() && performance.now() < endMs) await settle();
  assert.ok(condition(), "it did not come");
}

test("a session that is parked and comes back", async () => {
  const key = heldKey("acme");
  const rows = await rowsOf(async ({ clock, execute, events }, runtime) => {
    const first = execute(key);
    await until(() => runtime.alive[0]?.running.length === 1);
    runtime.alive[0]?.finishAll();
    await first;
    clock.advance(HELD_LIMITS.idleMs);
    await until(() => events.length === 2);
    const second = execute(key);
    await until(() => runtime.alive[0]?.running.length === 1);
    runtime.alive[0]?.finishAll();
    await second;
  });
  assert.deepEqual(
    rows.map(({ row, envelope }) => [row.vm, envelope.note, envelope.life, envelope.user]),
    [
      ["vm-0", "booted from golden", "session", "ann"],
      ["vm-0", `parked: ${2 ** 28} bytes on disk`, "session", "ann"],
      ["vm-0", "restored", "session", "ann"],
      ["vm-0", "destroyed: closed after 2 executions", "session", "ann"],
    ],
  );
  for (const { row, envelope } of rows) {
    assert.deepEqual([row.tenant, row.imageDigest, envelope.kind], ["acme", key.image, "vm"]);
    assert.equal(envelope.isolation, "namespace");
  }
  assert.deepEqual(
    rows.map(({ row }) => row.durationUs),
    [1_000, 0, 1_000, HELD_LIMITS.idleMs * 1_000],
  );
});

test("a clean one, which names its user at its end alone, and a boot that failed", async () => {
  const key = heldKey("acme", { trust: "clean" });
  const rows = await rowsOf(async ({ execute, events }, runtime) => {
    const job = execute(key);
    await until(() => runtime.alive[0]?.running.length === 1);
    runtime.failures.set("boot", new HpccError("vm.boot", "no"));
    runtime.alive[0]?.finishAll();
    await job;
    await until(() => events.some(({ t }) => t === "destroyed"));
    await assert.rejects(execute(heldKey("other")));
  });
  const told = rows.map(({ row, envelope }) => `${row.vm ?? "-"} ${envelope.note}: ${envelope.life} ${envelope.user}`);
  assert.ok(told.includes("vm-0 booted from golden: clean null"), told.join("\n"));
  assert.ok(told.includes("vm-0 destroyed: one-job after 1 executions: clean ann"), told.join("\n"));
  assert.ok(told.includes("- boot failed: vm.boot: session ann"), told.join("\n"));
});
