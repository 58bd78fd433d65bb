import assert from "node:assert/strict";
import { test } from "node:test";
import { nextLayer, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import { ManualClock } from "../../base/clock.ts";
import { DeadlineLayer } from "./deadline.ts";
import type { Answer, Job } from "./layer.ts";

/** Ends when the job is aborted. */
async function forever({ signal }: Job): Promise<Answer> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason as Error));
  return promise;
}

test("a job that takes longer than its client waits is ended, one that its client leaves too", async () => {
  const clock = new ManualClock();
  const layer = new DeadlineLayer(nextLayer(forever), clock);
  const late = assert.rejects(layer.run(testJob({ deadlineMs: 100 })), { code: "peer.deadline" });
  clock.advance(100);
  await late;
  const leave = new AbortController();
  const left = assert.rejects(layer.run(testJob({ signal: leave.signal })), /left/);
  leave.abort(new Error("left"));
  await left;
  assert.equal(clock.pendingTimers, 0);
});

test("one that is in time is left alone, and leaves no timer", async () => {
  const clock = new ManualClock();
  const next = nextLayer(async ({ store }: Job) => testAnswer(store));
  await new DeadlineLayer(next, clock).run(testJob({ deadlineMs: 100 }));
  clock.advance(1000);
  assert.equal(next.jobs[0]!.signal.aborted, false);
  assert.equal(clock.pendingTimers, 0);
});
