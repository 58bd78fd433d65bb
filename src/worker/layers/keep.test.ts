import assert from "node:assert/strict";
import { test } from "node:test";
import { nextLayer, ROW, seen, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { KeepLayer } from "./keep.ts";

const logger = SILENT_LOGGER;

test("a result is in the cache once its row is durable, and not before", async () => {
  const job = testJob();
  const { events, observe } = seen();
  const layer = new KeepLayer(
    nextLayer(async () => testAnswer(job.store)),
    { logger, observe },
  );
  const { afterRow } = await layer.run(job);
  assert.equal((await job.store.actions.get(job.key)).kind, "miss");
  await afterRow(ROW);
  assert.equal((await job.store.actions.get(job.key)).kind, "hit");
  assert.deepEqual(
    events.map(({ t }) => t),
    ["stored"],
  );
});

test("a failed compile is not kept", async () => {
  const job = testJob();
  const { events, observe } = seen();
  const answer = await testAnswer(job.store, { exitCode: 1 });
  const { afterRow } = await new KeepLayer(
    nextLayer(async () => answer),
    { logger, observe },
  ).run(job);
  await afterRow(ROW);
  assert.equal((await job.store.actions.get(job.key)).kind, "miss");
  assert.deepEqual([answer.rows, events], [[ROW], []]);
});

test("a cache that takes nothing costs a later compile, not the answer", async () => {
  const job = testJob();
  const { events, observe } = seen();
  job.store.actions.put = async () => Promise.reject(new Error("full"));
  const { afterRow } = await new KeepLayer(
    nextLayer(async () => testAnswer(job.store)),
    { logger, observe },
  ).run(job);
  await afterRow(ROW);
  assert.deepEqual(events, []);
});
