// One row for each job, whatever becomes of it, durable before anybody hears of it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ACTION, IMAGE, nextLayer, seen, testAnswer, user } from "../../../test/support/layer-jobs.ts";
import { AuditLog } from "../../audit/audit-log.ts";
import { LOG_DISK } from "../../audit/log-disk.ts";
import { readLog } from "../../audit/read-log.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { memoryStore } from "../../store/memory/memory-store.ts";
import { type Answer, type Arrival, Denied, type RecordedArrival } from "./layer.ts";
import { RecordLayer } from "./record.ts";

async function start(t: TestContext, run: (job: RecordedArrival) => Promise<Answer>) {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-record-"));
  let full = false;
  const disk: typeof LOG_DISK = {
    ...LOG_DISK,
    async write(handle, bytes, position) {
      if (full) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      await LOG_DISK.write(handle, bytes, position);
    },
  };
  const log = await AuditLog.open({ folder, worker: "w1", clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, disk });
  t.after(async () => {
    await log.close();
    await rm(folder, { recursive: true });
  });
  const store = memoryStore();
  const { events, observe } = seen();
  const next = nextLayer(async (job: RecordedArrival) => {
    job.record.source(IMAGE);
    job.record.action(ACTION);
    job.record.key(IMAGE);
    return run(job);
  });
  const common = { worker: "w1", log, store: () => store, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, observe };
  const layer = new RecordLayer(next, common);
  const rows = async () => {
    const kinds: string[] = [];
    for await (const { record } of readLog(folder)) kinds.push(record.envelope.kind);
    return kinds;
  };
  const names = () => events.map(({ t: name }) => name);
  return { layer, rows, names, store, fill: () => (full = true), log };
}

const arrival = { principal: user("ann") } as Arrival;

test("an answer has its row before it is kept, and both before its client hears of it", async (t) => {
  const kept: number[] = [];
  const at = await start(t, async () => ({
    ...(await testAnswer(at.store)),
    afterRow: async ({ sequence }) => void kept.push(sequence, at.log.sequence),
  }));
  const answer = await at.layer.run(arrival);
  assert.ok(answer.kind === "result");
  assert.equal(answer.row.sequence, 1);
  assert.deepEqual(kept, [1, 1], "the row was durable");
  assert.deepEqual(await at.rows(), ["compile"]);
  assert.deepEqual(at.names(), ["arrived", "answered"]);
});

test("what is denied, what fails and what is a fault of ours leave one row each, and tell no more than they should", async (t) => {
  const reasons = [
    new Denied(new HpccError("image.missing", "no such image")),
    new HpccError("vm.lost", "gone"),
    new TypeError("secret"),
  ];
  const at = await start(t, async () => Promise.reject(reasons.shift()));
  const answers = [];
  for (let i = 0; i < 3; i++) answers.push(await at.layer.run(arrival));
  assert.deepEqual(
    answers.map((answer) => answer.kind === "error" && answer.error.code),
    ["image.missing", "vm.lost", "job.failed"],
  );
  assert.ok(!JSON.stringify(answers[2]).includes("secret"));
  assert.deepEqual(await at.rows(), ["denied", "failed", "failed"]);
  assert.deepEqual(
    at.names().filter((name) => name !== "arrived"),
    ["denied", "failed", "failed"],
  );
});

test("an answer that the log does not take is closed, is not kept and reaches nobody", async (t) => {
  const made = Promise.withResolvers<Awaited<ReturnType<typeof testAnswer>>>();
  const at = await start(t, async () => {
    const answer = await testAnswer(at.store);
    made.resolve(answer);
    return answer;
  });
  at.fill();
  const answer = await at.layer.run(arrival);
  assert.ok(answer.kind === "error" && answer.error.code === "audit.io");
  const { closed, rows } = await made.promise;
  assert.deepEqual([closed(), rows.length], [1, 0]);
  assert.deepEqual(at.names(), ["arrived", "unrecorded"]);
});

test("an answer that is refused after its row is closed, and its client gets the reason", async (t) => {
  let closed = () => 0;
  const at = await start(t, async () => {
    const answer = await testAnswer(at.store);
    ({ closed } = answer);
    return { ...answer, afterRow: async () => Promise.reject(new HpccError("vm.breach", "taken back")) };
  });
  const answer = await at.layer.run(arrival);
  assert.ok(answer.kind === "error" && answer.error.code === "vm.breach");
  assert.equal(closed(), 1);
  assert.deepEqual(at.names(), ["arrived", "failed"]);
});
