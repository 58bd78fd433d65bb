// Each of the 64 points is held by rows or tests that are there, and each row is there for a point.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { DEPENDENCIES, MAPS, MUTATIONS, ONE_STEP, OUTPUTS, TEXTS, WORDS } from "./pitfall-rows.ts";
import { FURTHER_ROWS, PITFALLS, type Pitfall } from "./pitfalls.ts";

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

const PAGE = join(ROOT, "docs/pitfalls.md");
const MARK = "<!-- test/corpus/pitfalls.ts -->";

function tableRow(number: string, { what, does, rows = [], tests = [], not }: Pitfall): string {
  const code = (text: string) => `\`${text.replaceAll("|", "\\|")}\``;
  const files = [...new Set(tests.map(([file]) => file))].map(code);
  const held = [...(rows.length > 0 ? [`rows ${rows.map(code).join(", ")}`] : []), ...files];
  return `| ${[number, what.replaceAll(/__\w+__/g, code), does, held.length > 0 ? held.join("; ") : (not ?? "")].join(" | ")} |`;
}

test("docs/pitfalls.md has the table; HPCC_TEST_WRITE_PAGES=1 writes it", () => {
  const rows = Object.entries(PITFALLS).map(([number, pitfall]) => tableRow(number, pitfall));
  const table = ["| | pitfall | what hpcc does | held by |", "|---|---|---|---|", ...rows, ""].join("\n");
  const page = readFileSync(PAGE, "utf8");
  const [before, ...rest] = page.split(MARK);
  assert.equal(rest.length, 1, `one ${MARK}`);
  const expected = `${before}${MARK}\n${table}`;
  if (process.env["HPCC_TEST_WRITE_PAGES"] === "1") writeFileSync(PAGE, expected);
  else assert.equal(page, expected);
});

test("reasons that the table names are reasons", () => {
  const reasons = readFileSync(join(ROOT, "docs/bypass-reasons.md"), "utf8");
  const named = Object.values(PITFALLS).flatMap(({ does }) => [...does.matchAll(/`([a-z]+_[a-z_]+)`/g)]);
  assert.ok(named.length > 0);
  for (const [, reason] of named) assert.ok(reasons.includes(`| \`${reason}\` |`), reason);
});
