import assert from "node:assert/strict";
import { test } from "node:test";
import { assert as check, nat, property, shuffledSubarray } from "fast-check";
import { type Digest, sha256 } from "../digest/digest.ts";
import { HOMES_PER_KEY, KeyPlacement } from "./key-placement.ts";

function key(number: number): Digest {
  return sha256(Buffer.from(`key ${number}`));
}

function workers(count: number): { readonly id: string }[] {
  return Array.from({ length: count }, (_, at) => ({ id: `spiffe://test.example/worker/w${at}` }));
}

const KEYS = Array.from({ length: 2000 }, (_, at) => key(at));
const ids = (placement: KeyPlacement<{ readonly id: string }>, of: Digest) => placement.homes(of).map(({ id }) => id);

test("everybody who knows the same workers names the same ones, in whatever order they were told", () => {
  check(
    property(shuffledSubarray(workers(12), { minLength: 12 }), nat(), (shuffled, number) => {
      const told = new KeyPlacement(workers(12));
      assert.deepEqual(ids(new KeyPlacement(shuffled), key(number)), ids(told, key(number)));
    }),
  );
});

test("two different workers stand for a key, or as many as there are", () => {
  for (const count of [0, 1, 2, 7]) {
    const placement = new KeyPlacement(workers(count));
    for (const one of KEYS.slice(0, 50))
      assert.equal(new Set(ids(placement, one)).size, Math.min(count, HOMES_PER_KEY));
  }
});

test("a worker that goes moves only the keys that it stood for, and who was next takes its place", () => {
  const all = workers(8);
  const before = new KeyPlacement(all);
  const after = new KeyPlacement(all.slice(1));
  let moved = 0;
  for (const one of KEYS) {
    const kept = ids(before, one).filter((id) => id !== all[0]!.id);
    assert.deepEqual(ids(after, one).slice(0, kept.length), kept);
    if (kept.length < HOMES_PER_KEY) moved += 1;
  }
  // It stood for 2 of 8 parts.
  assert.ok(moved > KEYS.length * 0.2 && moved < KEYS.length * 0.3, `${moved}`);
});

test("keys are spread evenly", () => {
  const counts = new Map<string, number>();
  const placement = new KeyPlacement(workers(10));
  for (const one of KEYS) {
    const [first] = ids(placement, one);
    counts.set(first!, (counts.get(first!) ?? 0) + 1);
  }
  for (const count of counts.values()) assert.ok(count > 120 && count < 280, `${count}`);
  assert.equal(counts.size, 10);
});
