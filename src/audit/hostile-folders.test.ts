// A log's folder whose files somebody has changed at random: whoever reads it ends, with an answer or with an error that names what is wrong,
// and takes no other rows for the log's; `verify` passes none that is not what was signed; and no start of a worker makes it pass.
// HPCC_TEST_FOLDERS=N tries N of them.
import assert from "node:assert/strict";
import { cpSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { digestHex } from "../core/digest/digest.ts";
import { checkProof, decodeProof } from "../core/note/checkpoint.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { type AppendedRow, AuditLog } from "./audit-log.ts";
import { AuditIndex } from "./index/audit-index.ts";
import { proveRow, writeTiles } from "./prove-row.ts";
import { planPrune } from "./prune/plan.ts";
import { finishPrunes, type PruneParts, pruneLog } from "./prune/prune-log.ts";
import { PRUNE_DISK } from "./prune/stub-files.ts";
import { readLog } from "./read-log.ts";
import { emptyRow } from "./row.ts";
import { type AuditRecord, encodeRecord } from "./segment.ts";
import { selectRows } from "./select-rows.ts";
import { LOG_START, SignedRows } from "./sink/signed-rows.ts";
import type { KeptReceipt } from "./verify/kept-words.ts";
import { type Verdict, verifyLog } from "./verify/verify-log.ts";
import { evidenceOfFolder } from "./verify-folder.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const KEYS = [SIGNER.verifier];
const FOLDERS = Number(process.env["HPCC_TEST_FOLDERS"] ?? 40);
const ROWS = 700;
const DAY = 86_400_000;
const { signal } = new AbortController();

let root = "";
let good = "";
let all: AuditRecord[] = [];
let kept = "";
const receipts: KeptReceipt[] = [];
let files: string[] = [];

async function openLog(folder: string): Promise<AuditLog> {
  const parts = { worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer: SIGNER };
  return AuditLog.open({ folder, ...parts, segmentBytesMax: 16_000 });
}

const JOB = { principal: "spiffe://x.example/tenant/t/user/u", policy: null, tier: null, build: null } as const;

const append = (log: AuditLog, day: number) =>
  log.append(
    { ...emptyRow("w1"), tenant: day % 3 === 0 ? "acme" : "beta", durationUs: day },
    { kind: "denied", ...JOB, code: "x.y", actionKey: null, startMs: day * DAY, endMs: day * DAY },
  );

const partsOf = (folder: string, log: AuditLog): PruneParts => ({
  folder,
  log,
  worker: "w1",
  signer: SIGNER,
  disk: PRUNE_DISK,
  signal,
  sweep: async () => undefined,
});

function keep({ digest, line, receipt }: AppendedRow): void {
  const leaf = Buffer.from(digestHex(encodeRecord(line, receipt!.envelope, 1).leaf), "hex");
  receipts.push({ row: digest, leaf, proof: receipt!.proof });
}

before(async () => {
  root = mkdtempSync(join(tmpdir(), "hpcc-hostile-"));
  good = join(root, "good");
  const log = await openLog(good);
  for (let from = 0; from < ROWS; from += 20)
    keep((await Promise.all(Array.from({ length: 20 }, async (_, at) => append(log, from + at))))[0]!);
  const options = { folder: good, size: log.sequence, nowMs: ROWS * DAY, weigh: null, signal };
  const ruleOf = (tenant: string) => (tenant === "acme" ? { ageMs: 600 * DAY, bytes: null } : null);
  const reason = { cause: "operator", askedBy: "ann", why: () => "old", policy: null, nowMs: ROWS * DAY } as const;
  await pruneLog(await planPrune({ ...options, ruleOf }), reason, partsOf(good, log));
  for (let day = 0; day < 5; day++) keep(await append(log, ROWS + day));
  await log.close();
  const index = await AuditIndex.open({ ...INDEX, folder: good, keep: true });
  await index.catchUp();
  await index.close();
  all = [];
  for await (const { record } of readLog(good)) all.push(record);
  kept = readFileSync(join(good, "checkpoint"), "utf8");
  files = filesOf(good);
  assert.deepEqual((await judge(good)).problems, []);
  for (const what of ["checkpoint", "key", /^0.*\.log$/, /^tile\//, /^pruned\//, /^index\//])
    assert.ok(
      files.some((file) => file.match(what) !== null),
      String(what),
    );
});
after(() => rmSync(root, { recursive: true }));

const INDEX = { readManifest: async () => null, warn: () => undefined };

function filesOf(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true }) as string[];
  return names.filter((name) => lstatSync(join(folder, name)).isFile()).sort();
}

type Change = (folder: string, draw: { readonly file: string; readonly other: string; readonly at: number }) => void;

/** `at` is a place in a file, as a fraction of its length. */
const CHANGES: Record<string, Change> = {
  flip(folder, { file, at }) {
    const bytes = readFileSync(join(folder, file));
    if (bytes.length === 0) return;
    const place = Math.floor(at * bytes.length);
    writeFileSync(join(folder, file), bytes.with(place, bytes[place]! ^ (1 << (place % 8))));
  },
  truncate(folder, { file, at }) {
    const bytes = readFileSync(join(folder, file));
    writeFileSync(join(folder, file), bytes.subarray(0, Math.floor(at * bytes.length)));
  },
  append(folder, { file, other, at }) {
    const bytes = readFileSync(join(good, other));
    const more = bytes.subarray(0, 1 + Math.floor(at * bytes.length));
    writeFileSync(join(folder, file), Buffer.concat([readFileSync(join(folder, file)), more]));
  },
  remove: (folder, { file }) => rmSync(join(folder, file)),
  copy: (folder, { file, other }) => cpSync(join(good, other), join(folder, file)),
  swap(folder, { file, other }) {
    cpSync(join(good, other), join(folder, file));
    cpSync(join(good, file), join(folder, other));
  },
  repeat(folder, { file, at }) {
    const bytes = readFileSync(join(folder, file));
    const place = Math.floor(at * bytes.length);
    writeFileSync(join(folder, file), Buffer.concat([bytes.subarray(0, place), bytes]));
  },
  folder(folder, { file }) {
    rmSync(join(folder, file));
    mkdirSync(join(folder, file));
  },
};

const change = fc.record({
  name: fc.constantFrom(...Object.keys(CHANGES)),
  file: fc.nat(),
  other: fc.nat(),
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
});

interface Drawn {
  readonly name: string;
  readonly file: number;
  readonly other: number;
  readonly at: number;
}

/** Half of the files are of the few that are not tiles or segments. */
function fileOf(draw: number): string {
  const few = files.filter((file) => !file.startsWith("tile/") && !file.endsWith(".log"));
  const from = draw % 2 === 0 ? files : few;
  return from[Math.floor(draw / 2) % from.length]!;
}

function applied(folder: string, { name, file, other, at }: Drawn): string {
  const what = { file: fileOf(file), other: fileOf(other), at };
  const { file: path } = what;
  // An earlier change may have taken it away.
  const isThere = lstatSync(join(folder, path), { throwIfNoEntry: false })?.isFile() === true;
  const canBe = lstatSync(join(folder, what.other), { throwIfNoEntry: false })?.isDirectory() !== true;
  if (isThere && canBe) CHANGES[name]!(folder, what);
  return `${name} ${path} ${what.other} ${at}`;
}

async function judge(folder: string): Promise<Verdict> {
  return verifyLog(await evidenceOfFolder(folder, { keys: KEYS, receipts, kept: [kept] }));
}

/** What it gives, or null for an error of hpcc's own, which says what is wrong. */
async function orNamed<T>(run: () => Promise<T>): Promise<T | null> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof HpccError && error.message !== "") return null;
    throw error;
  }
}

async function listed(rows: AsyncIterable<AuditRecord>, take: (record: AuditRecord) => void): Promise<void> {
  for await (const record of rows) take(record);
}

async function checkReaders(folder: string): Promise<void> {
  const known = new Set(all.map(({ leaf }) => leaf));
  const isOurs = ({ leaf, envelope }: AuditRecord) => assert.ok(known.has(leaf), `row ${envelope.sequence} is another`);
  const any = { tenant: null, source: null, output: null, sinceMs: null, untilMs: null };
  for (const selection of [any, { ...any, sinceMs: 650 * DAY }, { ...any, output: "0".repeat(64) }])
    await orNamed(async () =>
      listed(
        selectRows(folder, selection, () => undefined),
        isOurs,
      ),
    );
  for (const { envelope, digest, leaf } of [all[1]!, all[300]!, all.at(-1)!])
    for (const name of [String(envelope.sequence), digest]) {
      const proven = await orNamed(async () => proveRow(folder, name));
      if (proven === null) continue;
      assert.equal(proven.leaf, leaf);
      checkProof(Buffer.from(digestHex(leaf), "hex"), decodeProof(proven.proof), KEYS);
    }
  await orNamed(async () => {
    const rows = new SignedRows(folder, LOG_START, KEYS);
    for (let batch = await rows.next(); batch !== null; batch = await rows.next()) batch.records.forEach(isOurs);
  });
  await orNamed(async () => {
    const out = `${folder}-tiles`;
    mkdirSync(out);
    cpSync(join(folder, "checkpoint"), join(out, "checkpoint"), { errorOnExist: false });
    await writeTiles(folder, out);
  }).catch((error: NodeJS.ErrnoException) => {
    // Of the copy here: there is no checkpoint, or a folder of that name.
    if (!/^(?:ENOENT|EISDIR|ERR_FS_EISDIR)$/.test(error.code ?? "")) throw error;
  });
  for (const keep of [false, true])
    await orNamed(async () => {
      const index = await AuditIndex.open({ ...INDEX, folder, keep });
      try {
        const { digest } = all[200]!;
        const found = await orNamed(async () => index.find(digest, null));
        found?.records.forEach(isOurs);
      } finally {
        await index.close();
      }
    });
}

/** Rows as they are read to the end; null where that cannot be done. */
async function leavesOf(folder: string): Promise<string[] | null> {
  return orNamed(async () => {
    const leaves: string[] = [];
    for await (const { record } of readLog(folder)) leaves.push(record.leaf);
    return leaves;
  });
}

async function checkFolder(folder: string, what: string): Promise<"good" | "named"> {
  const expected = all.map(({ leaf }) => leaf as string);
  const before = await orNamed(async () => judge(folder));
  const isGood = before !== null && before.problems.length === 0;
  if (isGood) assert.deepEqual((await leavesOf(folder))?.slice(0, expected.length), expected, what);
  await checkReaders(folder);
  const started = await orNamed(async () => {
    const log = await openLog(folder);
    try {
      await orNamed(async () => finishPrunes(partsOf(folder, log)));
      await append(log, ROWS + 10);
    } finally {
      await log.close();
    }
    return true;
  });
  const after = await orNamed(async () => judge(folder));
  if (after !== null && after.problems.length === 0)
    assert.deepEqual((await leavesOf(folder))?.slice(0, expected.length), expected, `after a start: ${what}`);
  else
    assert.ok(!isGood || started === null, `a start has damaged the log: ${what}: ${JSON.stringify(after?.problems)}`);
  return isGood ? "good" : "named";
}

test("nobody crashes or hangs on it, and nothing passes that is not what was signed", async () => {
  const outcomes = { good: 0, named: 0 };
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
      const folder = mkdtempSync(join(root, "copy-"));
      cpSync(good, folder, { recursive: true });
      const what = changes.map((drawn) => applied(folder, drawn)).join("; ");
      outcomes[await checkFolder(folder, what)]++;
      rmSync(folder, { recursive: true });
      rmSync(`${folder}-tiles`, { recursive: true, force: true });
    }),
    { numRuns: FOLDERS, endOnFailure: true },
  );
  assert.ok(outcomes.good > 0 && outcomes.named > 0, JSON.stringify(outcomes));
});
