// `hpcc audit` on a log's folder, as a person and a program see it.
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { AuditLog } from "../audit/audit-log.ts";
import { makeLogKey, readLogSigner, readOrMakeLogSigner } from "../audit/log-key-file.ts";
import { emptyRow } from "../audit/row.ts";
import { encodeRecord } from "../audit/segment.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { checkProof, decodeProof } from "../core/note/checkpoint.ts";
import { checkLog, exportTiles, printCheck, prove } from "./audit-check.ts";
import { logKey, witnessKey } from "./log-key.ts";

const NAME = "x.example/worker/w1";
const NONE = { keys: [], checkpoints: [], receipts: [] };
let state = "";
let folder = "";
let receipts = "";

before(async () => {
  state = await mkdtemp(join(tmpdir(), "hpcc-check-"));
  folder = join(state, "audit");
  receipts = join(state, "current.jsonl");
  const signer = await readOrMakeLogSigner(state, NAME);
  const options = { folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer };
  const log = await AuditLog.open(options);
  const lines: string[] = [];
  for (let version = 0; version < 20; version++) {
    const body = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version } as const;
    const { line, digest, receipt } = await log.append(emptyRow("w1"), body);
    const { leaf } = encodeRecord(line, receipt!.envelope, 1);
    lines.push(`${JSON.stringify({ row: digest, leaf, proof: receipt!.proof })}\n`);
  }
  await log.close();
  await writeFile(receipts, `${lines.join("")}{"row":"sha2`);
});
after(async () => rm(state, { recursive: true }));

test("a good log passes, with the keys and receipts that are known, by its folder or the state folder", async () => {
  const key = await logKey(state, null);
  assert.ok(key.startsWith(`${NAME}+`));
  for (const named of [state, folder]) {
    const check = await checkLog(named, {
      keys: [key],
      checkpoints: [join(folder, "checkpoint")],
      receipts: [receipts],
    });
    assert.deepEqual(check.problems, []);
    assert.equal(
      printCheck(check),
      `21 rows in ${folder}, 21 of them signed\nsigned with ${key}\n20 receipts were held against it\nthe log is what was signed\n`,
    );
  }
  assert.match(printCheck(await checkLog(state, NONE)), /the key is the log's own word/);
  await assert.rejects(checkLog(tmpdir(), NONE), { code: "argument.invalid" });
  await assert.rejects(checkLog(state, { ...NONE, keys: ["x"] }), { code: "argument.invalid" });
  await assert.rejects(checkLog(state, { ...NONE, receipts: [join(folder, "key")] }), { code: "argument.invalid" });
});

test("no receipt at all is no check of receipts", async () => {
  const empty = join(state, "none.jsonl");
  await writeFile(empty, "");
  const torn = join(state, "torn.jsonl");
  await writeFile(torn, '{"row":"sha2');
  for (const path of [folder, empty, torn, join(state, "nowhere")])
    await assert.rejects(checkLog(state, { ...NONE, receipts: [receipts, path] }), {
      code: "argument.invalid",
      message: /^there (are no receipts in|is no file) /,
    });
});

test("a bad one is told with its first bad row", async () => {
  const copy = await mkdtemp(join(state, "copy-"));
  await cp(folder, copy, { recursive: true });
  const path = join(copy, "0000000000000001.log");
  const bytes = await readFile(path);
  bytes[bytes.indexOf('"version":7') + 10]! ^= 1;
  await writeFile(path, bytes);
  const check = await checkLog(copy, NONE);
  assert.match(printCheck(check), /^row 9 is damaged, in 0000000000000001\.log at byte \d+$/m);
  assert.match(printCheck(check), /THE LOG IS NOT WHAT WAS SIGNED\n$/);
});

describe("a proof", () => {
  test("of any row is found by its number and its digest, and proves it", async () => {
    const { verifier } = (await readLogSigner(state))!;
    for (const row of ["1", "9", "21"]) {
      const proven = await prove(state, row);
      assert.equal(proven.sequence, Number(row));
      const record = Buffer.from(`${proven.row}\n${proven.envelope}\n`, "latin1");
      const { leaf } = encodeRecord(proven.row, proven.envelope, 1);
      assert.equal(leaf, proven.leaf, `${record.length} bytes`);
      assert.equal(checkProof(Buffer.from(leaf.slice(7), "hex"), decodeProof(proven.proof), [verifier]).size, 21);
    }
    // All rows of a policy have one line; the newest is found.
    const { digest } = await prove(state, "9");
    assert.equal((await prove(state, digest.slice(7, 19))).sequence, 21);
  });

  test("of no row is none", async () => {
    await assert.rejects(prove(state, "22"), { code: "hash.unknown" });
    for (const bad of ["", "0", "-1", "abc"])
      await assert.rejects(prove(state, bad), { code: "argument.invalid" }, bad);
  });
});

test("the log's key is its worker's alone, and another can be made", async () => {
  const own = await mkdtemp(join(state, "key-"));
  const without = { code: "argument.invalid", hint: `\`hpcc ca log-key --state ${own} --new NAME\` makes one before.` };
  await assert.rejects(logKey(own, null), without);
  await assert.rejects(witnessKey(own, null), { hint: `\`hpcc ca witness-key --state ${own} --new NAME\` makes one.` });
  const first = await logKey(own, NAME);
  assert.equal((await readOrMakeLogSigner(own, "y")).verifier.text, first);
  assert.notEqual((await makeLogKey(own, NAME)).text, first);
  const { chmod, stat } = await import("node:fs/promises");
  assert.equal((await stat(join(own, "log-key"))).mode & 0o777, 0o600);
  await chmod(join(own, "log-key"), 0o640);
  await assert.rejects(readLogSigner(own), { code: "config.invalid" });
});

test("tiles go into a new or empty folder outside the log, of a signed log alone, or nowhere", async () => {
  const place = await mkdtemp(join(state, "tiles-"));
  await writeFile(join(place, "file"), "x");
  const unsigned = join(place, "unsigned");
  await cp(folder, unsigned, { recursive: true });
  await rm(join(unsigned, "checkpoint"));
  const names = async () => (await readdir(state, { recursive: true })).sort();
  const before = await names();
  const cases: [string, string, RegExp][] = [
    [state, join(place, "file"), /cannot be written/],
    [state, join(place, "file/below"), /cannot be written/],
    [state, place, /is not empty/],
    [state, state, /is not empty/],
    [state, folder, /is in the log's own folder/],
    [state, join(folder, "out"), /is in the log's own folder/],
    [unsigned, join(place, "out"), /only a signed log has tiles/],
  ];
  for (const [from, out, message] of cases)
    await assert.rejects(exportTiles(from, out), { code: "argument.invalid", message });
  assert.deepEqual(await names(), before);
  assert.equal((await exportTiles(state, join(place, "out"))).rows, 21);
});
