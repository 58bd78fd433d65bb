// `hpcc reproduce`: runs the job of a row again and says whether it leaves the same bytes. This module picks rows, keeps what differs and
// prints; where evidence and a second run come from is the program's matter.
import { accessSync, constants, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { Command } from "commander";
import { HpccError } from "../base/errors.ts";
import { sha256 } from "../core/digest/digest.ts";
import { type Evidence, findJob, type JobEvidence, jobEvidence } from "../reproduce/evidence.ts";
import { type Reproduction, type Runner, reproduce } from "../reproduce/reproduce.ts";
import { parseCount } from "./numbers.ts";
import { json, type Output, printable } from "./output.ts";
import { printReport, type ReproductionReport, reportOf, reportPage } from "./reproduce-report.ts";

export interface ReproduceOptions {
  readonly state?: string;
  readonly worker?: string;
  readonly on?: string;
  readonly here?: true;
}

/** Where rows and blobs come from and where jobs run again. */
export interface Reproducing {
  readonly evidence: Evidence;
  readonly runner: Runner;
  /** All rows with their envelopes, oldest first; null where a worker is asked, which shows none but those that are named. */
  readonly rows: (() => AsyncIterable<{ readonly line: string; readonly envelope: string }>) | null;
  close(): Promise<void>;
}

export interface ReproduceHost {
  readonly output: Output;
  readonly reproducing: (options: ReproduceOptions) => Promise<Reproducing>;
}

interface Flags extends ReproduceOptions {
  readonly sample?: number;
  readonly seed?: string;
  readonly keep?: string;
  readonly html?: string;
  readonly json?: true;
}

/** A file that is named as an object is at most so large. */
const FILE_BYTES_MAX = 1024 * 1024 * 1024;

export function addReproduce(program: Command, host: ReproduceHost, setExitCode: (code: number) => void): void {
  program
    .command("reproduce")
    .description("compile what a row, hash or object stands for again, and compare")
    .argument("[what...]", "rows' or other hashes, at least 8 hex digits, or objects' files")
    .option("--here", "in a sandbox of the image on this machine, instead of a fresh microVM of a worker")
    .option("--state <dir>", "read rows and sources from a worker's state folder on this machine")
    .option("--worker <host:port>", "ask this worker for rows and sources instead of those that the scheduler names")
    .option("--on <host:port>", "run it on this worker (default: one that the scheduler names, and not the row's)")
    .option("--sample <n>", "also so many rows of the log, drawn at random; needs --state", parseCount)
    .option("--seed <text>", "draw the same rows again")
    .option("--keep <dir>", "where outputs that differ are kept (default: hpcc-reproduce-<row> here)")
    .option("--html <file>", "also write the report as a page")
    .option("--json", "print JSON")
    .action(async (what: string[], flags: Flags) => {
      // Before minutes of compiles are thrown away.
      if (flags.html !== undefined) checkWritable(flags.html);
      const report = await run(what, flags, host);
      if (flags.html !== undefined) writeFileSync(flags.html, reportPage(report));
      host.output.out(flags.json ? json(report) : printReport(report));
      setExitCode(report.different + report.gone > 0 ? 1 : 0);
    });
}

async function run(what: readonly string[], flags: Flags, host: ReproduceHost): Promise<ReproductionReport> {
  if (what.length === 0 && flags.sample === undefined)
    throw new HpccError("argument.invalid", "name a row, a hash or an object's file, or say --sample N");
  if (flags.sample !== undefined && flags.state === undefined)
    throw new HpccError("argument.invalid", "--sample draws from a log, so it needs --state DIR");
  if (flags.sample === 0) throw new HpccError("argument.invalid", "--sample draws one row at least");
  const at = await host.reproducing(flags);
  const seed = flags.seed ?? String(Date.now());
  try {
    const rows: JobEvidence[] = [];
    for (const word of what) rows.push(await findJob(at.evidence, hashOf(word)));
    if (flags.sample !== undefined && at.rows !== null) rows.push(...(await drawnRows(at.rows(), flags.sample, seed)));
    const done: Reproduction[] = [];
    for (const [index, row] of rows.entries()) {
      if (rows.length > 1) host.output.error(`${index + 1} of ${rows.length}: ${row.digest}\n`);
      const outcome = await reproduce(at.evidence, row, { runner: at.runner, signal: new AbortController().signal });
      if (outcome.verdict === "different") keep(outcome, flags.keep);
      done.push(outcome);
    }
    return reportOf(done, flags.sample === undefined ? null : seed);
  } finally {
    await at.close();
  }
}

/** Throws `argument.invalid` for a path where no file can be written; makes none. */
function checkWritable(path: string): void {
  try {
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.isDirectory() === true) throw new Error("it is a folder");
    accessSync(found === undefined ? `${dirname(path)}/.` : path, constants.W_OK);
  } catch (error) {
    throw new HpccError("argument.invalid", `${path} cannot be written`, { cause: error });
  }
}

/** The digest of a file's bytes where there is such a file, else the word itself. */
function hashOf(word: string): string {
  if (existsSync(word) && statSync(word).isFile()) {
    if (statSync(word).size > FILE_BYTES_MAX)
      throw new HpccError("limit.exceeded", `${word} is larger than ${FILE_BYTES_MAX} bytes`);
    return sha256(readFileSync(word));
  }
  if (!/^(sha256:)?[0-9a-f]{8,64}$/.test(word))
    throw new HpccError("argument.invalid", `${printable(word)} is neither a file nor at least 8 hex digits of a hash`);
  return word;
}

/** Rows in the order of a digest of seed and row: as good as random, and the same for the same seed. */
export async function drawnRows(
  rows: AsyncIterable<{ readonly line: string; readonly envelope: string }>,
  count: number,
  seed: string,
): Promise<JobEvidence[]> {
  const best: { readonly rank: string; readonly row: JobEvidence }[] = [];
  for await (const { line, envelope } of rows) {
    const row = jobEvidence(line, envelope);
    if (row === null) continue;
    const rank = sha256(Buffer.from(`${seed}\n${row.envelope.sequence}\n${row.digest}`));
    if (best.length === count && rank >= best.at(-1)!.rank) continue;
    best.push({ rank, row });
    best.sort((a, b) => (a.rank < b.rank ? -1 : 1));
    best.length = Math.min(best.length, count);
  }
  return best.map(({ row }) => row);
}

/** Both sides of each output that differs, as files. */
function keep(outcome: Reproduction & { readonly verdict: "different" }, folder: string | undefined): void {
  const target = folder ?? `hpcc-reproduce-${outcome.row.digest.slice("sha256:".length, "sha256:".length + 12)}`;
  mkdirSync(target, { recursive: true });
  for (const { what, expectedBytes, foundBytes } of outcome.differences)
    for (const [side, bytes] of [
      ["expected", expectedBytes],
      ["found", foundBytes],
    ] as const)
      if (bytes !== null) writeFileSync(join(target, `${side}-${basename(what).replaceAll(/[^\w.-]/g, "_")}`), bytes);
}
