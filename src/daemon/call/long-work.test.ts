import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { LongWork } from "./long-work.ts";

test("one of those who wait is told of what takes long, and of the same again only after a while", () => {
  const clock = new ManualClock();
  const work = new LongWork(clock);
  assert.equal(work.tell(), null);
  const unpacked = work.begin("unpacking", 1_000);
  assert.equal(work.tell(), null, "it has just begun");
  clock.advance(1_000);
  const booted = work.begin("booting", 1_000);
  assert.deepEqual([work.tell(), work.tell()], ["unpacking", null]);
  clock.advance(1_000);
  assert.deepEqual([work.tell(), work.tell()], ["booting", null]);
  booted();
  clock.advance(30_000);
  assert.deepEqual([work.tell(), work.tell()], ["unpacking", null]);
  unpacked();
  clock.advance(60_000);
  assert.equal(work.tell(), null);
});
