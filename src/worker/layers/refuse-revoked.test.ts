import assert from "node:assert/strict";
import { test } from "node:test";
import { nextLayer, ROW, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import type { Job } from "./layer.ts";
import { RefuseRevokedLayer } from "./refuse-revoked.ts";

const BREACH = { cause: "breach", askedBy: null } as const;

test("what is taken back while it is on its way is no answer: before its row nor after it", async () => {
  const job = testJob();
  const answer = await testAnswer(job.store);
  const layer = new RefuseRevokedLayer(nextLayer<Job>(async () => answer));
  const { afterRow } = await layer.run(job);
  await job.store.actions.revoke({ kind: "vm", value: "vm-1", atMs: 5000 }, BREACH);
  await assert.rejects(afterRow(ROW), { code: "result.revoked", details: { vm: "vm-1" } });
  assert.deepEqual(answer.rows, [], "nothing below hears of the row");
  assert.equal(answer.closed(), 0, "who took the answer closes it");
  await assert.rejects(layer.run(job), { code: "result.revoked" });
  assert.equal(answer.closed(), 1);
});

test("what was made by another VM is an answer", async () => {
  const job = testJob();
  await job.store.actions.revoke({ kind: "vm", value: "vm-1", atMs: 5000 }, BREACH);
  const answer = await testAnswer(job.store, { origin: { vm: "vm-2" } });
  const { afterRow } = await new RefuseRevokedLayer(nextLayer<Job>(async () => answer)).run(job);
  await afterRow(ROW);
  assert.deepEqual(answer.rows, [ROW]);
});

test("what is taken back by its image, its principal or its key is no answer either, if it had begun before", async () => {
  const { key } = testJob().keys.own;
  const { image, principal } = (await testAnswer(testJob().store)).result.recorded.origin;
  for (const [kind, value] of [
    ["image", image],
    ["principal", principal],
    ["key", key],
  ] as const) {
    const job = testJob();
    const layer = (madeMs: number) =>
      new RefuseRevokedLayer(nextLayer<Job>(() => testAnswer(job.store, { origin: { madeMs } })));
    await job.store.actions.revoke({ kind, value, atMs: 5000 }, { cause: "operator", askedBy: "root" });
    await assert.rejects(layer(5000).run(job), { code: "result.revoked" }, kind);
    await (await layer(5001).run(job)).afterRow(ROW);
  }
});

test("the key that counts is the one under which it was found", async () => {
  const job = testJob();
  const { shared } = job.keys;
  const answer = { ...(await testAnswer(job.store)), key: shared };
  await job.store.actions.revoke(
    { kind: "key", value: shared!.key, atMs: 5000 },
    { cause: "operator", askedBy: "root" },
  );
  await assert.rejects(new RefuseRevokedLayer(nextLayer<Job>(async () => answer)).run(job), { code: "result.revoked" });
});
