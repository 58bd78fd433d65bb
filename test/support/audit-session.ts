// The life of a worker's log in short: starts with rows, a torn end, another key, a tile and a segment that become full, and a client
// that keeps the receipts. Its operations on files come in the same order each time.
import { appendFileSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AuditLog } from "../../src/audit/audit-log.ts";
import { makeLogKey, readOrMakeLogSigner } from "../../src/audit/log-key-file.ts";
import { listSegments } from "../../src/audit/read-log.ts";
import { emptyRow } from "../../src/audit/row.ts";
import { encodeRecord } from "../../src/audit/segment.ts";
import { ManualClock } from "../../src/base/clock.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { ReceiptKeeper } from "../../src/daemon/remote/receipt-keeper.ts";

/** What a client was told. */
export interface Told {
  /** Tells its row from all others. */
  readonly version: number;
  readonly sequence: number;
  readonly row: Digest;
  readonly leaf: Digest;
  readonly proof: string;
}

export interface SessionOptions {
  /** The worker's state folder, the client's below it. */
  readonly folder: string;
  readonly tell: (told: Told) => void;
  /** An error that a caller sees; the process goes on. */
  readonly refused: (error: unknown) => void;
  /** The log's last segment has been torn. */
  readonly torn?: (segment: string) => void;
}

const NAME = "x.example/worker/w1";
/** The older log's rows; a few more fill a tile, a segment and a file of receipts. */
const OLD_ROWS = 252;
const SEGMENT_BYTES_MAX = 73_000;
const RECEIPTS_BYTES_MAX = 1_000;
export const TORN = "%hpcc 00000123 0000";

export const auditFolder = (folder: string) => join(folder, "audit");

export async function openSessionLog(folder: string): Promise<AuditLog> {
  const options = { folder: auditFolder(folder), worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER };
  const signer = await readOrMakeLogSigner(folder, NAME);
  return AuditLog.open({ ...options, signer, segmentBytesMax: SEGMENT_BYTES_MAX });
}

/** What a crash leaves; not one of the operations that are counted. */
function tear({ folder, torn }: SessionOptions): void {
  const last = readdirSync(auditFolder(folder))
    .filter((name) => name.endsWith(".log"))
    .sort()
    .at(-1);
  if (last === undefined) return;
  appendFileSync(join(auditFolder(folder), last), TORN);
  torn?.(join(auditFolder(folder), last));
}

/** A log that has rows already. */
export async function makeOldLog(folder: string): Promise<void> {
  const options = { folder, tell: () => undefined, refused: throwIt };
  let version = 10_000;
  await oneStart(options, [OLD_ROWS], () => version++);
  // Signatures take time, and each check would check all of these again.
  rmSync(join(folder, "client"), { recursive: true });
}

function throwIt(error: unknown): void {
  throw error;
}

/** Two starts of a new log, the second with a torn end; or one of a log with rows, with a torn end and another key. */
export async function runAuditSession(options: SessionOptions): Promise<void> {
  const { folder } = options;
  let version = 0;
  const start = async (groups: readonly number[]) => {
    const run = async () => oneStart(options, groups, () => version++);
    // What fails once works the next time.
    if (!(await attempt(run, options))) await attempt(run, options);
  };
  if ((await listSegments(auditFolder(folder))).length === 0) {
    await start([1, 2]);
    tear(options);
    await start([1]);
  } else {
    tear(options);
    await attempt(async () => makeLogKey(folder, NAME), options);
    await start([1, 6, 1]);
  }
}

async function attempt(run: () => Promise<unknown>, { refused }: SessionOptions): Promise<boolean> {
  try {
    await run();
    return true;
  } catch (error) {
    refused(error);
    return false;
  }
}

async function oneStart(options: SessionOptions, groups: readonly number[], next: () => number): Promise<void> {
  const { folder, tell, refused } = options;
  const log = await openSessionLog(folder);
  const client = join(folder, "client");
  const keeper = new ReceiptKeeper({ folder: client, logger: SILENT_LOGGER, fileBytesMax: RECEIPTS_BYTES_MAX });
  try {
    for (const count of groups) {
      const versions = Array.from({ length: count }, next);
      const ends = await Promise.allSettled(
        versions.map(async (version) =>
          log.append(emptyRow("w1"), {
            kind: "policy",
            event: "in-force",
            startMs: 0,
            endMs: 0,
            digest: null,
            version,
          }),
        ),
      );
      for (const [at, end] of ends.entries()) {
        if (end.status === "rejected") {
          refused(end.reason);
          continue;
        }
        const { line, digest, sequence, receipt } = end.value;
        const { leaf } = encodeRecord(line, receipt!.envelope, 1);
        tell({ version: versions[at]!, sequence, row: digest, leaf, proof: receipt!.proof });
        keeper.keep({ rowDigest: digest, receipt: { leaf, proof: receipt!.proof, from: NAME } });
      }
      await keeper.settled();
    }
  } finally {
    await log.close();
  }
}
