import assert from "node:assert/strict";
import { test } from "node:test";
import { Remembered } from "./remembered.ts";

test("the oldest entry goes first, and one that is set again is new", () => {
  const remembered = new Remembered<number>(2);
  remembered.set("a", 1);
  remembered.set("b", 2);
  remembered.set("a", 3);
  remembered.set("c", 4);
  assert.deepEqual(
    ["a", "b", "c"].map((key) => remembered.get(key)),
    [3, undefined, 4],
  );
});

test("a key that is no own property of objects is no entry", () => {
  assert.equal(new Remembered<true>(1).get("__proto__"), undefined);
});
