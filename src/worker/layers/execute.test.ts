// What the innermost layer makes of a VM's answer, and of one that broke its contract.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ACTION, FILE, SOURCE, seen, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import { LocalPool } from "../../../test/support/local-pool.ts";
import { byteStringOfText } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { ExecuteLayer } from "./execute.ts";
import type { Job } from "./layer.ts";

const LIMITS = { wallMs: 60_000, memoryBytes: 2 ** 30, pids: 64, outputBytes: 4_096, stdioBytes: 4_096 };

function start() {
  const pool = new LocalPool(async () => undefined);
  const { events, observe } = seen();
  const clock = new ManualClock();
  const images = { digests: [], has: () => true, rootfs: async () => "/nonexistent" };
  const on = { images, limits: LIMITS, pool, worker: "w1", clock, logger: SILENT_LOGGER };
  return { pool, clock, events, layer: new ExecuteLayer({ ...on, observe }) };
}

/** Copies the source to the object; its source is there. */
async function copying(changes: Partial<Job> = {}): Promise<Job> {
  const argv = ["/bin/sh", "-c", "cp a.c /hpcc/out/a.o"].map(byteStringOfText);
  const job = testJob({ action: { ...ACTION, argv }, ...changes });
  await job.store.blobs.putBytes(SOURCE, "kept", SOURCE.length);
  return job;
}

test("a compile's answer is what the VM left, hashed here, and who listens hears which VM it was", async () => {
  const at = start();
  const answer = await at.layer.run(await copying());
  assert.equal(answer.result.recorded.manifest.outputs[0]!.digest, FILE.digest);
  assert.deepEqual(
    at.events.flatMap((event) => (event.t === "executed" ? [[event.origin.vm, event.origin.life]] : [])),
    [["vm-1", "session"]],
  );
  await answer.result.close();
});

test("whoever hears of a breach finds nothing more that the VM made", async () => {
  const at = start();
  const job = await copying();
  const { result } = await testAnswer(job.store);
  const { manifest, origin } = result.recorded;
  const key = sha256(Buffer.from("an earlier one"));
  await job.store.actions.put(key, { ...origin, result: encodeResultManifest(manifest), row: null, statement: null });
  at.pool.failure = new HpccError("vm.breach", "it lied", { details: { vm: origin.vm } });
  await assert.rejects(at.layer.run(job), { code: "vm.breach" });
  assert.equal((await job.store.actions.get(key)).kind, "miss");
});

test("a job that nobody waits for any more does not reach a VM", async () => {
  const at = start();
  await assert.rejects(at.layer.run(await copying({ signal: AbortSignal.abort(new Error("left")) })), /left/);
  assert.equal(at.pool.executions, 0);
});

for (const end of ["well", "badly", "left by its client"])
  test(`the time of a VM is what the worker measured, whatever the guest says: a job that ends ${end}`, async () => {
    const at = start();
    const [gate, leave] = [Promise.withResolvers<void>(), new AbortController()];
    at.pool.gate = gate.promise;
    if (end === "badly") at.pool.failure = new HpccError("vm.lost", "it went");
    const running = at.layer.run(await copying({ signal: leave.signal }));
    while (at.pool.executions === 0) await new Promise((resolve) => setImmediate(resolve));
    at.clock.advance(9_000);
    if (end === "left by its client") leave.abort(new HpccError("job.cancelled", "left"));
    gate.resolve();
    if (end === "well") await (await running).result.close();
    else await assert.rejects(running);
    assert.deepEqual(
      at.events.flatMap((event) => (event.t === "used" ? [event.cpuUs] : [])),
      [9_000_000],
    );
  });
