import assert from "node:assert/strict";
import { test } from "node:test";
import { HpccError } from "../base/errors.ts";
import { type FetchTurn, FetchTurns, OPERATOR } from "./fetch-turns.ts";

/** Turns with names, and the order in which they begin. */
function named() {
  const turns = new FetchTurns();
  const begun: string[] = [];
  const wait = (tenant: string, name: string): FetchTurn => {
    const turn = turns.wait(tenant);
    void turn.begun.promise.then(() => begun.push(name));
    return turn;
  };
  const now = async () => {
    await new Promise((resolve) => setImmediate(resolve));
    return begun.join(" ");
  };
  return { turns, wait, now };
}

test("one tenant's many fetches leave room for another's, and tenants take turns", async () => {
  const { turns, wait, now } = named();
  const [a1, a2] = ["a1", "a2", "a3", "a4"].map((name) => wait("a", name));
  assert.equal(await now(), "a1");
  const b1 = wait("b", "b1");
  assert.equal(await now(), "a1 b1");
  for (const name of ["b2", "b3"]) wait("b", name);
  wait("c", "c1");
  turns.end(b1);
  assert.equal(await now(), "a1 b1 c1", "who had no turn yet is first");
  turns.end(a1!);
  assert.equal(await now(), "a1 b1 c1 a2", "then who had one the longest ago");
  turns.end(a2!);
  assert.equal(await now(), "a1 b1 c1 a2 b2");
});

test("a tenant has only so many waiting, and the others still may", () => {
  const { turns } = named();
  for (let n = 0; n < 9; n += 1) turns.wait("a");
  const isFull = (error: unknown) => error instanceof HpccError && error.code === "image.fetching";
  assert.throws(() => turns.wait("a"), isFull);
  turns.wait("b");
  const others = Array.from({ length: 300 }, (_, n) => `t${n}`);
  assert.throws(() => others.forEach((tenant) => void turns.wait(tenant)), isFull, "all together, too");
});

test("who joins a fetch that waits behind another tenant's brings his own turn", async () => {
  const { turns, wait, now } = named();
  const [, , a3] = ["a1", "a2", "a3"].map((name) => wait("a", name));
  turns.join(a3!, "b");
  assert.equal(await now(), "a1 a3");
});

test("whoever runs the worker has all turns while nobody else wants one", async () => {
  const { turns, wait, now } = named();
  const [o1] = ["o1", "o2", "o3", "o4"].map((name) => wait(OPERATOR, name));
  assert.equal(await now(), "o1 o2");
  wait("a", "a1");
  turns.end(o1!);
  assert.equal(await now(), "o1 o2 a1");
});
