// Every operation on the files of a log, its key, its tiles and a client's receipts fails once, in each way, is the last one of a process
// that is killed, or of a machine that loses its power. Afterwards: each row that somebody was told of is there once and its receipt
// holds, the log is what was signed, and each torn end is kept and named by one row.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { cp, type FileHandle, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import {
  auditFolder,
  makeOldLog,
  openSessionLog,
  runAuditSession,
  type Told,
} from "../../test/support/audit-session.ts";
import { type FileOperation, type Interfere, withFaultyFiles } from "../../test/support/faulty-files.ts";
import { HpccError } from "../base/errors.ts";
import { digestHex } from "../core/digest/digest.ts";
import { listSegments, readLog } from "./read-log.ts";
import { type AuditRecord, decodeFrame } from "./segment.ts";
import { verifyLog } from "./verify/verify-log.ts";
import { evidenceOfFolder, readReceipts } from "./verify-folder.ts";

/** All that a session does, at least; fewer means that it is not seen. */
const OPERATIONS_MIN = 60;

let root = "";
let oldLog = "";
before(async () => {
  // In memory where it can be: each operation has a session of its own, with all its syncs.
  root = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "hpcc-faults-"));
  oldLog = join(root, "old");
  await makeOldLog(oldLog);
});
after(async () => rm(root, { recursive: true, force: true }));

/** The bytes at the log's end that are no row. */
async function tornBytes(folder: string): Promise<Buffer> {
  const last = (await listSegments(folder)).at(-1);
  if (last === undefined) return Buffer.alloc(0);
  const bytes = await readFile(join(folder, last));
  let end = 0;
  for (let frame = decodeFrame(bytes, 0); frame !== null; frame = decodeFrame(bytes, end)) end = frame.end;
  return bytes.subarray(end);
}

const asideOf = async (folder: string) => (await readdir(folder)).filter((name) => name.includes(".torn-"));

/** Starts the log again, with all that may fail working, and holds it against what was told. */
async function check(folder: string, told: readonly Told[], what: string): Promise<void> {
  const log = auditFolder(folder);
  const torn = await tornBytes(log);
  await (await openSessionLog(folder)).close();
  const records: AuditRecord[] = [];
  for await (const { record } of readLog(log)) records.push(record);
  for (const { version, sequence, leaf } of told) {
    const rows = records.filter(({ envelope }) => "version" in envelope && envelope.version === version);
    assert.deepEqual(
      rows.map((row) => [row.envelope.sequence, row.leaf]),
      [[sequence, leaf]],
      `${what}: row ${version}`,
    );
  }
  const receipts = told.map(({ row, leaf, proof }) => ({ row, leaf: Buffer.from(digestHex(leaf), "hex"), proof }));
  const kept = await readReceipts(join(folder, "client", "receipts")).catch(() => []);
  const verdict = await verifyLog(await evidenceOfFolder(log, { keys: [], receipts: [...receipts, ...kept] }));
  assert.deepEqual(verdict.problems, [], what);
  assert.equal(verdict.signedRows, verdict.rows, what);
  const said = records.flatMap(({ envelope }) =>
    envelope.kind === "log" && envelope.event === "torn" ? [`${envelope.file} ${envelope.bytes}`] : [],
  );
  const aside = await Promise.all(
    (await asideOf(log)).map(async (name) => `${name} ${(await readFile(join(log, name))).length}`),
  );
  assert.deepEqual(said.sort(), aside.sort(), `${what}: each torn end is named once`);
  const found = await Promise.all((await asideOf(log)).map(async (name) => readFile(join(log, name))));
  assert.ok(torn.length === 0 || found.some((bytes) => bytes.equals(torn)), `${what}: the torn end is kept`);
  assert.equal(records[0]?.envelope.kind === "log" && records[0].envelope.event, "key", `${what}: the first row`);
}

type Way = { readonly code: "EIO" | "ENOSPC"; readonly done: "nothing" | "half" | "all" };

const KINDS = [
  "mkdir",
  "open",
  "write ",
  "writeFile",
  "appendFile",
  "datasync",
  "sync",
  "rename log-key",
  "rename checkpoint",
  "rename key",
  "rename current.jsonl",
  "rename 0000",
  "truncate",
  "rm",
];

const WAYS = [
  { code: "EIO", done: "nothing" },
  { code: "ENOSPC", done: "half" },
  { code: "EIO", done: "all" },
] as const;

const interfering =
  (nth: number, { code, done }: Way): Interfere =>
  async (operation, { all: whole, half }) => {
    if (operation.nth !== nth) return whole();
    if (done === "half") await half();
    const left = done === "all" ? await whole() : null;
    // Whoever is told that a file could not be opened has nothing to close.
    if (operation.what.startsWith("open ")) await (left as FileHandle | null)?.close();
    throw Object.assign(new Error(`${code}: made by the test, ${operation.what}`), { code });
  };

/** What this process has open below a folder. */
function openBelow(folder: string): string[] {
  const targets = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return targets.filter((target) => target.startsWith(folder));
}

const never = (error: unknown) => assert.fail(String(error));
const onlyIo = (error: unknown) => {
  if (!(error instanceof HpccError && error.code === "audit.io")) throw error;
};

for (const name of ["a new log", "an old log"] as const)
  describe(name, () => {
    const all: FileOperation[] = [];

    async function fresh(): Promise<string> {
      const folder = await mkdtemp(join(root, "log-"));
      if (name === "an old log") await cp(oldLog, folder, { recursive: true });
      return folder;
    }

    test("does all of its operations when none fails", async () => {
      const folder = await fresh();
      const told: Told[] = [];
      const see: Interfere = async (operation, { all: whole }) => {
        all.push(operation);
        return whole();
      };
      const tell = (one: Told) => void told.push(one);
      await withFaultyFiles(folder, see, async () => runAuditSession({ folder, tell, refused: never }));
      assert.equal(told.length, name === "a new log" ? 4 : 8);
      await check(folder, told, "nothing");
      for (const kind of KINDS)
        assert.ok(
          all.some(({ what }) => what.startsWith(kind)),
          kind,
        );
      const files = ["log-key", "checkpoint.new", "key.new", "current.jsonl", ".log", ".torn-", "tile/0"];
      for (const file of files)
        assert.ok(
          all.some(({ path }) => path.includes(file)),
          file,
        );
      assert.ok(all.length >= OPERATIONS_MIN, `${all.length} operations`);
    });

    for (const way of WAYS)
      test(`each operation fails once with ${way.code}, when ${way.done} of it is done`, async () => {
        for (const { nth, what, divisible } of all) {
          if (way.done === "half" && !divisible) continue;
          const folder = await fresh();
          const told: Told[] = [];
          const tell = (one: Told) => void told.push(one);
          const run = async () => runAuditSession({ folder, tell, refused: onlyIo });
          await withFaultyFiles(folder, interfering(nth, way), run);
          assert.deepEqual(openBelow(folder), [], `${nth} ${what}: all files are closed`);
          await check(folder, told, `${nth} ${what}`);
          await rm(folder, { recursive: true });
        }
      });
  });
