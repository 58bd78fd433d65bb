import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAge, printCleaned } from "./clean.ts";

test("an age is a number and a unit", () => {
  const hour = 3_600_000;
  assert.deepEqual(["90s", "5m", "36h", "7d", "2w", "0d"].map(parseAge), [
    90_000,
    300_000,
    36 * hour,
    7 * 24 * hour,
    14 * 24 * hour,
    0,
  ]);
  for (const wrong of ["", "7", "d", "7 d", "-7d", "7y", "1.5h", "9999999d"])
    assert.throws(() => parseAge(wrong), { code: "argument.invalid" }, wrong);
});

test("what was freed is said in a line", () => {
  assert.equal(
    printCleaned({ records: 1, files: 3, bytes: 3_000_000, leftBytes: 5 * 1024 ** 3 }),
    "freed 2.9 MiB (1 record and 3 files); 5.0 GiB left\n",
  );
  assert.equal(
    printCleaned({ records: 0, files: 0, bytes: 0, leftBytes: 0 }),
    "freed 0 B (0 records and 0 files); nothing left\n",
  );
});
