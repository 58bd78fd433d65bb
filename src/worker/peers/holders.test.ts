import assert from "node:assert/strict";
import { test } from "node:test";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import { Holders } from "./holders.ts";

const ACME = parseTenantId("acme");
const OTHER = parseTenantId("other");

function key(at: number): Digest {
  return sha256(Buffer.from(`${at}`));
}

test("a key's holders are those who said so, for that tenant alone", () => {
  const holders = new Holders();
  for (const worker of ["w1", "w2", "w3"]) holders.note(worker, ACME, key(1));
  holders.note("w1", ACME, key(1));
  assert.deepEqual(holders.of(ACME, key(1), 2), ["w1", "w2"]);
  assert.deepEqual(holders.of(OTHER, key(1), 4), []);
  assert.deepEqual(holders.of(ACME, key(2), 4), []);
  assert.equal(holders.size, 3);
});

test("a worker that says more than the others pushes out what it said itself", () => {
  const holders = new Holders(10);
  for (let at = 0; at < 4; at += 1) holders.note("quiet", ACME, key(at));
  for (let at = 0; at < 1_000; at += 1) holders.note("loud", ACME, key(at));
  assert.equal(holders.size, 10);
  for (let at = 0; at < 4; at += 1) assert.ok(holders.of(ACME, key(at), 4).includes("quiet"), `${at}`);
  assert.deepEqual(holders.of(ACME, key(999), 4), ["loud"]);
  assert.deepEqual(holders.of(ACME, key(500), 4), []);
});
