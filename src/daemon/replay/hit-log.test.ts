import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { type Digest, digestHex, sha256 } from "../../core/digest/digest.ts";
import { encodeReplayRecord, type ReplayRecord } from "../../wire/launcher/replay-record.ts";
import { FolderNamesCache } from "../inputs/folder-names.ts";
import type { ReplayUse } from "./hit-log.ts";
import { HitLog } from "./hit-log.ts";
import { RecordPruner } from "./record-pruner.ts";
import { recordPath } from "./replay-places.ts";
import { lastReplays, removeReplays } from "./replay-upkeep.ts";
import { Replays } from "./replays.ts";

const NAME = sha256(Buffer.from("name"));
const GONE = sha256(Buffer.from("gone"));
const CALL = sha256(Buffer.from("call"));
const FILE = sha256(Buffer.from("file"));
const STAMP = { dev: 1n, ino: 2n, size: 3n, mtimeNs: 4n, ctimeNs: 5n, mode: 0o100644n };

class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hpcc-hits-"));
  readonly log = join(this.path, "hits.log");

  record(name: Digest, more: Partial<ReplayRecord> = {}): string {
    const path = recordPath(this.path, name);
    mkdirSync(dirname(path), { recursive: true });
    const record: ReplayRecord = {
      name,
      recordedMs: 1,
      stamps: [],
      absent: [],
      places: [],
      outputs: [
        {
          destination: ascii("a.o"),
          kept: { path: ascii("/k"), stamp: STAMP },
          executable: false,
          manner: "assembler",
          digest: FILE,
        },
      ],
      stdout: Buffer.alloc(0),
      stderr: Buffer.alloc(0),
      project: ascii("/p"),
      source: ascii("/p/a.c"),
      output: ascii("/p/a.o"),
      call: CALL,
      ...more,
    };
    writeFileSync(path, encodeReplayRecord(record));
    return path;
  }

  hit(name: Digest, ms: number, us = 5): void {
    appendFileSync(this.log, `${ms}\t${digestHex(name)}\t${us}\n`);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

const USE: ReplayUse = {
  record: NAME,
  count: 2,
  lastMs: 1_700_000_002_000,
  totalUs: 12,
  call: CALL,
  project: ascii("/p"),
  source: ascii("/p/a.c"),
  output: ascii("/p/a.o"),
  files: [FILE],
};

test("replays are told once, with what their record says, and their record counts as used", async () => {
  using folder = new Folder();
  const path = folder.record(NAME);
  folder.hit(NAME, 1_700_000_002_000, 5);
  folder.hit(NAME, 1_700_000_001_000, 7);
  folder.hit(GONE, 1_700_000_000_000);
  const log = new HitLog(folder.path, SILENT_LOGGER);
  assert.deepEqual(await log.take(), { hits: 3, uses: [USE] });
  assert.equal(statSync(path).mtimeMs, 1_700_000_002_000);
  assert.deepEqual(await log.take(), { hits: 0, uses: [] });
  assert.deepEqual(
    readdirSync(folder.path).filter((name) => name.endsWith(".log")),
    [],
  );
});

test("a line that comes when the log was taken is told the next time, and one that is no line never", async () => {
  using folder = new Folder();
  folder.record(NAME);
  const log = new HitLog(folder.path, SILENT_LOGGER);
  folder.hit(NAME, 1_700_000_001_000, 7);
  appendFileSync(folder.log, `rubbish\n12\tzz\t3\n\n1\t${digestHex(NAME)}\n-1\t${digestHex(NAME)}\t1\n17000`);
  assert.equal((await log.take()).hits, 1);
  const [taken] = readdirSync(folder.path).filter((name) => name.endsWith(".log"));
  appendFileSync(join(folder.path, taken!), `00002000\t${digestHex(NAME)}\t5\n`);
  const { hits, uses } = await log.take();
  assert.equal(hits, 1);
  assert.equal(uses[0]!.lastMs, 1_700_000_002_000);
});

test("what an ended daemon took and did not remove is told by the next one", async () => {
  using folder = new Folder();
  folder.record(NAME);
  folder.hit(NAME, 1_700_000_001_000);
  await new HitLog(folder.path, SILENT_LOGGER).take();
  const next = new HitLog(folder.path, SILENT_LOGGER);
  assert.equal((await next.take()).hits, 1);
  assert.equal((await next.take()).hits, 0);
});

test("replays count in the store at start, each minute and when asked, and a log that is a folder costs nothing else", async () => {
  using folder = new Folder();
  folder.record(NAME);
  folder.hit(NAME, 1_700_000_001_000);
  const clock = new ManualClock();
  const read: Digest[] = [];
  const told: number[] = [];
  const replays = new Replays({
    folder: folder.path,
    names: new FolderNamesCache(clock),
    clock,
    logger: SILENT_LOGGER,
    configurationFiles: [],
    program: null,
    bytesMax: 10 ** 9,
    store: {
      find: async () => null,
      readRecord: async (key) => {
        read.push(key);
        return null;
      },
    },
    replayed: (hits) => told.push(hits),
  });
  clock.advance(0);
  await replays.refresh();
  assert.deepEqual([read, told], [[CALL], [1]]);
  folder.hit(NAME, 1_700_000_002_000);
  folder.hit(NAME, 1_700_000_002_000);
  clock.advance(60_000);
  await replays.refresh();
  assert.deepEqual(
    [read, told],
    [
      [CALL, CALL],
      [1, 2],
    ],
  );
  mkdirSync(folder.log);
  await replays.refresh();
  folder.hit(NAME, 1_700_000_003_000);
  await replays.close();
  assert.equal(clock.pendingTimers, 0);
  assert.deepEqual(told, [1, 2, 1]);
});

test("the records that were not used for longest are removed, and what a killed writer left", async () => {
  using folder = new Folder();
  const digest = (index: number) => sha256(Buffer.from(String(index)));
  const clock = new ManualClock(Date.now());
  const pruner = new RecordPruner({ folder: folder.path, clock, recordsMax: 20, bytesMax: 10 ** 9 });
  const log = new HitLog(folder.path, SILENT_LOGGER);
  for (let index = 0; index < 20; index++) {
    const path = folder.record(digest(index));
    // As if recorded one second after another, all some time ago.
    folder.hit(digest(index), 1_600_000_000_000 + index * 1_000);
    await pruner.wrote(statSync(path).size);
  }
  await log.take();
  folder.hit(digest(0), 1_600_000_100_000);
  await log.take();
  const leftover = `${recordPath(folder.path, digest(0))}.${randomUUID()}.tmp`;
  const foreign = join(dirname(leftover), "thesis.txt");
  for (const path of [leftover, foreign]) writeFileSync(path, "");
  utimesSync(foreign, 1, 1);
  clock.advance(7_200_000);
  await pruner.wrote(statSync(folder.record(digest(20))).size);
  const left = new Set(readdirSync(folder.path, { recursive: true }).map((name) => String(name).slice(-64)));
  const isLeft = (index: number) => left.has(digestHex(digest(index)));
  assert.deepEqual(
    Array.from({ length: 21 }, (_, index) => index).filter((index) => !isLeft(index)),
    [1, 2, 3],
  );
  assert.deepEqual([existsSync(leftover), existsSync(foreign)], [false, true]);
});

test("last replays are read and stay to be counted", async () => {
  using folder = new Folder();
  folder.record(NAME);
  folder.hit(NAME, 1_700_000_001_000);
  const log = new HitLog(folder.path, SILENT_LOGGER);
  // A daemon that ended left a log that it had taken.
  await log.take();
  folder.hit(NAME, 1_700_000_003_000);
  folder.hit(NAME, 1_700_000_002_000);
  folder.hit(GONE, 1_700_000_009_000);
  assert.deepEqual(await lastReplays(folder.path), new Map([[CALL, 1_700_000_003_000]]));
  assert.equal((await log.take()).hits, 3);
  assert.deepEqual(await lastReplays(join(folder.path, "none")), new Map());
});

test("what launchers answer from is removed, and nothing else", async () => {
  using folder = new Folder();
  const record = folder.record(NAME);
  folder.hit(NAME, 1);
  const shard = dirname(folder.record(GONE));
  const foreign = [join(folder.path, "notes"), join(shard, "thesis.txt"), join(folder.path, "hits.log.old")];
  for (const path of foreign) writeFileSync(path, "mine");
  await removeReplays(folder.path);
  const left = [...foreign, record, folder.log, dirname(record), shard].map((path) => existsSync(path));
  assert.deepEqual(left, [true, true, true, false, false, false, true]);
});

test("records are held below their bytes, too", async () => {
  using folder = new Folder();
  const clock = new ManualClock(Date.now());
  const pruner = new RecordPruner({ folder: folder.path, clock, recordsMax: 1_000, bytesMax: 200_000 });
  let largest = 0;
  for (let index = 0; index < 60; index++) {
    const path = folder.record(sha256(Buffer.from(String(index))), { stdout: Buffer.alloc(10_000) });
    await pruner.wrote(statSync(path).size);
    const files = readdirSync(folder.path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    largest = Math.max(largest, files.length);
  }
  assert.ok(largest >= 10 && largest <= 20, String(largest));
});
