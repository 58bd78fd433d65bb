import assert from "node:assert/strict";
import { test } from "node:test";
import { nextLayer, seen, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import type { Job } from "./layer.ts";
import { LookUpLayer } from "./look-up.ts";

test("a cache that fails is a miss: the job goes on, and the fault is logged", async () => {
  const logged: string[] = [];
  const logger = { ...SILENT_LOGGER, warn: (event: string) => void logged.push(event) };
  const job = testJob();
  const broken = async () => Promise.reject(new HpccError("store.io", "the disk is gone"));
  const store = { blobs: job.store.blobs, actions: { ...job.store.actions, get: broken } as Job["store"]["actions"] };
  const { events, observe } = seen();
  const next = nextLayer(async () => testAnswer(job.store));
  const answer = await new LookUpLayer(next, { logger, observe }).run({ ...job, store });
  assert.equal(answer.outcome, "compiled");
  assert.deepEqual(logged, ["worker.cache.lookup_failed"]);
  assert.deepEqual(
    events.map(({ t }) => t),
    ["looked-up"],
  );
});
