// Which rows are read for a question: all that fit, whatever the state of the index; and no segment that it rules out.
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { DAYS, DIGESTS, FIRST_MS, growLog, TENANTS } from "../../test/support/generated-log.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { AuditIndex } from "./index/audit-index.ts";
import { listSegments, readLog } from "./read-log.ts";
import type { AuditRecord } from "./segment.ts";
import { type RowSelection, selectRows } from "./select-rows.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const DAY = 86_400_000;
const ANY: RowSelection = { tenant: null, source: null, output: null, sinceMs: null, untilMs: null };

let root = "";
/** Folders of one log, by the state of its index. */
const folders: Record<string, string> = {};
let all: AuditRecord[] = [];

async function indexTo(folder: string, sequence: number): Promise<void> {
  const index = await AuditIndex.open({ folder, readManifest: async () => null, keep: true, warn: assert.fail });
  await index.catchUp(sequence);
  await index.close();
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-select-"));
  const bare = join(root, "bare");
  const parts = { folder: bare, signer: SIGNER };
  await growLog({ ...parts, rows: 400, seed: 1 });
  all = [];
  for await (const { record } of readLog(bare)) all.push(record);
  for (const name of ["whole", "half", "damaged", "stale"]) {
    folders[name] = join(root, name);
    await cp(bare, folders[name], { recursive: true });
    await indexTo(folders[name], name === "half" ? 200 : Number.POSITIVE_INFINITY);
  }
  folders["bare"] = bare;
  for (const name of await readdir(join(folders["damaged"]!, "index")))
    await writeFile(join(folders["damaged"]!, "index", name), "damaged");
  // Of another log, whose records stand elsewhere.
  const other = join(root, "other");
  await growLog({ ...parts, folder: other, rows: 300, seed: 2 });
  await indexTo(other, Number.POSITIVE_INFINITY);
  await rm(join(folders["stale"]!, "index"), { recursive: true });
  await cp(join(other, "index"), join(folders["stale"]!, "index"), { recursive: true });
});
after(async () => rm(root, { recursive: true }));

function fits({ row, envelope }: AuditRecord, { tenant, source, output, sinceMs, untilMs }: RowSelection): boolean {
  const starts = (wanted: string | null, value: string | null) => wanted === null || (value ?? "").startsWith(wanted);
  return (
    (tenant === null || row.tenant === tenant) &&
    starts(source, row.sourceDigest) &&
    starts(output, row.outputDigest) &&
    (sinceMs === null || envelope.endMs >= sinceMs) &&
    (untilMs === null || envelope.endMs < untilMs)
  );
}

async function selected(folder: string, selection: RowSelection): Promise<AuditRecord[]> {
  const found: AuditRecord[] = [];
  for await (const record of selectRows(folder, selection, () => {})) found.push(record);
  return found;
}

test("whatever the index is, all rows that fit are given, in order", async () => {
  const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
  const digest = fc
    .tuple(fc.constantFrom(...DIGESTS), fc.integer({ min: 7, max: 71 }))
    .map(([whole, length]) => whole.slice(0, length));
  const time = fc.nat(DAYS * DAY).map((ms) => FIRST_MS + ms);
  const selections = fc.record({
    tenant: maybe(fc.constantFrom(...TENANTS)),
    source: maybe(digest),
    output: maybe(digest),
    sinceMs: maybe(time),
    untilMs: maybe(time),
  });
  let count = 0;
  await fc.assert(
    fc.asyncProperty(selections, fc.constantFrom(...Object.keys(folders)), async (selection, name) => {
      const found = (await selected(folders[name]!, selection)).filter((record) => fits(record, selection));
      const expected = all.filter((record) => fits(record, selection));
      assert.deepEqual(
        found.map(({ leaf }) => leaf),
        expected.map(({ leaf }) => leaf),
      );
      count += expected.length;
    }),
    { numRuns: 100 },
  );
  assert.ok(count > 300, `${count} rows`);
});

test("rows without the digest are not given, and segments without a row of the time are not read", async () => {
  const folder = join(root, "read");
  await cp(folders["whole"]!, folder, { recursive: true });
  const given = await selected(folder, { ...ANY, output: DIGESTS[3]! });
  assert.ok(given.length > 0 && given.length < all.length / 2, `${given.length} rows are given`);
  const segments = await listSegments(folder);
  assert.ok(segments.length > 5);
  // Days that no row has but the one of the log's key: only the last segment may have more than the index knows.
  for (const name of segments.slice(1, -1)) await writeFile(join(folder, name), "not to be read");
  const none = await selected(folder, { ...ANY, untilMs: FIRST_MS - DAY });
  assert.ok(none.length < all.length / 2, `${none.length} rows are given`);
  await assert.rejects(selected(folder, { ...ANY, untilMs: FIRST_MS + DAYS * DAY }), { code: "audit.corrupt" });
  const [wanted] = given;
  const own = segments.findLast((name) => Number(name.slice(0, 16)) <= wanted!.envelope.sequence)!;
  const bytes = await readFile(join(folders["whole"]!, own));
  await writeFile(join(folder, own), bytes);
  const iterator = selectRows(folder, { ...ANY, output: DIGESTS[3]! }, () => {});
  const first = await iterator.next();
  assert.equal(first.done === true ? null : first.value.leaf, wanted!.leaf);
  await iterator.return(undefined);
});
