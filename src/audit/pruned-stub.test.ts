// Stubs and lists of rows: what is written is read back, and nothing else is read.
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { HpccError } from "../base/errors.ts";
import { noteSigner, openNote } from "../core/note/signed-note.ts";
import { parsePruneName, pruneName } from "./pruned-frame.ts";
import { type PrunedStub, readStub, signStub, stubText } from "./pruned-stub.ts";
import { encodeRanges, parseRanges, RangeBuilder, RangeCursor } from "./removed-ranges.ts";

const KEY = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const hash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const count = fc.integer({ min: 1, max: 2 ** 40 });
const stub: fc.Arbitrary<Omit<PrunedStub, "origin">> = fc.record(
  {
    tenant: fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,20}$/),
    size: count,
    root: hash,
    first: count,
    last: count,
    rows: count,
    removed: hash,
    whenMs: fc.nat(4_000_000_000_000),
    by: fc.string({ unit: "binary", maxLength: 600 }),
    why: fc.string({ unit: "binary", maxLength: 600 }),
  },
  { noNullPrototype: true },
);

test("any stub is a note that its key opens, and says what it said, each text as one printable line", () => {
  fc.assert(
    fc.property(stub, (said) => {
      const note = signStub(said, KEY);
      assert.equal(openNote(note, [KEY.verifier]).by[0], KEY.verifier);
      const words = { by: stubText(said.by), why: stubText(said.why) };
      assert.deepEqual(readStub(note), { ...said, ...words, origin: KEY.verifier.name });
      assert.deepEqual(parsePruneName(pruneName(said)), { size: said.size, tenant: said.tenant });
    }),
  );
});

test("a changed byte is another stub, none, or one that is not signed", () => {
  fc.assert(
    fc.property(stub, fc.nat(), fc.integer({ min: 1, max: 127 }), (said, at, by) => {
      const bytes = Buffer.from(signStub(said, KEY));
      bytes[at % bytes.length]! ^= by;
      const changed = bytes.toString("utf8");
      try {
        openNote(changed, [KEY.verifier]);
        assert.fail("it was opened");
      } catch (error) {
        assert.ok(error instanceof HpccError, String(error));
      }
      try {
        readStub(changed);
      } catch (error) {
        assert.ok(error instanceof HpccError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test("any rows are ranges that are read back, and of each row it is known whether it is among them", () => {
  const rows = fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 60 });
  fc.assert(
    fc.property(rows, (all) => {
      const builder = new RangeBuilder();
      for (const row of all.toSorted((a, b) => a - b)) builder.add(row);
      const ranges = parseRanges(encodeRanges(builder.ranges));
      assert.deepEqual(ranges, builder.ranges);
      const cursor = new RangeCursor(ranges);
      const found = Array.from({ length: 61 }, (_, row) => row).filter((row) => cursor.has(row));
      assert.deepEqual(
        found,
        all.toSorted((a, b) => a - b),
      );
    }),
  );
});

test("other lists are refused", () => {
  assert.deepEqual(parseRanges("3\n5-9\n"), [
    [3, 3],
    [5, 9],
  ]);
  for (const bad of [
    "3",
    "3\n5-9",
    "5\n3\n",
    "5-3\n",
    "3-5\n5\n",
    "0\n",
    "x\n",
    "3\n\n",
    " 3\n",
    "3-\n",
    "99999999999999999\n",
  ])
    assert.throws(() => parseRanges(bad), { code: "audit.corrupt" }, bad);
});
