// Whose turn it is, by the time for which places were held.
import assert from "node:assert/strict";
import { it } from "node:test";
import { PlaceTime } from "./place-time.ts";

const near = (actual: number, expected: number): void =>
  assert.ok(Math.abs(actual - expected) <= expected / 20, `${actual}, not about ${expected}`);

it("counts places times time, and half of it a minute later", () => {
  const time = new PlaceTime(0);
  time.advance(1_000);
  time.hold(["a", "a", "b"]);
  time.advance(3_000);
  near(time.usedMs("a"), 4_000);
  near(time.usedMs("b"), 2_000);
  time.hold([]);
  time.advance(63_000);
  near(time.usedMs("a"), 2_000);
  assert.equal(time.usedMs("c"), 0);
});

it("never grows beyond what a tenant who holds a place for ever has, and forgets who is gone", () => {
  const time = new PlaceTime(0);
  time.hold(["a"]);
  time.advance(86_400_000);
  near(time.usedMs("a"), 60_000 / Math.LN2);
  time.hold([]);
  time.advance(86_400_000 * 2);
  assert.equal(time.usedMs("a"), 0);
});
