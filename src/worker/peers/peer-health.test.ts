import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { PeerHealth } from "./peer-health.ts";

function fixture() {
  const clock = new ManualClock();
  return { clock, health: new PeerHealth(clock, () => 1) };
}

test("a peer that is slow is left alone, longer each time, and one question finds out whether it is back", () => {
  const { clock, health } = fixture();
  assert.equal(health.begin("w"), true);
  health.failed("w", "slow");
  assert.equal(health.begin("w"), false);
  clock.advance(1_000);
  assert.deepEqual([health.begin("w"), health.begin("w"), health.begin("other")], [true, false, true]);
  health.failed("w", "slow");
  clock.advance(1_999);
  assert.equal(health.begin("w"), false);
  clock.advance(1);
  assert.equal(health.begin("w"), true);
  health.answered("w");
  assert.deepEqual([health.begin("w"), health.begin("w")], [true, true]);
});

test("what many questions learn at the same time counts once, but a lie among faults counts", () => {
  const { clock, health } = fixture();
  for (let question = 0; question < 20; question += 1) health.failed("w", "slow");
  clock.advance(1_000);
  assert.equal(health.begin("w"), true);
  health.failed("w", "broken");
  health.failed("w", "lied");
  health.failed("w", "lied");
  clock.advance(599_999);
  assert.equal(health.begin("w"), false);
  clock.advance(1);
  assert.equal(health.begin("w"), true);
});

test("a question that is given up for another reason lets the next one find out", () => {
  const { clock, health } = fixture();
  health.failed("w", "broken");
  clock.advance(1_000);
  assert.equal(health.begin("w"), true);
  health.left("w");
  assert.equal(health.begin("w"), true);
});

test("a liar is left alone for long, and a true answer does not wash it clean", () => {
  const { clock, health } = fixture();
  health.failed("w", "lied");
  clock.advance(599_999);
  assert.equal(health.begin("w"), false);
  clock.advance(1);
  assert.equal(health.begin("w"), true);
  health.answered("w");
  assert.equal(health.begin("w"), true);
  health.failed("w", "lied");
  clock.advance(600_000);
  assert.equal(health.begin("w"), false, "the second lie counts double");
});

test("a pause never grows beyond a minute for faults, and a day for lies", () => {
  const { clock, health } = fixture();
  for (const [fault, maxMs] of [
    ["slow", 60_000],
    ["lied", 86_400_000],
  ] as const)
    for (let time = 0; time < 40; time += 1) {
      health.failed(fault, fault);
      clock.advance(maxMs);
      assert.equal(health.begin(fault), true);
    }
});
