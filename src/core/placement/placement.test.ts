import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { ISOLATIONS, isolationAtLeast } from "../isolation.ts";
import { ASSIGNMENTS_MAX, PlacementIndex, type PlacementWorker } from "./placement.ts";

function worker(id: string, changes: Partial<PlacementWorker> = {}): PlacementWorker {
  return { id, images: ["i1"], isolation: "qemu-kvm", slots: 4, freeSlots: 4, queued: 0, draining: false, ...changes };
}

function indexOf(workers: readonly PlacementWorker[]): PlacementIndex<PlacementWorker> {
  const index = new PlacementIndex<PlacementWorker>();
  for (const each of workers) index.set(each);
  return index;
}

const query = { client: "ann", image: "i1", isolationMin: "namespace" } as const;
const ids = (workers: readonly PlacementWorker[]) => workers.map(({ id }) => id);

test("image, isolation and draining filter", () => {
  const index = indexOf([
    worker("a"),
    worker("other-image", { images: ["i2"] }),
    worker("weak", { isolation: "qemu-tcg" }),
    worker("strong", { isolation: "firecracker" }),
    worker("leaving", { draining: true }),
  ]);
  assert.deepEqual(ids(index.find({ ...query, isolationMin: "qemu-kvm" })).sort(), ["a", "strong"]);
  assert.deepEqual(ids(index.find({ ...query, image: "i2" })), ["other-image"]);
  assert.deepEqual(index.find({ ...query, image: "none" }), []);
});

test("a saturated worker comes last, a busy one keeps its place", () => {
  const plain = indexOf(["a", "b", "c"].map((id) => worker(id)));
  const [first] = ids(plain.find(query));
  plain.set(worker(first!, { freeSlots: 0, queued: 3 }));
  assert.equal(ids(plain.find(query))[0], first);
  plain.set(worker(first!, { freeSlots: 0, queued: 4 }));
  assert.equal(ids(plain.find(query)).at(-1), first);
});

test("an answer is the same whatever the order in which workers came, and holds at most 16", () => {
  const workers = Array.from({ length: 300 }, (_, number) => worker(`w${number}`));
  const answer = ids(indexOf(workers).find(query));
  assert.equal(answer.length, ASSIGNMENTS_MAX);
  assert.deepEqual(ids(indexOf(workers.toReversed()).find(query)), answer);
});

test("a worker that comes or goes moves few clients", () => {
  for (const size of [8, 1000]) {
    const index = indexOf(Array.from({ length: size }, (_, number) => worker(`w${number}`)));
    const clients = Array.from({ length: 1000 }, (_, number) => `client${number}`);
    const firsts = () => clients.map((client) => index.find({ ...query, client })[0]!.id);
    const before = firsts();
    index.delete("w3");
    const after = firsts();
    const moved = before.filter((id, position) => id !== "w3" && id !== after[position]).length;
    assert.ok(moved <= (size === 8 ? 0 : 10), `${moved} of 1000 clients moved without need among ${size}`);
    index.set(worker("new"));
    const joined = firsts().filter((id, position) => id !== after[position]).length;
    assert.ok(joined < (4 * 1000) / size + 20, `${joined} moved to the new worker among ${size}`);
  }
});

test("clients spread by slots", () => {
  const index = indexOf([worker("small", { slots: 2 }), worker("large", { slots: 8 })]);
  let large = 0;
  for (let number = 0; number < 2000; number += 1)
    if (index.find({ ...query, client: `c${number}` })[0]!.id === "large") large += 1;
  assert.ok(large > 1500 && large < 1700, `${large} of 2000 chose the worker with 80% of the slots`);
});

test("no worker of a large fleet is overrun or forgotten", () => {
  const index = indexOf(Array.from({ length: 200 }, (_, number) => worker(`w${number}`)));
  const counts = new Map<string, number>();
  for (let number = 0; number < 20_000; number += 1) {
    const { id } = index.find({ ...query, client: `c${number}` })[0]!;
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  assert.equal(counts.size, 200);
  assert.ok(Math.max(...counts.values()) < 400, `${Math.max(...counts.values())} of 20000 on one of 200`);
});

test("the index answers as a list of all workers would, after any changes", () => {
  const change = fc.record({
    id: fc.integer({ min: 0, max: 12 }),
    remove: fc.boolean(),
    images: fc.uniqueArray(fc.constantFrom("i1", "i2"), { minLength: 1 }),
    isolation: fc.constantFrom(...ISOLATIONS),
    draining: fc.boolean(),
    queued: fc.integer({ min: 0, max: 8 }),
    freeSlots: fc.integer({ min: 0, max: 2 }),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 40 }), (changes) => {
      const index = new PlacementIndex<PlacementWorker>();
      const plain = new Map<string, PlacementWorker>();
      for (const { id, remove, ...rest } of changes) {
        if (remove) {
          index.delete(`w${id}`);
          plain.delete(`w${id}`);
        } else {
          const changed = worker(`w${id}`, rest);
          index.set(changed);
          plain.set(changed.id, changed);
        }
      }
      assert.equal(index.size, plain.size);
      for (const isolationMin of ISOLATIONS) {
        const expected = [...plain.values()].filter(
          (each) => each.images.includes("i1") && !each.draining && isolationAtLeast(each.isolation, isolationMin),
        );
        assert.deepEqual(ids(index.find({ ...query, isolationMin })).sort(), ids(expected).sort());
      }
    }),
  );
});
