import assert from "node:assert/strict";
import { test } from "node:test";
import { nextLayer, ROW, seen, testAnswer, testJob, user } from "../../../test/support/layer-jobs.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import { LIVES } from "../../core/life.ts";
import { fixedPolicies, SHARINGS } from "../../core/tenant-policy.ts";
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
  assert.equal((await job.store.actions.get(job.keys.own.key)).kind, "miss");
  await afterRow(ROW);
  assert.equal((await job.store.actions.get(job.keys.own.key)).kind, "hit");
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
  assert.equal((await job.store.actions.get(job.keys.own.key)).kind, "miss");
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

for (const sharing of SHARINGS)
  for (const life of LIVES)
    test(`a ${life} result under the policy ${sharing} is found by whom it may serve, and its row says by whom`, async () => {
      const policy = { ...fixedPolicies().of(user("ann"))!, sharing, life };
      const job = testJob({ policy });
      const answer = await testAnswer(job.store, { origin: { life } });
      const { events, observe } = seen();
      const { key, afterRow } = await new KeepLayer(
        nextLayer(async () => answer),
        { logger, observe },
      ).run(job);
      await afterRow(ROW);
      const shared = life === "clean" && sharing !== "private";
      assert.equal(key, shared ? job.keys.shared : job.keys.own);
      const tenants = testJob({ principal: user("bob"), policy: { ...policy, sharing: "clean" } }).keys.shared!;
      assert.equal((await job.store.actions.get(tenants.key)).kind, shared ? "hit" : "miss");
      assert.equal((await job.store.actions.get(job.keys.own.key)).kind, shared ? "miss" : "hit");
      assert.deepEqual(
        events.map((event) => event.t === "stored" && event.key.scope),
        [shared ? "tenant" : "principal"],
      );
    });

test("what the VM's life was counts, not what the policy asked for", async () => {
  const policy = { ...fixedPolicies().of(user("ann"))!, sharing: "clean", life: "clean" } as const;
  const job = testJob({ policy });
  const answer = await testAnswer(job.store, { origin: { life: "session" } });
  const { key } = await new KeepLayer(
    nextLayer(async () => answer),
    { logger, observe: () => undefined },
  ).run(job);
  assert.equal(key, job.keys.own);
});

test("a better isolated result stays, and nobody is told that another was stored", async () => {
  const job = testJob();
  const { result } = await testAnswer(job.store);
  const { manifest, origin } = result.recorded;
  const strong = { ...origin, isolation: "firecracker", vm: "vm-strong", row: null, statement: null } as const;
  await job.store.actions.put(job.keys.own.key, { result: encodeResultManifest(manifest), ...strong });
  const { events, observe } = seen();
  const { afterRow } = await new KeepLayer(
    nextLayer(async () => testAnswer(job.store)),
    { logger, observe },
  ).run(job);
  await afterRow(ROW);
  const found = await job.store.actions.get(job.keys.own.key);
  assert.equal(found.kind === "hit" && found.action.vm, "vm-strong");
  assert.deepEqual(events, []);
});
