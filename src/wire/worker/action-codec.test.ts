// Numbers of messages that carry them as plain integers: they are those of the schema, of stores and of signatures.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ISOLATIONS } from "../../core/isolation.ts";
import { LIFE_NUMBERS, LIVES } from "../../core/life.ts";
import { toWireIsolation } from "../scheduler/mapping.ts";
import { isolationOfNumber, isolationToNumber, lifeOfNumber, lifeToNumber } from "./action-codec.ts";

test("an isolation has one number in the worker's contract, the scheduler's and the store", () => {
  for (const isolation of ISOLATIONS) {
    assert.equal(isolationToNumber(isolation), toWireIsolation(isolation));
    assert.equal(isolationOfNumber(isolationToNumber(isolation)), isolation);
  }
  for (const number of [0, 6, 255]) assert.throws(() => isolationOfNumber(number), { code: "argument.invalid" });
});

test("so has a life", () => {
  for (const life of LIVES) {
    assert.equal(lifeToNumber(life), LIFE_NUMBERS.numberOf(life));
    assert.equal(lifeOfNumber(lifeToNumber(life)), life);
  }
  for (const number of [0, 3]) assert.equal(lifeOfNumber(number), undefined);
});
