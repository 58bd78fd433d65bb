// `hpcc audit verify`, `check-receipts`, `prove` and `tiles`: what a log's folder says, held against its signature and what was kept.
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { readPlainFile } from "../audit/plain-file.ts";
import { type ProvenRow, proveRow, type WrittenBundles, writeTiles } from "../audit/prove-row.ts";
import { listPrunes } from "../audit/prune/stub-files.ts";
import type { PrunedSummary } from "../audit/verify/pruned-rows.ts";
import { type Problem, type Verdict, verifyLog } from "../audit/verify/verify-log.ts";
import type { WitnessDemand } from "../audit/verify/witnesses.ts";
import { evidenceOfFolder, logFolder, readReceipts } from "../audit/verify-folder.ts";
import { HpccError } from "../base/errors.ts";
import { parseVerifier, parseWitnessKey } from "../core/note/signed-note.ts";
import { printable } from "./output.ts";

export interface CheckOptions {
  /** Keys of the log that the caller knows from elsewhere. */
  readonly keys: readonly string[];
  /** Files with checkpoints that were kept. */
  readonly checkpoints: readonly string[];
  /** Files or folders with receipts that were kept. */
  readonly receipts: readonly string[];
  readonly witnesses?: WitnessOptions;
  readonly onSegment?: (name: string) => void;
}

export interface WitnessOptions {
  /** Keys of witnesses that the caller knows from elsewhere. */
  readonly keys: readonly string[];
  /** How many of them must have cosigned the log; null for all. */
  readonly quorum: number | null;
  /** None before this time counts; null for any time. */
  readonly sinceMs: number | null;
}

function demandOf({ keys, quorum, sinceMs }: WitnessOptions): WitnessDemand | null {
  if (keys.length === 0 && (quorum !== null || sinceMs !== null))
    throw new HpccError("argument.invalid", "name the keys of the witnesses, each with --witness");
  if (keys.length === 0) return null;
  if (new Set(keys).size < keys.length) throw new HpccError("argument.invalid", "a witness is named twice");
  if (quorum !== null && (quorum < 1 || quorum > keys.length))
    throw new HpccError("argument.invalid", `of ${keys.length} witnesses, 1 to ${keys.length} can be demanded`);
  return { keys: keys.map(parseWitnessKey), quorum: quorum ?? keys.length, sinceMs };
}

export interface LogCheck extends Verdict {
  readonly folder: string;
  /** Whether the caller knew the log's key. */
  readonly keyGiven: boolean;
}

export async function checkLog(folder: string, options: CheckOptions): Promise<LogCheck> {
  const found = await logFolder(folder);
  const keys = options.keys.map(parseVerifier);
  const kept = await Promise.all(options.checkpoints.map(readKept));
  const receipts = (await Promise.all(options.receipts.map(readReceipts))).flat();
  const witnesses = options.witnesses === undefined ? null : demandOf(options.witnesses);
  const { onSegment } = options;
  const asked = { keys, kept, receipts, ...(witnesses && { witnesses }), ...(onSegment && { onSegment }) };
  const evidence = async () => evidenceOfFolder(found, asked);
  for (let reads = 1; ; reads++) {
    const before = await prunesOf(found);
    const verdict = await verifyLog(await evidence());
    // One that was pruned while it was read looks wrong, and is read again.
    const isSettled = verdict.problems.length === 0 || (await prunesOf(found)) === before;
    if (isSettled || reads === READS_MAX) return { folder: found, keyGiven: keys.length > 0, ...verdict };
  }
}

const READS_MAX = 3;

async function prunesOf(folder: string): Promise<string> {
  return JSON.stringify((await listPrunes(folder)).map(({ name, ranges }) => [name, ranges === null]));
}

const KEPT_BYTES_MAX = 64 * 1024;

async function readKept(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new HpccError("argument.invalid", `${path} cannot be read`, { cause: error });
  });
  if (text.length > KEPT_BYTES_MAX) throw new HpccError("limit.exceeded", `${path} is no checkpoint`);
  return text;
}

const PROBLEMS_SHOWN = 20;

export function printCheck({ folder, keyGiven, ...verdict }: LogCheck): string {
  const { rows, signedRows, key, tornBytes, receipts, otherReceipts, pruned, prunedReceipts, problems, worthless } =
    verdict;
  const { witnessed, witnessedRows } = verdict;
  const lines = [`${rows} rows in ${folder}, ${signedRows} of them signed`];
  if (key !== null) lines.push(`signed with ${key}`);
  if (key !== null && !keyGiven) lines.push("the key is the log's own word; give the one that you know with --key");
  if (receipts > 0) lines.push(`${receipts} receipts were held against it`);
  if (otherReceipts > 0) lines.push(`${otherReceipts} receipts are of other logs, and say nothing of this one`);
  lines.push(...worthless.slice(0, PROBLEMS_SHOWN));
  if (worthless.length > PROBLEMS_SHOWN)
    lines.push(`and ${worthless.length - PROBLEMS_SHOWN} more receipts that are worth nothing`);
  if (worthless.length > 0)
    lines.push("what is worth nothing, and was not given by this log's worker, says nothing of it");
  lines.push(...pruned.slice(-PROBLEMS_SHOWN).map(prunedLine));
  if (pruned.length > PROBLEMS_SHOWN) lines.push(`and ${pruned.length - PROBLEMS_SHOWN} older removals`);
  const byStub = new Map(pruned.map((stub) => [stub.name, stub]));
  const lostRows = prunedReceipts.flatMap(({ row, stub }) => {
    const by = byStub.get(stub);
    return by === undefined ? [] : [`row ${row}, of a kept receipt, was pruned on ${by.when} by ${by.by}`];
  });
  lines.push(...lostRows.slice(0, PROBLEMS_SHOWN));
  if (lostRows.length > PROBLEMS_SHOWN)
    lines.push(`and ${lostRows.length - PROBLEMS_SHOWN} more rows of kept receipts`);
  if (tornBytes > 0)
    lines.push(`${tornBytes} bytes at its end are no row: a crash left them, or a row is being written`);
  for (const { witness, rows: seen, when } of witnessed) lines.push(`${witness} had seen ${seen} rows on ${when}`);
  if (witnessedRows > 0 && witnessedRows < rows)
    lines.push(`rows ${witnessedRows + 1} to ${rows} are not cosigned by as many witnesses as were demanded`);
  const shown = problems.toSorted(byRow).slice(0, PROBLEMS_SHOWN);
  lines.push(...shown.map(({ row, problem }) => (row === null ? problem : `row ${row} ${problem}`)));
  if (problems.length > shown.length) lines.push(`and ${problems.length - shown.length} more`);
  lines.push(problems.length === 0 ? "the log is what was signed" : "THE LOG IS NOT WHAT WAS SIGNED");
  return lines.map((line) => `${printable(line)}\n`).join("");
}

function prunedLine({ tenant, rows, first, last, when, by, why, finished }: PrunedSummary): string {
  const which = `${rows} rows of ${tenant}, from row ${first} to ${last}`;
  const state = finished ? "were pruned" : "are being pruned";
  return `${which}, ${state} on ${when} by ${by}: ${why}`;
}

function byRow(a: Problem, b: Problem): number {
  return (a.row ?? Number.POSITIVE_INFINITY) - (b.row ?? Number.POSITIVE_INFINITY) || 0;
}

export async function prove(folder: string, row: string): Promise<ProvenRow> {
  return proveRow(await logFolder(folder), row);
}

/** Writes a folder that serves as a log of tlog-tiles; tells of how many rows. Throws before anything is written into a folder that has files. */
export async function exportTiles(folder: string, out: string): Promise<WrittenBundles> {
  const from = await logFolder(folder);
  const files = await Promise.all(
    ["checkpoint", "key"].map(async (name) => [name, await readSigned(join(from, name))] as const),
  );
  if (`${resolve(out)}/`.startsWith(`${resolve(from)}/`))
    throw new HpccError("argument.invalid", `${out} is in the log's own folder`);
  try {
    const found = await readdir(out).catch(ifMissing);
    if (found.length > 0) throw new HpccError("argument.invalid", `${out} is not empty; nothing was written`);
    await mkdir(out, { recursive: true });
    for (const [name, bytes] of files) await writeFile(join(out, name), bytes, { flag: "wx" });
  } catch (error) {
    if (error instanceof HpccError) throw error;
    throw new HpccError("argument.invalid", `${out} cannot be written`, { cause: error });
  }
  return writeTiles(from, out);
}

async function readSigned(path: string): Promise<Buffer> {
  return readPlainFile(path).catch((error: unknown) => {
    throw new HpccError("argument.invalid", `${path} cannot be read; only a signed log has tiles`, { cause: error });
  });
}

function ifMissing(error: NodeJS.ErrnoException): string[] {
  if (error.code === "ENOENT") return [];
  throw error;
}
