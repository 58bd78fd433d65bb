import assert from "node:assert/strict";
import { test } from "node:test";
import { Semaphore } from "./semaphore.ts";

const never = new AbortController().signal;

test("places are given in order, and one that is given back twice counts once", async () => {
  const semaphore = new Semaphore(1);
  const first = await semaphore.take(never);
  const order: string[] = [];
  const second = semaphore.take(never).then((release) => (order.push("second"), release));
  const third = semaphore.take(never).then((release) => (order.push("third"), release));
  first();
  first();
  (await second)();
  (await third)();
  assert.deepEqual(order, ["second", "third"]);
  (await semaphore.take(never))();
});

test("who gives up while waiting takes no place", async () => {
  const semaphore = new Semaphore(1);
  const release = await semaphore.take(never);
  const leaving = new AbortController();
  const given = semaphore.take(leaving.signal);
  leaving.abort();
  await assert.rejects(given, { code: "job.cancelled" });
  release();
  (await semaphore.take(never))();
  await assert.rejects(semaphore.take(AbortSignal.abort()), { code: "job.cancelled" });
});
