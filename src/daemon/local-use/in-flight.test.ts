import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { FlightsOfOutputs } from "./in-flight.ts";

test("two calls that write one file at a time disturb each other, and nobody else", () => {
  const flights = new FlightsOfOutputs();
  const [a, b, c] = [["/x", "/y"], ["/y"], ["/z"]].map((paths) => flights.begin(paths.map(ascii)));
  assert.deepEqual([a!.disturbed, b!.disturbed, c!.disturbed], [true, true, false]);
  a!.end();
  b!.end();
  assert.equal(flights.begin([ascii("/y")]).disturbed, false);
});

test("a call that has ended still knows that it was disturbed", () => {
  const flights = new FlightsOfOutputs();
  const first = flights.begin([ascii("/x")]);
  const second = flights.begin([ascii("/x")]);
  second.end();
  assert.equal(first.disturbed, true);
  const third = flights.begin([ascii("/x")]);
  assert.equal(third.disturbed, true);
});
