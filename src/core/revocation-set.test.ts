// What is revoked by what, and that nothing comes back when old revocations are forgotten.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { sha256 } from "./digest/digest.ts";
import { CLOCK_SKEW_MS_MAX, checkRevocationValue, type Made, REVOCATION_KINDS, type Revocation } from "./revocation.ts";
import { REVOCATIONS_MAX, RevocationSet } from "./revocation-set.ts";

const KEY = sha256(Buffer.from("key"));
const made: Made = {
  vm: "vm-1",
  worker: "w1",
  principal: "spiffe://example.com/tenant/acme/user/ann",
  image: sha256(Buffer.from("image")),
  madeMs: 1000,
  confirmedBy: null,
};

describe("a set of revocations", () => {
  test("reaches what other workers made by clocks that may be ahead, and not what this one made later", () => {
    const set = new RevocationSet("w1");
    set.add({ kind: "image", value: made.image, atMs: 1000 });
    const revoked = (worker: string, madeMs: number) => set.has(KEY, { ...made, worker, madeMs });
    assert.deepEqual([revoked("w1", 1000), revoked("w1", 1001)], [true, false]);
    assert.deepEqual([revoked("w2", 1000 + CLOCK_SKEW_MS_MAX), revoked("w2", 1001 + CLOCK_SKEW_MS_MAX)], [true, false]);
  });

  test("stays bounded, and what it forgot stays revoked", () => {
    const set = new RevocationSet("w1");
    const at = (index: number): Revocation => ({ kind: "vm", value: `vm-${index}`, atMs: 10_000 + index });
    for (let index = 0; index < 3 * REVOCATIONS_MAX; index++) {
      set.add(at(index));
      assert.ok(set.size <= REVOCATIONS_MAX);
    }
    for (let index = 0; index < 3 * REVOCATIONS_MAX; index++)
      assert.ok(set.has(KEY, { ...made, vm: `vm-${index}`, madeMs: at(index).atMs }), String(index));
    assert.equal(set.has(KEY, { ...made, vm: "other", madeMs: set.stamp(0) }), false);
  });

  test("never gives back what it revoked, whatever is added, and lets through what begins afterwards", () => {
    const kind = fc.constantFrom(...REVOCATION_KINDS);
    const value = fc.constantFrom("a", "b", "c");
    const revocations = fc.array(fc.record({ kind, value, atMs: fc.nat(50) }), { maxLength: 30 });
    const results = fc.record({
      vm: value,
      worker: fc.constantFrom("w1", "w2"),
      principal: value,
      image: value,
      madeMs: fc.nat(60),
      confirmedBy: fc.option(value),
    });
    fc.assert(
      fc.property(revocations, results, value, (added, result, key) => {
        const set = new RevocationSet("w1");
        let before = false;
        for (const revocation of added) {
          set.add(revocation);
          const now = set.has(key, result);
          assert.ok(now || !before);
          before = now;
        }
        const fresh = { ...result, vm: "new", confirmedBy: null, worker: "w1", madeMs: set.stamp(0) };
        assert.equal(set.has(key, fresh), false);
      }),
    );
  });
});

test("a value that is none of its kind is refused, and the error says what it is", () => {
  const good = { vm: "vm-00ff", image: KEY, key: KEY, principal: made.principal };
  for (const kind of REVOCATION_KINDS) {
    checkRevocationValue(kind, good[kind]);
    for (const bad of ["", "../x", "a b", "sha256:00", "spiffe://example.com/worker/w1", "v".repeat(500), "vm\n1"])
      assert.throws(() => checkRevocationValue(kind, bad), { code: "argument.invalid", message: /is .*not "/ });
  }
});

test("what this worker had begun when it heard of another's revocation is revoked, and nothing that it began afterwards", () => {
  const set = new RevocationSet("w1");
  const told: Revocation = { kind: "image", value: made.image, atMs: 1000 };
  assert.equal(set.add({ ...told, heardMs: 9000 }), true);
  const revoked = (worker: string, madeMs: number) => set.has(KEY, { ...made, worker, madeMs });
  assert.deepEqual([revoked("w1", 9000), revoked("w1", 9001), set.stamp(5)], [true, false, 9001]);
  assert.equal(revoked("w2", 1001 + CLOCK_SKEW_MS_MAX), false);
  assert.equal(set.add({ ...told, heardMs: 20_000 }), false, "told again, it is no other one");
});
