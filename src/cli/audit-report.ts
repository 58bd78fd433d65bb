// `hpcc audit report`: what logs come to, and what they are worth. Each log is verified, then counted up to its first bad row.
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CHECKPOINT_FILE } from "../audit/log-tree.ts";
import { readPlainFile } from "../audit/plain-file.ts";
import { readLog } from "../audit/read-log.ts";
import { isReported, ReportBuilder, type ReportData, type ReportFilter } from "../audit/report/report.ts";
import type { Some } from "../audit/report/tally.ts";
import type { Problem } from "../audit/verify/verify-log.ts";
import type { Witnessed } from "../audit/verify/witnesses.ts";
import { logFolder } from "../audit/verify-folder.ts";
import { HpccError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { readCheckpoint } from "../core/note/checkpoint.ts";
import { checkLog, type LogCheck, type WitnessOptions } from "./audit-check.ts";
import type { ReproducedRow, ReproductionReport } from "./reproduce-report.ts";

export interface LogState {
  /** Null without a checkpoint. */
  readonly origin: string | null;
  readonly folder: string;
  readonly rows: number;
  readonly signedRows: number;
  /** Rows from the first on that are as they were signed. */
  readonly verifiedRows: number;
  readonly checkpoint: { readonly size: number; readonly root: string } | null;
  readonly key: string | null;
  readonly keyGiven: boolean;
  readonly tornBytes: number;
  /** Rows that retention removed; their hashes are among those that were verified. */
  readonly prunedRows: number;
  readonly problems: Some<Problem>;
  /** The newest word of each witness that was named, and up to which row as many as were demanded have seen the log. */
  readonly witnessed: readonly Witnessed[];
  readonly witnessedRows: number;
}

export interface Reproduced extends Omit<ReproductionReport, "rows"> {
  readonly rows: Some<ReproducedRow>;
}

export interface SiteReport {
  readonly version: string;
  readonly madeMs: number;
  readonly filter: ReportFilter;
  readonly logs: readonly LogState[];
  readonly data: ReportData;
  readonly reproduced: Reproduced | null;
}

export interface ReportOptions {
  readonly logs: readonly string[];
  readonly keys: readonly string[];
  /** Files with checkpoints that were kept. */
  readonly checkpoints: readonly string[];
  /** Witnesses that must have cosigned each log; left out for none. */
  readonly witnesses?: WitnessOptions;
  /** A report of `hpcc reproduce --json`. */
  readonly reproduced: string | null;
  readonly filter: ReportFilter;
  /** Lines of each table. */
  readonly linesMax: number;
  readonly nowMs: number;
  readonly onLog?: (folder: string) => void;
}

export async function makeReport(options: ReportOptions): Promise<SiteReport> {
  const { filter, linesMax, keys, checkpoints, witnesses } = options;
  const reproduced = options.reproduced === null ? null : await readReproduced(options.reproduced, linesMax);
  const builder = new ReportBuilder(linesMax);
  const logs: LogState[] = [];
  const folders = new Set<string>();
  for (const named of options.logs) {
    options.onLog?.(named);
    const asked = { keys, checkpoints: await ownOf(named, checkpoints), receipts: [] };
    const check = await checkLog(named, { ...asked, ...(witnesses && { witnesses }) });
    if (folders.has(check.folder))
      throw new HpccError("argument.invalid", `${check.folder} was named twice; its rows would be counted twice`);
    folders.add(check.folder);
    const state = await stateOf(check, linesMax);
    await count(state, filter, builder);
    logs.push(state);
  }
  return { version: VERSION, madeMs: options.nowMs, filter, logs, data: builder.finish(), reproduced };
}

/** The kept checkpoints that are about this log; those of others say nothing of it. */
async function ownOf(named: string, checkpoints: readonly string[]): Promise<string[]> {
  const origin = checkpointOf(await readText(join(await logFolder(named), CHECKPOINT_FILE)))?.origin;
  const own: string[] = [];
  for (const path of checkpoints) {
    const kept = checkpointOf(await readText(path));
    // One that cannot be read is a problem that is told.
    if (kept === null || origin === undefined || kept.origin === origin) own.push(path);
  }
  return own;
}

const CHECKPOINT_BYTES_MAX = 64 * 1024;

async function readText(path: string): Promise<string | null> {
  try {
    const bytes = await readPlainFile(path);
    return bytes.length > CHECKPOINT_BYTES_MAX ? null : bytes.toString("utf8");
  } catch {
    return null;
  }
}

async function stateOf({ folder, keyGiven, ...verdict }: LogCheck, linesMax: number): Promise<LogState> {
  const { rows, signedRows, key, tornBytes, problems, pruned, witnessed, witnessedRows } = verdict;
  const checkpoint = checkpointOf(await readText(join(folder, CHECKPOINT_FILE)));
  const bad = problems.map(({ row }) => row ?? 1);
  return {
    origin: checkpoint?.origin ?? null,
    folder,
    rows,
    signedRows,
    verifiedRows: Math.max(0, Math.min(signedRows, ...bad.map((row) => row - 1))),
    checkpoint: checkpoint && { size: checkpoint.size, root: Buffer.from(checkpoint.root).toString("hex") },
    key,
    keyGiven,
    tornBytes,
    prunedRows: pruned.reduce((sum, stub) => sum + stub.rows, 0),
    problems: { items: problems.slice(0, linesMax), more: Math.max(0, problems.length - linesMax) },
    witnessed,
    witnessedRows,
  };
}

/** What is wrong with one that cannot be read is among the log's problems. */
function checkpointOf(text: string | null) {
  try {
    return text === null ? null : readCheckpoint(text);
  } catch {
    return null;
  }
}

/** A log with problems counts up to its last row that was verified; a good one also with what is not signed yet. */
async function count(log: LogState, filter: ReportFilter, builder: ReportBuilder): Promise<void> {
  const last = log.problems.items.length > 0 ? log.verifiedRows : log.rows;
  if (last === 0) return;
  for await (const { record } of readLog(log.folder)) {
    if (record.envelope.sequence > last) return;
    if (isReported(record, filter)) builder.take(record);
    // What comes after it may be no row at all.
    if (record.envelope.sequence === last) return;
  }
}

const REPRODUCED_BYTES_MAX = 64 * 1024 * 1024;
const VERDICTS: readonly string[] = ["different", "gone", "equal"];

/** UNTRUSTED: the file, as somebody else may have made it. */
async function readReproduced(path: string, linesMax: number): Promise<Reproduced> {
  let json: unknown;
  try {
    if ((await stat(path)).size > REPRODUCED_BYTES_MAX) throw new HpccError("limit.exceeded", `${path} is too large`);
    json = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    if (error instanceof HpccError) throw error;
    throw new HpccError("argument.invalid", `${path} is no report of \`hpcc reproduce --json\``, { cause: error });
  }
  const { rows, seed } = (json ?? {}) as { rows?: unknown; seed?: unknown };
  const read = Array.isArray(rows) ? rows.map(reproducedRow) : [null];
  if (read.includes(null)) throw new HpccError("argument.invalid", `${path} is no report of \`hpcc reproduce --json\``);
  const good = (read as ReproducedRow[]).toSorted((a, b) => VERDICTS.indexOf(a.verdict) - VERDICTS.indexOf(b.verdict));
  const of = (verdict: string) => good.filter((one) => one.verdict === verdict).length;
  return {
    equal: of("equal"),
    different: of("different"),
    gone: of("gone"),
    seed: typeof seed === "string" ? seed : null,
    rows: { items: good.slice(0, linesMax), more: Math.max(0, good.length - linesMax) },
  };
}

function reproducedRow(json: unknown): ReproducedRow | null {
  if (typeof json !== "object" || json === null) return null;
  const fields = json as Readonly<Record<string, unknown>>;
  const texts = ["row", "verdict", "kind", "image", "worker", "command"].every(
    (name) => typeof fields[name] === "string",
  );
  const open = ["where", "problem"].every((name) => fields[name] === null || typeof fields[name] === "string");
  const { differences } = fields;
  const isDifference = (one: unknown) =>
    typeof one === "object" &&
    one !== null &&
    ["what", "expected", "found"].every((name) => typeof (one as Record<string, unknown>)[name] === "string");
  const good = texts && open && VERDICTS.includes(String(fields["verdict"]));
  return good && Array.isArray(differences) && differences.every(isDifference)
    ? (json as unknown as ReproducedRow)
    : null;
}
