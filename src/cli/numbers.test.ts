import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAge, parseCount } from "./numbers.ts";

test("a count is a whole number up to a bound, which is named", () => {
  assert.deepEqual(["0", "7", "9999", "00010"].map(parseCount), [0, 7, 9999, 10]);
  for (const text of ["10000", "99999999999999999999", "9".repeat(400), "-1", "1.5", "1e3", " 1", ""])
    assert.throws(() => parseCount(text), { message: "it must be a whole number from 0 to 9999." });
});

test("an age is a number and its unit, and one that is too large is told so", () => {
  assert.deepEqual(["90s", "2m", "36h", "7d", "4w", "999999d"].map(parseAge), [
    90_000,
    120_000,
    129_600_000,
    604_800_000,
    2_419_200_000,
    999_999 * 86_400_000,
  ]);
  for (const text of ["1000000d", "99999999999999999999d", `${"9".repeat(400)}w`])
    assert.throws(() => parseAge(text), {
      message: `--older-than ${text} is too much; the number may be 999999 at most`,
    });
  for (const text of ["", "7", "d", "7 d", "-7d", "7.5d", "7y"])
    assert.throws(() => parseAge(text), {
      message: `--older-than wants a number and s, m, h, d or w, such as 7d, not ${text}`,
    });
});
