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

test("weights are places, more than there are mean all of them, and nobody passes who waits", async () => {
  const semaphore = new Semaphore(10);
  const seven = await semaphore.take(never, 7);
  const order: string[] = [];
  const note = (name: string) => (release: () => void) => (order.push(name), release);
  const five = semaphore.take(never, 5).then(note("five"));
  const two = semaphore.take(never, 2).then(note("two"));
  const all = semaphore.take(never, 1000).then(note("all"));
  await Promise.resolve();
  assert.deepEqual(order, []);
  seven();
  const releases = [await five, await two];
  assert.deepEqual(order, ["five", "two"]);
  for (const release of releases) release();
  (await all)();
  assert.deepEqual(order, ["five", "two", "all"]);
});

test("who leaves the front of the line lets those behind go on", async () => {
  const semaphore = new Semaphore(10);
  const held = await semaphore.take(never, 5);
  const leaving = new AbortController();
  const large = semaphore.take(leaving.signal, 9);
  const small = semaphore.take(never, 5);
  leaving.abort();
  await assert.rejects(large, { code: "job.cancelled" });
  (await small)();
  held();
  (await semaphore.take(never, 10))();
});
