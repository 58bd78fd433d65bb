// How far a command is, for a person alone.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { checkLog } from "./audit-check.ts";
import { searchLog } from "./audit-search.ts";
import { RowProgress, signedRows } from "./row-progress.ts";

const VECTORS = join(import.meta.dirname, "../../test/golden/audit");

test("rows are counted on one line of a terminal, and nowhere else", async () => {
  assert.ok((await signedRows(VECTORS))! > 10);
  assert.equal(await signedRows("/nonexistent"), null);
  for (const isTerminal of [true, false])
    for (const isQuiet of [true, false]) {
      let said = "";
      const output = { out: () => {}, error: (text: string) => (said += text) };
      {
        using line = new RowProgress(output, { total: 1_000_000, isQuiet, isTerminal });
        line.segment("0000000000000001.log");
        line.segment("0000000000027001.log");
        line.rows(54_000);
      }
      const shown = ["27,000 of 1,000,000 rows", "54,000 of 1,000,000 rows", ""].map((text) => `\r\u001b[K${text}`);
      assert.equal(said, isTerminal && !isQuiet ? shown.join("") : "");
    }
});

test("checks and searches tell how far they are", async () => {
  const segments: string[] = [];
  const onSegment = (name: string) => void segments.push(name);
  await checkLog(VECTORS, { keys: [], checkpoints: [], receipts: [], onSegment });
  assert.deepEqual([...new Set(segments)], ["0000000000000001.log"]);
  const filter = Object.fromEntries(
    ["tenant", "principal", "kind", "vm", "build", "image", "source", "output", "sinceMs", "untilMs"].map((name) => [
      name,
      null,
    ]),
  ) as unknown as Parameters<typeof searchLog>[1]["filter"];
  const told: number[] = [];
  const onRows = (rows: number) => void told.push(rows);
  await searchLog(VECTORS, { filter, format: "tsv", last: null, more: null, out: () => {}, onRows, everyRows: 5 });
  assert.deepEqual(told.slice(0, 2), [5, 10]);
});
