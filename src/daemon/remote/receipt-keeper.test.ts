// Receipts of results: kept in order, bounded, and never in the way of a call.
import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SILENT_LOGGER } from "../../base/log.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { ReceiptKeeper } from "./receipt-keeper.ts";

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-receipts-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const digest = (i: number): Digest => sha256(Buffer.from(String(i)));
const result = (i: number) => ({
  rowDigest: digest(i),
  receipt: { leaf: digest(-i), proof: `proof ${i}\n`, from: i % 2 === 0 ? "x/worker/w1" : null },
});
const lines = async (folder: string, name: string) =>
  (await readFile(join(folder, "receipts", name), "utf8"))
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as { row: string; leaf: string; proof: string; from?: string });

test("are kept in order, for their user alone, over restarts, in two files of one size", async () =>
  withFolder(async (folder) => {
    for (const from of [0, 40]) {
      const keeper = new ReceiptKeeper({ folder, logger: SILENT_LOGGER, fileBytesMax: 4000 });
      for (let i = from; i < from + 40; i++) {
        keeper.keep(result(i));
        if (i % 7 === 0) await keeper.settled();
      }
      keeper.keep({ rowDigest: digest(0), receipt: null });
      await keeper.settled();
    }
    assert.deepEqual((await readdir(join(folder, "receipts"))).sort(), ["current.jsonl", "previous.jsonl"]);
    const kept = [...(await lines(folder, "previous.jsonl")), ...(await lines(folder, "current.jsonl"))];
    const newest = Array.from({ length: kept.length }, (_, i) => 80 - kept.length + i);
    assert.ok(kept.length > 15, `${kept.length}`);
    assert.deepEqual(
      kept,
      newest.map((i) => ({
        row: digest(i),
        leaf: digest(-i),
        proof: `proof ${i}\n`,
        ...(i % 2 === 0 && { from: "x/worker/w1" }),
      })),
    );
    for (const name of ["current.jsonl", "previous.jsonl"]) {
      const { size, mode } = await stat(join(folder, "receipts", name));
      assert.ok(size <= 4000 && (mode & 0o077) === 0, name);
    }
  }));

test("a line that a kill or a full disk has broken off does not spoil the next one", async () =>
  withFolder(async (folder) => {
    const kept = async (i: number) => {
      const keeper = new ReceiptKeeper({ folder, logger: SILENT_LOGGER });
      keeper.keep(result(i));
      await keeper.settled();
    };
    await kept(1);
    await appendFile(join(folder, "receipts", "current.jsonl"), '{"row":"sha2');
    await kept(2);
    const rows = (await lines(folder, "current.jsonl")).map(({ row }) => row);
    assert.deepEqual(rows, [digest(1), digest(2)]);
  }));

test("that cannot be written are dropped with a word in the log, and later ones are kept", async () =>
  withFolder(async (folder) => {
    const events: string[] = [];
    const logger = { ...SILENT_LOGGER, warn: (event: string) => void events.push(event) };
    await writeFile(join(folder, "receipts"), "in the way");
    const keeper = new ReceiptKeeper({ folder, logger });
    keeper.keep(result(1));
    await keeper.settled();
    assert.deepEqual(events, ["receipts.not_kept"]);
    await rm(join(folder, "receipts"));
    keeper.keep(result(2));
    await keeper.settled();
    assert.equal((await lines(folder, "current.jsonl")).length, 1);
  }));
