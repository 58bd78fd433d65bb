// The commands below `hpcc audit`.
import { type Command, Option } from "commander";
import { HpccError } from "../base/errors.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { keepAlive } from "../base/system/keep-alive.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";
import { type AttestHost, addAttest } from "./audit-attest-command.ts";
import { addDatabase, addDatabaseOptions, type DatabaseFlags, databaseNames } from "./audit-database-commands.ts";
import { addReport } from "./audit-report-command.ts";
import type { Format, RowFilter } from "./audit-search.ts";
import { parseCount } from "./numbers.ts";
import { json, type Output, printable } from "./output.ts";
import { addRetention, type RetentionHost } from "./retention-commands.ts";

export interface AuditHost extends AttestHost, RetentionHost {
  readonly env: Environment;
  readonly uid: number;
  readonly output: Output;
}

const AUDIT_ROWS_SHOWN = 20;

export function addAudit(program: Command, host: AuditHost, setExitCode: (code: number) => void): void {
  const audit = program.command("audit").description("a worker's audit log");
  addRows(audit, host);
  addSearches(audit, host);
  addRetention(audit, host);
  addChecks(audit, host, setExitCode);
  addAttest(audit, host, setExitCode);
  addDatabase(audit, host.output);
  addReport(audit, host.output, setExitCode);
  audit
    .command("prove")
    .description("print the proof that a row is in the log, under its newest checkpoint")
    .argument("<folder>", "the log's folder, or the worker's state folder")
    .argument("<row>", "the row's number, or its digest or the start of it")
    .option("--json", "print JSON, with the row and its envelope")
    .action(async (folder: string, row: string, options: { json?: true }) => {
      const { prove } = await import("./audit-check.ts");
      const proven = await prove(folder, row);
      host.output.out(options.json ? json(proven) : proven.proof);
    });
  audit
    .command("tiles")
    .description("write the log as a folder of C2SP's tlog-tiles, which other tools read")
    .argument("<folder>", "the log's folder, or the worker's state folder")
    .argument("<out>", "a folder that must be absent or empty, outside the log's")
    .option("--json", "print JSON")
    .action(async (folder: string, out: string, options: { json?: true }) => {
      const { exportTiles } = await import("./audit-check.ts");
      const { rows, leftOut } = await exportTiles(folder, out);
      const without = leftOut === 0 ? "" : `, without bundles of ${leftOut} of them, in which rows were pruned`;
      host.output.out(options.json ? json({ out, rows, leftOut }) : `${rows} rows in ${out}${without}\n`);
    });
}

function addRows(audit: Command, host: AuditHost): void {
  audit
    .command("rows")
    .description(
      "print the last rows, nine tab-separated columns each; fails for a broken chain and for less than the checkpoint says, and checks no signature",
    )
    .requiredOption("--state <dir>", "the worker's state folder on this machine")
    .option("--last <n>", `how many rows (default: ${AUDIT_ROWS_SHOWN}; all of them with --json)`, parseCount)
    .option("--json", "print JSON, with each row's digest and envelope")
    .action(async (options: { state: string; last?: number; json?: true }) => {
      const { auditRows, printAuditRows } = await import("./audit-rows.ts");
      const last = options.last ?? (options.json ? Number.MAX_SAFE_INTEGER : AUDIT_ROWS_SHOWN);
      const { rows, problem } = await auditRows(options.state, last);
      host.output.out(options.json ? json(rows) : printAuditRows(rows));
      if (problem !== null) throw problem;
    });
}

interface SearchFlags
  extends Partial<Record<"tenant" | "principal" | "kind" | "vm" | "build" | "image" | "source" | "output", string>> {
  readonly since?: string;
  readonly until?: string;
  readonly format: Format;
  readonly last?: number;
  readonly json?: true;
}

interface DatabaseSearchFlags extends SearchFlags, DatabaseFlags {
  readonly log?: string;
}

const READS = "fails where reading stops at damage or before the checkpoint's row, and checks no signature";

/** How often a followed log is looked at. */
const FOLLOW_MS = 250;

function addSearches(audit: Command, host: AuditHost): void {
  const run = async (folder: string, flags: SearchFlags, change: { last?: number; follow?: true }) => {
    const { searchLog } = await import("./audit-search.ts");
    const later = async () => new Promise<boolean>((resolve) => SYSTEM_CLOCK.after(FOLLOW_MS, () => resolve(true)));
    const { RowProgress, signedRows } = await import("./row-progress.ts");
    using _ = change.follow ? keepAlive() : null;
    // Between rows on the same terminal it would only be in the way.
    const isQuiet = change.follow === true || process.stdout.isTTY;
    using progress = new RowProgress(host.output, { total: await signedRows(folder), isQuiet });
    await searchLog(folder, {
      onRows: progress.rows,
      filter: await filterOf(flags),
      format: flags.json ? "jsonl" : flags.format,
      last: change.last ?? null,
      more: change.follow ? later : null,
      out: (text) => host.output.out(text),
      damaged: (error) => host.output.error(`${printable(error.message)}\n`),
      pruned: (rows) => host.output.error(`${rows} rows were pruned; hpcc audit verify tells when and why\n`),
    });
  };
  const search = async (folder: string | undefined, flags: DatabaseSearchFlags) => {
    const isDatabase = flags.database !== undefined || flags.databaseFile !== undefined;
    if (isDatabase === (folder !== undefined) || (flags.log !== undefined && !isDatabase))
      throw new HpccError("argument.invalid", "name either a log's folder, or a database and perhaps a --log of it");
    if (folder !== undefined) return run(folder, flags, {});
    const { searchDatabase } = await import("./audit-database.ts");
    await searchDatabase(databaseNames(flags), {
      filter: await filterOf(flags),
      log: flags.log ?? null,
      format: flags.json ? "jsonl" : flags.format,
      out: (text) => host.output.out(text),
    });
  };
  const command = (name: string, description: string, argument = "<folder>") =>
    audit
      .command(name)
      .description(description)
      .argument(argument, "the log's folder, or the worker's state folder")
      .addOption(new Option("--format <name>", "in which form").choices(["tsv", "jsonl", "csv"]).default("tsv"))
      .option("--json", "the same as --format jsonl");
  command("export", `print all rows; ${READS}`).action(async (folder: string, flags: SearchFlags) =>
    run(folder, flags, {}),
  );
  command("tail", `print the last rows; ${READS}`)
    .option("--last <n>", `how many (default: ${AUDIT_ROWS_SHOWN})`, parseCount)
    .option("--follow", "go on with rows as they come")
    .action(async (folder: string, flags: SearchFlags & { follow?: true }) =>
      run(folder, flags, { last: flags.last ?? AUDIT_ROWS_SHOWN, ...(flags.follow && { follow: true }) }),
    );
  addDatabaseOptions(command("search", `print the rows that fit all that is named; ${READS}`, "[folder]"))
    .option("--log <name>", "in a database: of the log of this name")
    .option("--tenant <name>", "of this tenant")
    .option("--principal <id>", "of this client, by its SPIFFE id")
    .option("--kind <name>", "of this kind")
    .option("--vm <name>", "about this VM")
    .option("--build <id>", "of this build, by what its client calls it")
    .option("--image <digest>", "with this image, or the start of its digits")
    .option("--source <digest>", "with this source")
    .option("--output <digest>", "with this object")
    .option("--since <time>", "that ended from then on")
    .option("--until <time>", "that ended before then")
    .action(search);
}

async function filterOf(flags: SearchFlags): Promise<RowFilter> {
  const { parseKind, parseSpan } = await import("./audit-search.ts");
  const { tenant = null, principal = null, vm = null, build = null } = flags;
  const { image = null, source = null, output = null } = flags;
  const kind = flags.kind === undefined ? null : parseKind(flags.kind);
  return { tenant, principal, kind, vm, build, image, source, output, ...parseSpan(flags) };
}

interface CheckFlags {
  readonly key?: string[];
  readonly checkpoint?: string[];
  readonly receipts?: string[];
  readonly witness?: string[];
  readonly witnessQuorum?: number;
  readonly witnessSince?: string;
  readonly json?: true;
}

function addChecks(audit: Command, host: AuditHost, setExitCode: (code: number) => void): void {
  const check = async (folder: string, receipts: readonly string[], flags: CheckFlags) => {
    const { checkLog, printCheck } = await import("./audit-check.ts");
    const { key: keys = [], checkpoint: checkpoints = [] } = flags;
    const { witness = [], witnessQuorum: quorum = null, witnessSince } = flags;
    const { parseTime } = await import("./audit-search.ts");
    const { RowProgress, signedRows } = await import("./row-progress.ts");
    const sinceMs = witnessSince === undefined ? null : parseTime(witnessSince);
    const witnesses = { keys: witness, quorum, sinceMs };
    using progress = new RowProgress(host.output, { total: await signedRows(folder), isQuiet: false });
    const found = await checkLog(folder, { keys, checkpoints, receipts, witnesses, onSegment: progress.segment });
    progress[Symbol.dispose]();
    host.output.out(flags.json ? json(found) : printCheck(found));
    setExitCode(found.problems.length === 0 ? 0 : 1);
  };
  const command = (name: string, description: string) =>
    audit
      .command(name)
      .description(description)
      .argument("<folder>", "the log's folder, or the worker's state folder")
      .option("--key <key>", "a key of the log that you know, as `hpcc ca log-key` prints it; any number", collect)
      .option("--checkpoint <file>", "a checkpoint of the log that you have kept; any number", collect)
      .option("--witness <key>", "a key of a witness, as `hpcc ca witness-key` prints it; any number", collect)
      .option("--witness-quorum <n>", "how many of them must have cosigned the log (default: all)", parseCount)
      .option("--witness-since <time>", "and not before then")
      .option("--json", "print JSON");
  command("verify", "check that a log is what was signed, without a worker; name the first bad row").action(
    async (folder: string, flags: CheckFlags) => check(folder, [], flags),
  );
  command("check-receipts", "check a log, and that it holds each row whose receipt was kept")
    .option("--receipts <path>", "receipts, or a folder of them (default: this user's); any number", collect)
    .action(async (folder: string, flags: CheckFlags) => {
      const own = () => [`${resolveDirectories(host.env, host.uid).state}/receipts`];
      await check(folder, flags.receipts ?? own(), flags);
    });
}

function collect(value: string, values: string[] = []): string[] {
  return [...values, value];
}
