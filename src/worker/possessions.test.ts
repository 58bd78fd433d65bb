// What principals have shown to have is theirs alone, and what is forgotten is the one used longest ago.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../core/digest/digest.ts";
import { type Principal, parseSpiffeId } from "../core/identity/spiffe.ts";
import { Possessions } from "./possessions.ts";

const user = (name: string) => parseSpiffeId(`spiffe://test.example/tenant/acme/user/${name}`) as Principal;
const [ANN, BOB] = [user("ann"), user("bob")];
const [A, B, C] = ["a", "b", "c"].map((text) => sha256(Buffer.from(text))) as [never, never, never];

test("what one principal sent another has not", () => {
  const possessions = new Possessions();
  possessions.add(ANN, A);
  assert.deepEqual([possessions.has(ANN, A), possessions.has(BOB, A), possessions.has(ANN, B)], [true, false, false]);
});

test("the one used longest ago is forgotten", () => {
  const possessions = new Possessions(2);
  possessions.add(ANN, A);
  possessions.add(ANN, B);
  assert.ok(possessions.has(ANN, A));
  possessions.add(ANN, C);
  assert.deepEqual([possessions.has(ANN, A), possessions.has(ANN, B), possessions.has(ANN, C)], [true, false, true]);
});
