// One row of a log, by its number and by its digest: what is read for it, and what its name may be.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { digestHex } from "../core/digest/digest.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { type AppendedRow, AuditLog } from "./audit-log.ts";
import { encodeBody, placedEnvelope } from "./envelope.ts";
import { findRow } from "./find-row.ts";
import { AuditIndex } from "./index/audit-index.ts";
import { proveRow } from "./prove-row.ts";
import { listSegments } from "./read-log.ts";
import { emptyRow, encodeRow } from "./row.ts";
import { encodeRecord, segmentName, segmentSequence } from "./segment.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const ROWS = 400;
const GROUP = 10;
const BODY = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null } as const;
const rowOf = (at: number) => ({ ...emptyRow("w1"), durationUs: at });

let root: string;
let folder: string;
let rows: AppendedRow[];

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-find-row-"));
  folder = join(root, "audit");
  const log = await AuditLog.open({
    folder,
    worker: "w1",
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    signer: SIGNER,
    segmentBytesMax: 4096,
  });
  rows = [];
  const append = (at: number) => log.append(rowOf(at), { ...BODY, version: at });
  for (let at = 0; at < ROWS; at += GROUP)
    rows.push(...(await Promise.all(Array.from({ length: GROUP }, async (_, next) => append(at + next)))));
  await log.close();
});

after(async () => {
  await rm(root, { recursive: true, force: true });
});

async function indexed(): Promise<void> {
  const index = await AuditIndex.open({ folder, readManifest: async () => null, keep: true, warn: assert.fail });
  await index.catchUp();
  await index.close();
}

/** Runs it with all segments but a row's own, and but the last one, overwritten. */
async function withoutOthers(row: AppendedRow, run: () => Promise<void>): Promise<void> {
  const segments = await listSegments(folder);
  const own = segments.findLast((name) => segmentSequence(name)! <= row.sequence)!;
  const others = segments.slice(0, -1).filter((name) => name !== own);
  assert.ok(others.length > 10 && own !== segments.at(-1), "the row is one of many segments");
  const bytes = await Promise.all(others.map(async (name) => readFile(join(folder, name))));
  try {
    for (const name of others) await writeFile(join(folder, name), "no row\n");
    await run();
  } finally {
    for (const [at, name] of others.entries()) await writeFile(join(folder, name), bytes[at]!);
  }
}

describe("a row is proven", () => {
  test("by its number from its own segment alone", async () => {
    for (const row of [rows[0]!, rows[ROWS / 2]!]) {
      await withoutOthers(row, async () => {
        const proven = await proveRow(folder, String(row.sequence));
        assert.deepEqual([proven.sequence, proven.digest], [row.sequence, row.digest]);
      });
    }
    for (const row of rows) assert.equal((await proveRow(folder, String(row.sequence))).digest, row.digest);
  });

  test("by its digest from the index and its own segment", async () => {
    await indexed();
    const row = rows[ROWS / 2]!;
    await withoutOthers(row, async () => {
      assert.equal((await proveRow(folder, row.digest)).sequence, row.sequence);
      assert.equal((await proveRow(folder, digestHex(row.digest).slice(0, 12))).sequence, row.sequence);
    });
    await rm(join(folder, "index"), { recursive: true });
  });

  test("by its digest where the index is behind, lost, damaged or silent", async () => {
    const found = async () => {
      for (const row of [rows[0]!, rows[ROWS / 2]!, rows.at(-1)!])
        assert.equal((await proveRow(folder, row.digest)).sequence, row.sequence);
      await assert.rejects(proveRow(folder, "0".repeat(64)), { code: "hash.unknown" });
    };
    await found();
    await indexed();
    await found();
    const state = join(folder, "index", "state");
    const [good, runs] = [await readFile(state), await readdir(join(folder, "index"))];
    for (const name of runs.filter((run) => run.endsWith(".run"))) {
      const path = join(folder, "index", name);
      const bytes = await readFile(path);
      await writeFile(
        path,
        bytes.map((byte) => byte ^ 1),
      );
      await found();
      await writeFile(path, bytes);
    }
    await writeFile(state, good.subarray(1));
    await found();
    await rm(join(folder, "index"), { recursive: true });
  });

  test("unless it is another one than was signed", async () => {
    const segment = (await listSegments(folder))[3]!;
    const path = join(folder, segment);
    const sequence = segmentSequence(segment)!;
    const good = await readFile(path);
    const envelope = placedEnvelope(encodeBody({ ...BODY, version: 7777 }), { sequence, previous: rows[0]!.digest });
    await writeFile(path, encodeRecord(encodeRow(rowOf(0)), envelope, sequence).frame);
    await assert.rejects(proveRow(folder, String(sequence)), {
      code: "audit.corrupt",
      message: /not the one that was/,
    });
    await rm(join(folder, "key"));
    await assert.rejects(proveRow(folder, String(sequence)), { code: "audit.corrupt" }, "without the log's key, too");
    await writeFile(path, good);
  });
});

describe("digits alone", () => {
  const FIRST = 12_345_670;

  test("are a row's number in a log that has so many rows, and begin a digest after `sha256:`", async () => {
    const large = join(root, "large");
    await mkdir(large);
    const frames = Array.from({ length: 20 }, (_, at) => {
      const place = { sequence: FIRST + at, previous: rows[0]!.digest };
      return encodeRecord(encodeRow(rowOf(at)), placedEnvelope(encodeBody({ ...BODY, version: at }), place), FIRST)
        .frame;
    });
    await writeFile(join(large, segmentName(FIRST)), Buffer.concat(frames));
    const found = await findRow(large, "12345678", 20_000_000);
    assert.equal(found.envelope.sequence, 12_345_678);
    await assert.rejects(findRow(large, "sha256:12345678", 20_000_000), { code: "hash.unknown" });
  });

  test("begin a digest in a log that has fewer rows", async () => {
    const row = rows.find(({ digest }) => /^[1-9][0-9]{7}/.test(digestHex(digest)));
    assert.ok(row !== undefined, "one of the rows has such a digest");
    assert.equal((await proveRow(folder, digestHex(row.digest).slice(0, 8))).sequence, row.sequence);
    await assert.rejects(proveRow(folder, String(ROWS + 2)), { code: "hash.unknown" });
    await assert.rejects(proveRow(folder, "1234567z"), { code: "argument.invalid" });
  });
});
