// What a start finds at the end of a log, after starts and syncs that failed.
import assert from "node:assert/strict";
import { appendFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Interfere, withFaultyFiles } from "../../test/support/faulty-files.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { AuditLog, type AuditLogOptions } from "./audit-log.ts";
import { LOG_DISK } from "./log-disk.ts";
import { readLog } from "./read-log.ts";
import { emptyRow } from "./row.ts";
import type { EnvelopeBody } from "./rows/bodies.ts";
import { verifyLog } from "./verify/verify-log.ts";
import { evidenceOfFolder } from "./verify-folder.ts";

const FIRST = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const SECOND = noteSigner("x.example/worker/w1", Buffer.alloc(32, 2));
const THIRD = noteSigner("x.example/worker/w1", Buffer.alloc(32, 3));
const BODY: EnvelopeBody = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version: 1 };
const TORN = "%hpcc 0000";

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-end-"));
  try {
    await run(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const open = async (folder: string, options: Partial<AuditLogOptions> = {}) =>
  AuditLog.open({
    folder,
    worker: "w1",
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    signer: FIRST,
    ...options,
  });

async function append(folder: string, count: number, options: Partial<AuditLogOptions> = {}): Promise<void> {
  const log = await open(folder, options);
  for (let i = 0; i < count; i++) await log.append(emptyRow("w1"), BODY);
  await log.close();
}

/** The log's rows in short. */
async function kinds(folder: string): Promise<string[]> {
  const all: string[] = [];
  for await (const { record } of readLog(folder)) {
    const { envelope } = record;
    all.push(envelope.kind === "log" ? envelope.event : "row");
  }
  return all;
}

async function problems(folder: string): Promise<unknown> {
  const keys = [FIRST, SECOND, THIRD].map(({ verifier }) => verifier);
  return (await verifyLog(await evidenceOfFolder(folder, { keys }))).problems;
}

const failing = (wanted: (what: string, path: string) => boolean, events: string[] = []): Interfere => {
  let failed = false;
  return async ({ what, path }, { all }) => {
    if (failed || !wanted(what, path)) return all();
    failed = true;
    events.push(what);
    throw Object.assign(new Error("i/o error"), { code: "EIO" });
  };
};

describe("a new segment", () => {
  test("whose folder cannot be synced ends the log, and the next start goes on with it", async () =>
    withFolder(async (folder) => {
      const log = await open(folder, { segmentBytesMax: 1 });
      const events: string[] = [];
      const folderSync = failing((what, path) => what.startsWith("sync") && path === folder, events);
      await withFaultyFiles(folder, folderSync, async () => {
        await assert.rejects(log.append(emptyRow("w1"), BODY), { code: "audit.io", message: /folder/ });
      });
      assert.equal(events.length, 1);
      assert.equal(log.failure?.code, "audit.io", "the log takes nothing more");
      await assert.rejects(log.append(emptyRow("w1"), BODY), { code: "audit.io", message: /folder/ });
      await log.close();
      await append(folder, 2, { segmentBytesMax: 1 });
      assert.deepEqual(await kinds(folder), ["key", "row", "row"]);
    }));

  test("that was made and told to be not is taken by the next row; one with bytes of its own is not", async () =>
    withFolder(async (folder) => {
      const log = await open(folder, { segmentBytesMax: 1 });
      const second = join(folder, "0000000000000002.log");
      writeFileSync(second, "");
      await log.append(emptyRow("w1"), BODY);
      writeFileSync(join(folder, "0000000000000003.log"), "x");
      await assert.rejects(log.append(emptyRow("w1"), BODY), { code: "audit.io" });
      assert.equal(await readFile(join(folder, "0000000000000003.log"), "utf8"), "x");
      await rm(join(folder, "0000000000000003.log"));
      await log.append(emptyRow("w1"), BODY);
      await log.close();
      assert.deepEqual(await kinds(folder), ["key", "row", "row"]);
    }));
});

describe("a torn end and another key", () => {
  test("are recorded with the key first: nothing is signed with a key that no row names", async () =>
    withFolder(async (folder) => {
      await append(folder, 2);
      const [segment] = (await readdir(folder)).filter((name) => name.endsWith(".log"));
      appendFileSync(join(folder, segment!), TORN);
      await append(folder, 1, { signer: SECOND });
      assert.deepEqual(await kinds(folder), ["key", "row", "row", "key", "torn", "row"]);
      assert.deepEqual(await problems(folder), []);
    }));

  test("of a log whose first group was torn, too", async () =>
    withFolder(async (folder) => {
      writeFileSync(join(folder, "0000000000000001.log"), TORN);
      await append(folder, 1);
      assert.deepEqual(await kinds(folder), ["key", "torn", "row"]);
      assert.deepEqual(await problems(folder), []);
    }));

  test("that a start could not record leave no checkpoint behind, also later", async () =>
    withFolder(async (folder) => {
      await append(folder, 1);
      const [segment] = (await readdir(folder)).filter((name) => name.endsWith(".log"));
      appendFileSync(join(folder, segment!), TORN);
      const clock = new ManualClock();
      const disk = {
        ...LOG_DISK,
        write: async () => Promise.reject(Object.assign(new Error("no space"), { code: "ENOSPC" })),
      };
      await assert.rejects(open(folder, { signer: SECOND, clock, disk }), { code: "audit.io" });
      assert.equal(clock.pendingTimers, 0);
      await append(folder, 1, { signer: SECOND });
      assert.deepEqual(await kinds(folder), ["key", "row", "key", "torn", "row"]);
    }));

  test("are said once each, however far the start before came", async () =>
    withFolder(async (folder) => {
      await append(folder, 1);
      const path = join(folder, "0000000000000001.log");
      appendFileSync(path, TORN);
      const checkpoint = await readFile(join(folder, "checkpoint"));
      await append(folder, 0, { signer: SECOND });
      // Of the group that a start writes, the row of the key came to the disk and the one of the torn end did not.
      const bytes = await readFile(path);
      await writeFile(path, bytes.subarray(0, bytes.lastIndexOf("%hpcc ")));
      await writeFile(join(folder, "checkpoint"), checkpoint);
      await rm(join(folder, "tile"), { recursive: true });
      await writeFile(join(folder, "key"), `${FIRST.verifier.text}\n`);
      await append(folder, 1, { signer: SECOND });
      assert.deepEqual(await kinds(folder), ["key", "row", "key", "torn", "row"]);
      assert.equal(await readFile(join(folder, "key"), "utf8"), `${SECOND.verifier.text}\n`);
      assert.deepEqual(await problems(folder), []);
    }));

  test("name the key that a row says where its file could not be written", async () =>
    withFolder(async (folder) => {
      await append(folder, 1);
      const keyFile = failing((what) => what.startsWith("rename key"));
      await withFaultyFiles(folder, keyFile, async () => {
        await assert.rejects(open(folder, { signer: SECOND }), { code: "audit.io", message: /key/ });
      });
      await append(folder, 1, { signer: THIRD });
      assert.deepEqual(await kinds(folder), ["key", "row", "key", "key", "row"]);
      assert.deepEqual(await problems(folder), []);
    }));
});

test("the group that may never have come to the disk is written again before rows are put after it", async () =>
  withFolder(async (folder) => {
    await append(folder, 1);
    const log = await open(folder, { disk: { ...LOG_DISK, sync: async () => Promise.reject(new Error("i/o error")) } });
    const both = await Promise.allSettled([1, 2].map(async () => log.append(emptyRow("w1"), BODY)));
    assert.ok(both.every(({ status }) => status === "rejected"));
    await log.close();
    const path = join(folder, "0000000000000001.log");
    const bytes = await readFile(path);
    const group = [...bytes.toString("latin1").matchAll(/%hpcc /g)][2]!.index;
    const done: string[] = [];
    const disk = {
      write: async (handle: never, part: Uint8Array, position: number) => {
        done.push(`write ${position} ${part.length}`);
        await LOG_DISK.write(handle, part, position);
      },
      sync: async (handle: never) => LOG_DISK.sync(handle),
    };
    await (await open(folder, { disk })).close();
    assert.deepEqual(done, [`write ${group} ${bytes.length - group}`]);
    assert.deepEqual(await readFile(path), bytes);
  }));
