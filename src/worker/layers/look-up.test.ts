// Which entry answers a job: its keys in the order of its policy, each held against what the job asks for.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { nextLayer, seen, testAnswer, testJob, user } from "../../../test/support/layer-jobs.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import type { ResultKey } from "../../core/action/result-keys.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import { fixedPolicies, type Sharing } from "../../core/tenant-policy.ts";
import type { CachedAction } from "../../store/action-cache.ts";
import type { Job } from "./layer.ts";
import { LookUpLayer } from "./look-up.ts";

const WHOLE = { worker: "w1", evidence: { isWhole: async () => true } };

function jobOf(sharing: Sharing, changes: Partial<Job> = {}): Job {
  const policy = fixedPolicies(new Map([["acme", { sharing }]])).of(user("ann"))!;
  return testJob({ policy, ...changes });
}

/** Keeps a result of this VM under a key. */
async function keep({ store }: Job, { key }: ResultKey, vm: string, changes: Partial<CachedAction> = {}) {
  const { result } = await testAnswer(store, { origin: { vm } });
  const { manifest, origin } = result.recorded;
  await store.actions.put(key, {
    result: encodeResultManifest(manifest),
    ...origin,
    row: null,
    statement: null,
    ...changes,
  });
}

async function answerTo(job: Job) {
  const { events, observe } = seen();
  const next = nextLayer<Job>(async ({ store }) => testAnswer(store, { origin: { vm: "compiled" } }));
  const answer = await new LookUpLayer(next, { logger: SILENT_LOGGER, observe, ...WHOLE }).run(job);
  assert.equal(events.length, 1);
  const [event] = events;
  assert.ok(event?.t === "looked-up" && event.hit === answer.key);
  return `${answer.result.recorded.origin.vm} ${answer.key?.scope ?? "-"}`;
}

describe("a look-up", () => {
  test("asks for the tenant's result, then for the principal's", async () => {
    const job = jobOf("confirm");
    assert.equal(await answerTo(job), "compiled -");
    await keep(job, job.keys.own, "vm-own");
    assert.equal(await answerTo(job), "vm-own principal");
    await keep(job, job.keys.shared!, "vm-shared", { life: "clean" });
    assert.equal(await answerTo(job), "vm-shared tenant");
  });

  test("of who shares nothing does not ask for the tenant's", async () => {
    const sharing = jobOf("clean");
    await keep(sharing, sharing.keys.shared!, "vm-shared", { life: "clean" });
    assert.equal(await answerTo(jobOf("private", { store: sharing.store })), "compiled -");
  });

  test("passes over what is too weak for the job, in each bucket, to what is not", async () => {
    const job = jobOf("confirm", { isolationMin: "qemu-kvm" });
    await keep(job, job.keys.shared!, "vm-shared", { life: "clean", isolation: "qemu-tcg" });
    assert.equal(await answerTo(job), "compiled -");
    await keep(job, job.keys.own, "vm-own", { isolation: "firecracker" });
    assert.equal(await answerTo(job), "vm-own principal");
    await keep(job, job.keys.own, "vm-own", { isolation: "qemu-tcg" });
    assert.equal(await answerTo(job), "compiled -");
  });

  test("for a clean VM takes no warm one's result", async () => {
    const job = jobOf("clean");
    await keep(job, job.keys.shared!, "vm-shared");
    await keep(job, job.keys.own, "vm-own");
    assert.equal(await answerTo(job), "compiled -");
  });

  test("that fails is a miss, and is logged", async () => {
    const logged: string[] = [];
    const logger = { ...SILENT_LOGGER, warn: (event: string) => void logged.push(event) };
    const job = testJob();
    const broken = async () => Promise.reject(new HpccError("store.io", "the disk is gone"));
    const store = { blobs: job.store.blobs, actions: { ...job.store.actions, get: broken } as Job["store"]["actions"] };
    const { events, observe } = seen();
    const next = nextLayer(async () => testAnswer(job.store));
    const answer = await new LookUpLayer(next, { logger, observe, ...WHOLE }).run({ ...job, store });
    assert.equal(answer.outcome, "compiled");
    assert.deepEqual(new Set(logged), new Set(["worker.cache.lookup_failed"]));
    assert.deepEqual(
      events.map(({ t }) => t),
      ["looked-up"],
    );
  });
});
