// Every write, sync and replacement of a log's files fails once: whatever was acknowledged is there once, its receipt holds, and the log
// opens again and is what was signed.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { digestHex } from "../core/digest/digest.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { type AppendedRow, AuditLog, LOG_DISK, type LogDisk } from "./audit-log.ts";
import { TREE_DISK, type TreeDisk } from "./log-tree.ts";
import { emptyRow } from "./row.ts";
import { encodeRecord } from "./segment.ts";
import { verifyLog } from "./verify/verify-log.ts";
import { evidenceOfFolder } from "./verify-folder.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const BODY = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null } as const;

/** What goes wrong: before anything was done, in the middle of it, or when it was done. */
const FAULTS = ["nothing is done", "half is done", "all is done"] as const;
type Fault = (typeof FAULTS)[number];

/** Operations of a start with three groups of rows, at least. */
const OPERATIONS_MIN = 12;

const failure = () => Object.assign(new Error("i/o error"), { code: "EIO" });

/** Disks whose nth operation fails once. */
function faulty(nth: number, fault: Fault): { disk: LogDisk; treeDisk: TreeDisk; seen: () => number } {
  let count = 0;
  const due = () => count++ === nth;
  const disk: LogDisk = {
    async write(handle, bytes, position) {
      if (!due()) return LOG_DISK.write(handle, bytes, position);
      const part = { "nothing is done": 0, "half is done": bytes.length >> 1, "all is done": bytes.length }[fault];
      await LOG_DISK.write(handle, bytes.subarray(0, part), position);
      throw failure();
    },
    async sync(handle) {
      if (!due()) return LOG_DISK.sync(handle);
      if (fault === "all is done") await LOG_DISK.sync(handle);
      throw failure();
    },
  };
  const treeDisk: TreeDisk = {
    async replace(path, bytes, durable) {
      if (!due()) return TREE_DISK.replace(path, bytes, durable);
      if (fault === "half is done")
        await writeFile(path, Buffer.from(bytes).subarray(0, bytes.length >> 1)).catch(() => {});
      if (fault === "all is done") await TREE_DISK.replace(path, bytes, durable);
      throw failure();
    },
  };
  return { disk, treeDisk, seen: () => count };
}

/** Three starts with some rows each, of which the disk of the second fails; gives what was acknowledged. */
async function run(folder: string, nth: number, fault: Fault): Promise<{ rows: AppendedRow[]; operations: number }> {
  const rows: AppendedRow[] = [];
  let version = 0;
  const faults = faulty(nth, fault);
  for (const disks of [{}, { disk: faults.disk, treeDisk: faults.treeDisk }, {}]) {
    const options = { folder, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer: SIGNER };
    const log = await AuditLog.open({ ...options, segmentBytesMax: 20_000, ...disks });
    for (const count of [1, 130, 2]) {
      const group = Array.from({ length: count }, async () =>
        log.append(emptyRow("w1"), { ...BODY, version: version++ }),
      );
      for (const end of await Promise.allSettled(group)) if (end.status === "fulfilled") rows.push(end.value);
    }
    await log.close();
  }
  return { rows, operations: faults.seen() };
}

for (const fault of FAULTS)
  describe(`an operation of the disk fails once, and ${fault}`, () => {
    test("each acknowledged row is there once with a valid receipt, and the log is what was signed", async () => {
      for (let nth = 0; nth < OPERATIONS_MIN; nth++) {
        const folder = await mkdtemp(join(tmpdir(), "hpcc-faults-"));
        const ran = await run(folder, nth, fault);
        assert.ok(ran.operations > nth, `operation ${nth} is there`);
        const receipts = ran.rows.map(({ line, digest, receipt }) => {
          const { leaf } = encodeRecord(line, receipt!.envelope, 1);
          return { row: digest, leaf: Buffer.from(digestHex(leaf), "hex"), proof: receipt!.proof };
        });
        const verdict = await verifyLog(await evidenceOfFolder(folder, { keys: [SIGNER.verifier], receipts }));
        assert.deepEqual(verdict.problems, [], `operation ${nth}`);
        assert.equal(verdict.signedRows, verdict.rows);
        assert.equal(new Set(ran.rows.map(({ sequence }) => sequence)).size, ran.rows.length);
        assert.ok(ran.rows.length >= 133 * 2, `${ran.rows.length} rows`);
        await rm(folder, { recursive: true });
      }
    });
  });
