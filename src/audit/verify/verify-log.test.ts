// Attacks on a log, by somebody without its key and by somebody with it: verification names the first bad row. Each attack is also made
// where the defence against it is missing, which must notice nothing: the test has seen the guard taken out.
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { readCheckpoint, signCheckpoint } from "../../core/note/checkpoint.ts";
import { type NoteSigner, noteSigner } from "../../core/note/signed-note.ts";
import { AuditLog } from "../audit-log.ts";
import { encodeEnvelope, FIRST_PREVIOUS } from "../envelope.ts";
import { readLog } from "../read-log.ts";
import { emptyRow } from "../row.ts";
import type { AuditRecord } from "../segment.ts";
import { encodeRecord } from "../segment.ts";
import { evidenceOfFolder } from "../verify-folder.ts";
import type { KeptReceipt } from "./kept-words.ts";
import { type Evidence, type Verdict, verifyLog } from "./verify-log.ts";

const ORIGIN = "x.example/worker/w1";
const KEY = noteSigner(ORIGIN, Buffer.alloc(32, 1));
const NEXT_KEY = noteSigner(ORIGIN, Buffer.alloc(32, 2));
const KEYS = [KEY.verifier];
const ROWS = 600;

let root = "";
let good = "";
const receipts: KeptReceipt[] = [];

/** Appends rows; the version tells them apart. */
async function grow(folder: string, count: number, signer: NoteSigner = KEY, version = 1): Promise<void> {
  const clock = new ManualClock();
  const options = { folder, worker: "w1", clock, logger: SILENT_LOGGER, signer, segmentBytesMax: 60_000 };
  const log = await AuditLog.open(options);
  const body = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null } as const;
  for (let done = 0; done < count; done += 50) {
    const group = Array.from({ length: Math.min(50, count - done) }, (_, at) => done + at);
    const rows = await Promise.all(
      group.map(async (at) => log.append(emptyRow("w1"), { ...body, version: version * 10_000 + at })),
    );
    for (const { digest, receipt, line } of rows) {
      const { leaf } = encodeRecord(line, receipt!.envelope, 1);
      receipts.push({ row: digest, leaf: Buffer.from(digestHex(leaf), "hex"), proof: receipt!.proof });
    }
  }
  await log.close();
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-verify-"));
  good = join(root, "good");
  await grow(good, ROWS - 1);
});
after(async () => rm(root, { recursive: true }));

async function copyOf(folder: string): Promise<string> {
  const copy = await mkdtemp(join(root, "copy-"));
  await cp(folder, copy, { recursive: true });
  return copy;
}

type Change = Partial<Evidence>;

async function verdictOf(folder: string, change: Change = {}): Promise<Verdict> {
  return verifyLog({ ...(await evidenceOfFolder(folder, { keys: KEYS })), ...change });
}

async function records(folder: string): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const { record } of readLog(folder)) all.push(record);
  return all;
}

const segmentsOf = async (folder: string) => (await readdir(folder)).filter((name) => name.endsWith(".log")).sort();

/** Puts frames in place of the log's; `chained` ones get numbers, hashes and checksums as a whole log has them. */
async function rewrite(folder: string, rows: readonly AuditRecord[], how: "chained" | "as they are"): Promise<void> {
  const frames: Uint8Array[] = [];
  let previous: Digest = FIRST_PREVIOUS;
  for (const [at, { line, envelope }] of rows.entries()) {
    const own = how === "chained" ? { ...envelope, sequence: at + 1, previous } : envelope;
    const { frame, leaf } = encodeRecord(line, encodeEnvelope(own), at + 1);
    frames.push(frame);
    previous = leaf;
  }
  for (const name of await segmentsOf(folder)) await rm(join(folder, name));
  await writeFile(join(folder, "0000000000000001.log"), Buffer.concat(frames));
}

const WITHOUT_SIGNATURE: Change = { checkpoint: null, leafTile: async () => null };
const UNSIGNED = [{ row: null, problem: "the log has no checkpoint: nothing says how many rows were signed" }];

test("an unaltered log is what was signed, with its own keys, with given ones, and while rows are being written", async () => {
  for (const keys of [[], KEYS, [NEXT_KEY.verifier, ...KEYS]]) {
    const verdict = await verdictOf(good, { keys, receipts });
    const { problems, ...rest } = verdict;
    assert.deepEqual(problems, []);
    assert.deepEqual(rest, {
      rows: ROWS,
      signedRows: ROWS,
      key: KEY.verifier.text,
      tornBytes: 0,
      receipts: receipts.length,
      otherReceipts: 0,
      worthless: [],
      pruned: [],
      witnessed: [],
      witnessedRows: 0,
      prunedReceipts: [],
    });
  }
  const written = await copyOf(good);
  const last = join(written, (await segmentsOf(written)).at(-1)!);
  await writeFile(last, Buffer.concat([await readFile(last), Buffer.from("%hpcc 0000")]));
  const { problems, tornBytes } = await verdictOf(written);
  assert.deepEqual([problems, tornBytes], [[], 10]);
});

/** Changes the log's rows; what was at place k is at place k + 1 afterwards, or another row. */
const ATTACKS: Record<string, (rows: AuditRecord[], k: number) => AuditRecord[]> = {
  flip: (rows, k) =>
    rows.with(k, { ...rows[k]!, envelope: { ...rows[k]!.envelope, endMs: rows[k]!.envelope.endMs + 1 } }),
  drop: (rows, k) => rows.toSpliced(k, 1),
  reorder: (rows, k) => rows.with(k, rows[k + 1]!).with(k + 1, rows[k]!),
  insert: (rows, k) => rows.toSpliced(k, 0, rows[k - 1]!),
};
const PLACES = [1, 255, 256, 400];

describe("somebody without the key", () => {
  for (const [name, attack] of Object.entries(ATTACKS)) {
    test(`${name}: the first bad row is named, also when numbers, hashes and checksums are mended`, async () => {
      const rows = await records(good);
      for (const how of ["chained", "as they are"] as const)
        for (const k of PLACES) {
          const folder = await copyOf(good);
          await rewrite(folder, attack(rows, k), how);
          const { problems } = await verdictOf(folder);
          assert.equal(problems[0]?.row, k + 1, `${how} ${k}: ${JSON.stringify(problems)}`);
          // Without tiles the whole is known to be wrong, and without a signature nothing is.
          const unlocated = await verdictOf(folder, { leafTile: async () => null });
          assert.ok(unlocated.problems.length > 0);
          if (how === "chained") assert.deepEqual((await verdictOf(folder, WITHOUT_SIGNATURE)).problems, UNSIGNED);
        }
    });
  }

  test("a changed byte anywhere is a bad row, the one that it is in", async () => {
    const frames = (await records(good)).length;
    const folder = await copyOf(good);
    for (const segment of (await segmentsOf(folder)).slice(0, 2)) {
      const path = join(folder, segment);
      const whole = await readFile(path);
      const starts = [...whole.toString("latin1").matchAll(/%hpcc /g)].map(({ index }) => index);
      const first = Number(segment.slice(0, 16));
      for (const [nth, within] of [
        [3, 0],
        [3, 20],
        [4, 60],
        [7, 120],
        [9, 250],
      ] as const) {
        const bad = Buffer.from(whole);
        bad[starts[nth]! + within]! ^= 1;
        await writeFile(path, bad);
        const { problems } = await verdictOf(folder);
        assert.equal(problems[0]?.row, first + nth, `${segment} ${nth} ${within} of ${frames}`);
      }
      await writeFile(path, whole);
    }
    assert.deepEqual((await verdictOf(folder)).problems, []);
  });

  test("truncate: the first missing row is named; without the signature nobody knows", async () => {
    const rows = await records(good);
    for (const left of [1, 256, ROWS - 1]) {
      const folder = await copyOf(good);
      await rewrite(folder, rows.slice(0, left), "chained");
      const { problems } = await verdictOf(folder);
      assert.deepEqual([problems.length, problems[0]?.row], [1, left + 1]);
      assert.deepEqual((await verdictOf(folder, WITHOUT_SIGNATURE)).problems, UNSIGNED);
    }
    const folder = await copyOf(good);
    await rm(join(folder, (await segmentsOf(folder)).at(-1)!));
    assert.ok(((await verdictOf(folder)).problems[0]?.row ?? 0) > 256);
  });

  test("append: what comes after the signed rows is told to be unsigned, and is no problem, as a running log has such rows", async () => {
    const rows = await records(good);
    const folder = await copyOf(good);
    await rewrite(folder, [...rows, rows[7]!, rows[8]!], "chained");
    const { problems, rows: all, signedRows } = await verdictOf(folder);
    assert.deepEqual([problems, all, signedRows], [[], ROWS + 2, ROWS]);
    // Once more rows were signed than the log had then, they are other rows.
    const grown = await copyOf(good);
    const kept = receipts.length;
    await grow(grown, 2);
    receipts.splice(kept);
    const later = await readFile(join(grown, "checkpoint"), "utf8");
    assert.ok((await verdictOf(folder, { kept: [later] })).problems.length > 0);
  });

  test("another key, another log's checkpoint, none at all, and one that is changed sign nothing", async () => {
    const { size, root: hash } = readCheckpoint(await readFile(join(good, "checkpoint"), "utf8"));
    const stranger = noteSigner("y.example/worker/w1", Buffer.alloc(32, 1));
    for (const signer of [NEXT_KEY, stranger]) {
      const checkpoint = signCheckpoint({ size, root: hash }, signer);
      assert.equal((await verdictOf(good, { checkpoint })).problems.length, 1);
      assert.equal((await verdictOf(good, { checkpoint, keys: [] })).problems.length, 1);
    }
    assert.deepEqual((await verdictOf(good, { checkpoint: null })).problems, UNSIGNED);
    const changed = signCheckpoint({ size, root: hash }, KEY).replace(`\n${size}\n`, `\n${size - 1}\n`);
    assert.ok((await verdictOf(good, { checkpoint: changed })).problems.length > 0);
  });
});

describe("somebody with the key", () => {
  test("roll back: whatever was kept of the later log names the first missing row, and without it nobody knows", async () => {
    const folder = await copyOf(good);
    const old = await copyOf(folder);
    const kept = receipts.length;
    await grow(folder, 7);
    const later = await readFile(join(folder, "checkpoint"), "utf8");
    assert.deepEqual((await verdictOf(folder, { kept: [later], receipts })).problems, []);
    const own = receipts.splice(kept);
    for (const change of [{ kept: [later] }, { receipts: own.slice(-1) }]) {
      const { problems } = await verdictOf(old, change);
      assert.equal(problems[0]?.row, ROWS + 1, JSON.stringify(problems));
    }
    assert.deepEqual((await verdictOf(old)).problems, []);
  });

  test("fork: a receipt convicts the other log of the same key, and without one both pass", async () => {
    const kept = receipts.length;
    const fork = await mkdtemp(join(root, "fork-"));
    await grow(fork, ROWS - 1, KEY, 2);
    receipts.splice(kept);
    assert.deepEqual((await verdictOf(fork)).problems, []);
    const { problems } = await verdictOf(fork, { receipts: receipts.slice(41, 42) });
    assert.equal(problems[0]?.row, 43, JSON.stringify(problems));
    assert.match(problems[0]?.problem ?? "", /two logs were signed/);
    const checkpoint = await readFile(join(good, "checkpoint"), "utf8");
    const other = await verdictOf(fork, { kept: [checkpoint] });
    assert.match(other.problems[0]?.problem ?? "", /first 600 rows .* two logs were signed/);
    // The same receipt speaks for its own log.
    assert.deepEqual((await verdictOf(good, { receipts: receipts.slice(41, 42), kept: [checkpoint] })).problems, []);
  });

  test("a client's receipts of other logs say nothing of this one, whose own still do", async () => {
    const kept = receipts.length;
    const others = await mkdtemp(join(root, "others-"));
    await grow(others, 9, noteSigner("x.example/worker/w2", Buffer.alloc(32, 3)));
    const all = [...receipts];
    const elsewhere = receipts.splice(kept);
    for (const keys of [[], KEYS]) {
      const { problems, receipts: held, otherReceipts } = await verdictOf(good, { keys, receipts: all });
      assert.deepEqual([problems, held, otherReceipts], [[], kept, elsewhere.length]);
    }
    const fork = await mkdtemp(join(root, "fork-"));
    await grow(fork, ROWS - 1, KEY, 3);
    receipts.splice(kept);
    assert.equal((await verdictOf(fork, { receipts: all })).problems[0]?.row, 2);
  });

  test("an altered receipt convicts nobody", async () => {
    const [receipt] = receipts.slice(41, 42);
    const bent = { ...receipt!, leaf: Buffer.alloc(32) };
    const { problems } = await verdictOf(good, { receipts: [bent] });
    assert.deepEqual(
      problems.map(({ row, problem }) => [row, /worth nothing/.test(problem)]),
      [[null, true]],
    );
  });

  test("what another worker gave and is worth nothing is named, and says nothing of this log", async () => {
    const [receipt] = receipts.slice(41, 42);
    const bent = { ...receipt!, leaf: Buffer.alloc(32) };
    const garbage = { ...receipt!, proof: "x" };
    const [w1, w2] = [ORIGIN, "x.example/worker/w2"];
    const liar = await verdictOf(good, {
      receipts: [{ ...bent, from: w2 }, { ...garbage, from: w2 }, garbage, { ...receipt!, from: w2 }],
    });
    assert.deepEqual(liar.problems, []);
    const [first, second, third, ...more] = liar.worthless;
    assert.match(String(first), /^the receipt of sha256:\S+, which x\.example\/worker\/w2 gave, cannot be read/);
    assert.match(String(second), /^the receipt of sha256:\S+ cannot be read/);
    assert.match(String(third), /^the receipt of sha256:\S+, which x\.example\/worker\/w2 gave, is worth nothing/);
    assert.deepEqual(more, []);
    const own = await verdictOf(good, {
      receipts: [
        { ...bent, from: w1 },
        { ...garbage, from: w1 },
      ],
    });
    assert.deepEqual([own.problems.length, own.worthless], [2, []]);
    assert.ok(own.problems.every(({ problem }) => problem.includes(w1)));
  });

  test("an old key signs no checkpoint after the row that replaced it, and a new one none before", async () => {
    const kept = receipts.length;
    const folder = await copyOf(good);
    await grow(folder, 3, NEXT_KEY);
    const own = receipts.splice(kept);
    const keys = [...KEYS, NEXT_KEY.verifier];
    assert.deepEqual((await verdictOf(folder, { keys, receipts: [...receipts, ...own] })).problems, []);
    const named = await verdictOf(folder);
    assert.equal(named.problems[0]?.row, ROWS + 1, "a key that the auditor does not know");
    const { size, root: hash } = readCheckpoint(await readFile(join(folder, "checkpoint"), "utf8"));
    const checkpoint = signCheckpoint({ size, root: hash }, KEY);
    const { problems } = await verdictOf(folder, { keys, checkpoint });
    assert.match(problems[0]?.problem ?? "", new RegExp(`from row ${ROWS + 1} on was `));
    const before = readCheckpoint(await readFile(join(good, "checkpoint"), "utf8"));
    const early = signCheckpoint(before, NEXT_KEY);
    assert.equal((await verdictOf(folder, { keys, kept: [early] })).problems.length, 1);
    // Each signs what was there while it was the log's key.
    assert.deepEqual((await verdictOf(folder, { keys, kept: [signCheckpoint(before, KEY)] })).problems, []);
  });
});
