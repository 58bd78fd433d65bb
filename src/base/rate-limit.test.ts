import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "./clock.ts";
import { RateLimit } from "./rate-limit.ts";

test("a burst, then so many per second, for each key alone", () => {
  const clock = new ManualClock();
  const limit = new RateLimit({ burst: 3, perSecond: 2, keysMax: 2 }, clock);
  const takes = (key: string, count: number) => Array.from({ length: count }, () => limit.take(key));
  assert.deepEqual(takes("a", 4), [true, true, true, false]);
  assert.equal(limit.take("b"), true);
  clock.advance(1000);
  assert.deepEqual(takes("a", 3), [true, true, false]);
  clock.advance(60_000);
  assert.deepEqual(takes("a", 4), [true, true, true, false]);
});

test("the key used longest ago is forgotten", () => {
  const limit = new RateLimit({ burst: 1, perSecond: 0, keysMax: 2 }, new ManualClock());
  assert.deepEqual(
    ["a", "b", "a", "c", "b"].map((key) => limit.take(key)),
    [true, true, false, true, true],
  );
});
