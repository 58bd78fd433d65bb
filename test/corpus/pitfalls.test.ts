// Each of the 64 points is held by rows or tests that are there, and each row is there for a point.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DEPENDENCIES, MAPS, MUTATIONS, ONE_STEP, OUTPUTS, TEXTS, WORDS } from "./pitfall-rows.ts";
import { FURTHER_ROWS, PITFALLS } from "./pitfalls.ts";

const ROOT = join(import.meta.dirname, "../..");
const POINTS = 64;
const NAMES = new Set([OUTPUTS, DEPENDENCIES, WORDS, TEXTS, ONE_STEP, MAPS, MUTATIONS].flat().map(([name]) => name));

test("each point is held by rows or tests, or it is said why not", () => {
  assert.deepEqual(
    Object.keys(PITFALLS).map(Number),
    Array.from({ length: POINTS }, (_, at) => at + 1),
  );
  for (const [number, { what, rows = [], tests = [], not }] of Object.entries(PITFALLS)) {
    assert.ok(rows.length + tests.length > 0 || not !== undefined, `${number}: ${what}`);
    for (const row of rows) assert.ok(NAMES.has(row), `${number}: no row is called ${row}`);
    for (const [file, words] of tests)
      assert.ok(readFileSync(join(ROOT, file), "utf8").includes(words), `${number}: ${file} has no ${words}`);
  }
});

test("each row is there for a point", () => {
  const held = new Set([...Object.values(PITFALLS).flatMap(({ rows = [] }) => rows), ...FURTHER_ROWS]);
  assert.deepEqual(
    [...NAMES].filter((name) => !held.has(name)),
    [],
  );
  assert.deepEqual(
    FURTHER_ROWS.filter((name) => !NAMES.has(name)),
    [],
  );
});
