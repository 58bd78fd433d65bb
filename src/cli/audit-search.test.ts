// Rows that are wanted, in each form.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readLog } from "../audit/read-log.ts";
import type { AuditRecord } from "../audit/segment.ts";
import { type Format, parseTime, type RowFilter, searchLog } from "./audit-search.ts";

const VECTORS = join(import.meta.dirname, "../../test/golden/audit");
const ANY: RowFilter = {
  tenant: null,
  principal: null,
  kind: null,
  vm: null,
  build: null,
  image: null,
  source: null,
  output: null,
  sinceMs: null,
  untilMs: null,
};
const all: AuditRecord[] = [];
let folder = "";

before(async () => {
  for await (const { record } of readLog(VECTORS)) all.push(record);
  folder = await mkdtemp(join(tmpdir(), "hpcc-search-"));
});
after(async () => rm(folder, { recursive: true }));

async function search(filter: Partial<RowFilter>, format: Format = "tsv", last: number | null = null): Promise<string> {
  let text = "";
  const out = (part: string) => void (text += part);
  await searchLog(VECTORS, { filter: { ...ANY, ...filter }, format, last, more: null, out });
  return text;
}

const lines = (rows: readonly AuditRecord[]) => rows.map(({ line }) => `${line}\n`).join("");

test("all rows, the last ones, and those that fit all that is named", async () => {
  assert.equal(await search({}), lines(all));
  for (const last of [0, 1, 3, 100])
    assert.equal(await search({}, "tsv", last), lines(last === 0 ? [] : all.slice(-last)));
  const { row } = all[2]!;
  const cases: [Partial<RowFilter>, (record: AuditRecord) => boolean][] = [
    [{ tenant: "acme" }, (record) => record.row.tenant === "acme"],
    [{ kind: "hit" }, (record) => record.envelope.kind === "hit"],
    [
      { build: 'nightly "2027-01-02" #7' },
      (record) => "build" in record.envelope && record.envelope.build?.at(0) === "n",
    ],
    [{ vm: "vm-2" }, (record) => record.row.vm === "vm-2"],
    [{ image: row.imageDigest!.slice(7, 19) }, (record) => record.row.imageDigest === row.imageDigest],
    [{ source: row.sourceDigest }, (record) => record.row.sourceDigest === row.sourceDigest],
    [
      { output: row.outputDigest, kind: "compile" },
      (record) => record.row.outputDigest === row.outputDigest && record.envelope.kind === "compile",
    ],
    [{ principal: "spiffe://build.example.com/tenant/acme/user/ann" }, (record) => "principal" in record.envelope],
    [{ sinceMs: parseTime("2027-01-01") }, (record) => record.envelope.endMs >= Date.UTC(2027, 0, 1)],
    [{ untilMs: parseTime("2027-01-01T00:00:00") }, (record) => record.envelope.endMs < Date.UTC(2027, 0, 1)],
  ];
  for (const [filter, fits] of cases) {
    const wanted = all.filter(fits);
    assert.ok(wanted.length > 0 && wanted.length < all.length, JSON.stringify(filter));
    assert.equal(await search(filter), lines(wanted), JSON.stringify(filter));
  }
  assert.equal(await search({ tenant: "other" }), "");
  for (const bad of ["", "yesterday", "2027-13-01", "2027"])
    assert.throws(() => parseTime(bad), { code: "argument.invalid" });
});

test("JSON lines hold the row, its digest and its envelope; CSV quotes, and runs no formula", async () => {
  const json = (await search({}, "jsonl")).trimEnd().split("\n");
  assert.deepEqual(
    json.map((line) => (JSON.parse(line) as { digest: string }).digest),
    all.map(({ digest }) => digest),
  );
  const csv = await search({ kind: "compile" }, "csv");
  const [head, row, built] = csv.split("\r\n");
  assert.match(head!, /^sequence,start,end,kind,note,principal,isolation,life,image_digest,/);
  assert.match(row!, /^3,2027-01-02T03:04:05\.678Z,2027-01-02T03:04:05\.801Z,compile,,spiffe:/);
  assert.match(row!, /,sha256:[0-9a-f]{64},$/);
  assert.match(built!, /,sha256:[0-9a-f]{64},"nightly ""2027-01-02"" #7"$/);
  assert.ok(row!.includes('"[""env"",""-i"",""-C"",""/hpcc/project"",'));
});

test("a log is followed as it grows", async () => {
  const name = "0000000000000001.log";
  const whole = await readFile(join(VECTORS, name));
  await cp(VECTORS, folder, { recursive: true });
  const half = whole.indexOf("%hpcc", whole.length >> 1);
  await writeFile(join(folder, name), whole.subarray(0, half));
  const parts: string[] = [];
  let asked = 0;
  const more = async () => {
    parts.push("|");
    if (asked++ === 0) await writeFile(join(folder, name), whole);
    return asked < 3;
  };
  const options = { filter: ANY, format: "tsv", last: 1, more, out: (text: string) => void parts.push(text) } as const;
  assert.equal(await searchLog(folder, options), all.length);
  const [before = "", added, nothing] = parts.join("").split("|");
  assert.ok(all.some(({ line }) => `${line}\n` === before));
  assert.equal(before + (added ?? ""), lines(all.slice(-(added ?? "").split("\n").length)));
  assert.equal(nothing, "");
});

test("`tail --follow` goes on until it is ended", async () => {
  const [name, followed] = ["0000000000000001.log", join(folder, "followed")];
  const whole = await readFile(join(VECTORS, name));
  await cp(VECTORS, followed, { recursive: true });
  await writeFile(join(followed, name), whole.subarray(0, whole.indexOf("%hpcc", whole.length >> 1)));
  const main = join(import.meta.dirname, "../programs/main.ts");
  const child = spawn(process.execPath, [main, "audit", "tail", followed, "--last", "1", "--follow"]);
  const ended = once(child, "exit");
  const printed: string[] = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => printed.push(text));
  await once(child.stdout, "data");
  await writeFile(join(followed, name), whole);
  while (!printed.join("").endsWith(lines(all.slice(-1)))) await once(child.stdout, "data");
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [null, "SIGTERM"]);
});
