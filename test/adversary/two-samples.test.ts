// The comparison finds what is there, and nothing that is not, also on a machine whose noise is not even independent.
import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, type Pair } from "./two-samples.ts";

/** Numbers in [0, 1) that are the same in each run. */
function drawing(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Pairs as a noisy machine gives them: a drift, long pauses, and `extra` for what is asked of kind b. */
function measured(count: number, extra: (draw: () => number) => number, seed: number): Pair[] {
  const draw = drawing(seed);
  const time = (at: number) => 300 + at / 50 + (draw() < 0.02 ? 9000 * draw() : 0) - 80 * Math.log(1 - draw());
  return Array.from({ length: count }, (_, at) => {
    const [first, second] = [time(at), time(at) + 40];
    const [a, b] = draw() < 0.5 ? [first, second] : [second, first];
    return { a, b: b + extra(draw) };
  });
}

test("kinds that do not differ are not told apart, though the second question of each pair takes longer", () => {
  for (let seed = 1; seed <= 300; seed++) assert.equal(difference(measured(500, () => 0, seed)).found, false);
});

test("a small shift, and a rare long wait, are found", () => {
  assert.equal(difference(measured(2500, () => 40, 1)).found, true);
  assert.equal(difference(measured(2500, (draw) => (draw() < 0.3 ? 2000 : 0), 1)).found, true);
});

test("the distance is that of Kolmogorov and Smirnov", () => {
  const pairs = [
    { a: 1, b: 3 },
    { a: 2, b: 4 },
    { a: 3, b: 5 },
    { a: 4, b: 6 },
  ];
  assert.deepEqual([difference(pairs).distance, difference(pairs).slower], [0.5, 1]);
  assert.equal(difference([{ a: 2, b: 2 }]).distance, 0);
});
