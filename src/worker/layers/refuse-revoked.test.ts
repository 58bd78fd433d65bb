import assert from "node:assert/strict";
import { test } from "node:test";
import { nextLayer, ROW, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import type { Job } from "./layer.ts";
import { RefuseRevokedLayer } from "./refuse-revoked.ts";

test("what is taken back while it is on its way is no answer: before its row nor after it", async () => {
  const job = testJob();
  const answer = await testAnswer(job.store);
  const layer = new RefuseRevokedLayer(nextLayer<Job>(async () => answer));
  const { afterRow } = await layer.run(job);
  await job.store.actions.revoke("vm-1");
  await assert.rejects(afterRow(ROW), { code: "vm.breach", details: { vm: "vm-1" } });
  assert.deepEqual(answer.rows, [], "nothing below hears of the row");
  assert.equal(answer.closed(), 0, "who took the answer closes it");
  await assert.rejects(layer.run(job), { code: "vm.breach" });
  assert.equal(answer.closed(), 1);
});

test("what was made by another VM is an answer", async () => {
  const job = testJob();
  await job.store.actions.revoke("vm-1");
  const answer = await testAnswer(job.store, { origin: { vm: "vm-2" } });
  const { afterRow } = await new RefuseRevokedLayer(nextLayer<Job>(async () => answer)).run(job);
  await afterRow(ROW);
  assert.deepEqual(answer.rows, [ROW]);
});
