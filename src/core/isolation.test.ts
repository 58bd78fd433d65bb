import assert from "node:assert/strict";
import { test } from "node:test";
import { ISOLATION_NUMBERS, ISOLATIONS, isolationAtLeast, strongerIsolation } from "./isolation.ts";

test("the strongest of two systems are as good as each other, and better than all else", () => {
  const atLeast = ISOLATIONS.map((actual) =>
    ISOLATIONS.map((wanted) => (isolationAtLeast(actual, wanted) ? 1 : 0)).join(""),
  );
  assert.deepEqual(ISOLATIONS, ["namespace", "qemu-tcg", "qemu-kvm", "firecracker", "hyperv"]);
  assert.deepEqual(atLeast, ["10000", "11000", "11100", "11111", "11111"]);
});

test("of two floors the stronger holds", () => {
  for (const a of ISOLATIONS)
    for (const b of ISOLATIONS) {
      const both = strongerIsolation(a, b);
      assert.ok(isolationAtLeast(both, a) && isolationAtLeast(both, b) && [a, b].includes(both));
    }
});

test("the numbers are those that stores, signatures and peers have", () => {
  assert.deepEqual(
    ISOLATIONS.map((name) => ISOLATION_NUMBERS.numberOf(name)),
    [1, 2, 3, 4, 5],
  );
});
