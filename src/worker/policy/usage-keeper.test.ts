import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { testJob } from "../../../test/support/layer-jobs.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { NO_QUOTAS } from "../../core/tenant-policy.ts";
import { USAGE_SAVE_MS, UsageKeeper } from "./usage-keeper.ts";

const { policy } = testJob();
const quotas = { tenant: { ...NO_QUOTAS, bytesPerDayMax: 1_000 }, tier: NO_QUOTAS, principal: NO_QUOTAS };
const JOB = testJob({ policy: { ...policy, quotas } });

async function start(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-usage-"));
  t.after(() => rm(folder, { recursive: true }));
  const clock = new ManualClock();
  return { folder, clock, open: () => UsageKeeper.open({ folder, clock, logger: SILENT_LOGGER }) };
}

test("what was used today is known after a restart, and the next day it is forgotten", async (t) => {
  const { open, clock } = await start(t);
  const first = await open();
  first.observe({ t: "received", job: JOB, blobs: 1, bytes: 70 });
  first.observe({ t: "used", job: JOB, cpuUs: 8 });
  await first.close();
  const second = await open();
  assert.deepEqual(second.ledger.used("acme"), { bytes: 70, cpuUs: 8 });
  clock.advance(86_400_000);
  second.observe({ t: "received", job: JOB, blobs: 1, bytes: 1 });
  assert.deepEqual(second.ledger.used("acme"), { bytes: 1, cpuUs: 0 });
  await second.close();
});

test("a killed worker has lost some seconds' use at most", async (t) => {
  const { open, clock, folder } = await start(t);
  const killed = await open();
  killed.observe({ t: "received", job: JOB, blobs: 1, bytes: 70 });
  clock.advance(USAGE_SAVE_MS);
  while ((await readdir(folder)).join() !== "usage.json") await new Promise((resolve) => setImmediate(resolve));
  killed.observe({ t: "received", job: JOB, blobs: 1, bytes: 5 });
  const next = await open();
  assert.deepEqual(next.ledger.used("acme"), { bytes: 70, cpuUs: 0 });
  await killed.close();
});

test("a file that nobody can read is set aside, and the day begins anew", async (t) => {
  const { open, folder } = await start(t);
  for (const content of [
    "",
    "{",
    '{"schema":1,"day":"today","used":{}}',
    '{"schema":1,"day":"2026-11-28","used":{"a":[-1,0]}}',
  ]) {
    await writeFile(join(folder, "usage.json"), content);
    const keeper = await open();
    assert.equal(keeper.ledger.saved().used.size, 0);
    assert.deepEqual(await readdir(folder), ["usage.json.bad"], content);
  }
});

test("a worker without quotas writes nothing", async (t) => {
  const { open, clock, folder } = await start(t);
  const keeper = await open();
  keeper.observe({ t: "received", job: testJob(), blobs: 1, bytes: 70 });
  assert.equal(clock.pendingTimers, 0);
  await keeper.close();
  assert.deepEqual(await readdir(folder), []);
});
