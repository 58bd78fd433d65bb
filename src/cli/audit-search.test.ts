// Rows that are wanted, in each form.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readLog } from "../audit/read-log.ts";
import type { AuditRecord } from "../audit/segment.ts";
import { type Format, parseKind, parseSpan, parseTime, type RowFilter, searchLog } from "./audit-search.ts";

const VECTORS = join(import.meta.dirname, "../../test/golden/audit");
const MAIN = join(import.meta.dirname, "../programs/main.ts");
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
  for (const bad of [
    "",
    "yesterday",
    "2027-13-01",
    "2027",
    "2027-02-30",
    "2027-02-29T12:00:00Z",
    "2027-04-31T23:00:00-05:00",
  ])
    assert.throws(() => parseTime(bad), { code: "argument.invalid" }, bad);
  assert.equal(parseTime("2028-02-29T23:00:00-05:00"), Date.UTC(2028, 2, 1, 4));
  for (const since of ["2027-04-01", "2027-01-01"])
    assert.throws(() => parseSpan({ since, until: "2027-01-01" }), { code: "argument.invalid", message: /nothing is/ });
  assert.deepEqual(parseSpan({ since: "1970-01-01" }), { sinceMs: 0, untilMs: null });
  const kinds = new Set(all.map(({ envelope }) => envelope.kind));
  assert.ok(kinds.size > 9);
  for (const kind of kinds) assert.equal(parseKind(kind), kind);
  assert.throws(() => parseKind("bogus"), { code: "argument.invalid", message: /kinds are compile, hit,/ });
  const searched = spawnSync(process.execPath, [MAIN, "audit", "search", VECTORS, "--kind", "bogus"], {
    encoding: "utf8",
  });
  assert.deepEqual([searched.status, searched.stdout], [2, ""]);
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

test("reading that stops at damage, or before the checkpoint's row, prints what is good and fails", async () => {
  const state = join(folder, "damaged");
  const at = join(state, "audit");
  const name = join(at, "0000000000000001.log");
  await cp(VECTORS, at, { recursive: true });
  const whole = await readFile(name);
  const note = await readFile(join(at, "checkpoint"), "utf8");
  const starts = [...whole.toString("latin1").matchAll(/%hpcc /g)].map(({ index }) => index);
  const altered = Buffer.from(whole);
  altered[starts[5]! + 60]! ^= 1;
  const cases: [Buffer, string | null, number, RegExp][] = [
    [whole, note, all.length, /^$/],
    [whole.subarray(0, starts[5]), note, 5, /read to row 5, and its checkpoint was made for \d+/],
    [whole.subarray(0, starts[5]! + 9), note, 5, /read to row 5, and its checkpoint/],
    [altered, note, 5, /damaged at byte|read to row 5/],
    [whole, null, all.length, /has a key and no checkpoint/],
    [whole, "x\n", all.length, /checkpoint does not say/],
  ];
  for (const [bytes, checkpoint, good, message] of cases) {
    await writeFile(name, bytes);
    await rm(join(at, "checkpoint"), { force: true });
    if (checkpoint !== null) await writeFile(join(at, "checkpoint"), checkpoint);
    const wanted = lines(all.slice(0, good));
    for (const last of [null, 100]) {
      let text = "";
      const out = (part: string) => void (text += part);
      const reading = searchLog(at, { filter: ANY, format: "tsv", last, more: null, out });
      if (good === all.length && checkpoint === note) await reading;
      else await assert.rejects(reading, { code: "audit.corrupt", message });
      assert.equal(text, wanted);
    }
    const program = (words: string[]) => spawnSync(process.execPath, [MAIN, "audit", ...words], { encoding: "utf8" });
    const { status, stdout, stderr } = program(["rows", "--last", "100", "--state", state]);
    assert.deepEqual([status === 0, stdout], [checkpoint === note && good === all.length, wanted]);
    assert.match(stderr, message);
  }
});

test("`tail --follow` goes on until it is ended", async () => {
  const [name, followed] = ["0000000000000001.log", join(folder, "followed")];
  const whole = await readFile(join(VECTORS, name));
  await cp(VECTORS, followed, { recursive: true });
  await writeFile(join(followed, name), whole.subarray(0, whole.indexOf("%hpcc", whole.length >> 1)));
  const child = spawn(process.execPath, [MAIN, "audit", "tail", followed, "--last", "1", "--follow"]);
  const ended = once(child, "exit");
  const printed: string[] = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => printed.push(text));
  await once(child.stdout, "data");
  await writeFile(join(followed, name), whole);
  while (!printed.join("").endsWith(lines(all.slice(-1)))) await once(child.stdout, "data");
  child.kill("SIGTERM");
  assert.deepEqual(await ended, [null, "SIGTERM"]);
});
