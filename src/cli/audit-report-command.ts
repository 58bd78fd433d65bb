// `hpcc audit report`.
import { writeFile } from "node:fs/promises";
import { type Command, InvalidArgumentError } from "commander";
import { HpccError } from "../base/errors.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { parseCount } from "./numbers.ts";
import { json, type Output } from "./output.ts";

interface ReportFlags {
  readonly log: string[];
  readonly key?: string[];
  readonly checkpoint?: string[];
  readonly witness?: string[];
  readonly witnessQuorum?: number;
  readonly witnessSince?: string;
  readonly reproduced?: string;
  readonly tenant?: string;
  readonly since?: string;
  readonly until?: string;
  readonly lines: number;
  readonly out?: string;
  readonly json?: true;
}

const LINES = 50;
const LINES_MAX = 1_000;

const collect = (value: string, values: string[] = []): string[] => [...values, value];

export function addReport(audit: Command, output: Output, setExitCode: (code: number) => void): void {
  audit
    .command("report")
    .description("write one page about logs: who compiled what where, isolation, denials, and what the logs are worth")
    .requiredOption("--log <dir>", "the log's folder, or the worker's state folder; any number", collect)
    .option("--key <key>", "a key of the logs that you know, as `hpcc ca log-key` prints it; any number", collect)
    .option("--checkpoint <file>", "a checkpoint of the log that you have kept; any number", collect)
    .option("--witness <key>", "a key of a witness, as `hpcc ca witness-key` prints it; any number", collect)
    .option("--witness-quorum <n>", "how many of them must have cosigned each log (default: all)", parseCount)
    .option("--witness-since <time>", "and not before then")
    .option("--since <time>", "rows that ended from then on")
    .option("--until <time>", "rows that ended before then")
    .option("--tenant <name>", "of this tenant, and of none")
    .option("--reproduced <file>", "a report of `hpcc reproduce --json`, to be shown with it")
    .option("--lines <n>", `lines of each table (default: ${LINES})`, parseLines, LINES)
    .option("-o, --out <file>", "write the page to this file")
    .option("--json", "print what the page shows as JSON")
    .action(async (flags: ReportFlags) => {
      const { makeReport } = await import("./audit-report.ts");
      const { reportPage } = await import("./audit-report-page.ts");
      const { parseSpan, parseTime } = await import("./audit-search.ts");
      const report = await makeReport({
        logs: flags.log,
        keys: flags.key ?? [],
        checkpoints: flags.checkpoint ?? [],
        witnesses: {
          keys: flags.witness ?? [],
          quorum: flags.witnessQuorum ?? null,
          sinceMs: flags.witnessSince === undefined ? null : parseTime(flags.witnessSince),
        },
        reproduced: flags.reproduced ?? null,
        filter: { tenant: flags.tenant ?? null, ...parseSpan(flags) },
        linesMax: flags.lines,
        nowMs: SYSTEM_CLOCK.wallMs(),
        onLog: (folder) => output.error(`reading ${folder}\n`),
      });
      const text = flags.json ? json(report) : reportPage(report);
      if (flags.out === undefined) output.out(text);
      else
        await writeFile(flags.out, text).catch((error: unknown) => {
          throw new HpccError("argument.invalid", `${flags.out} cannot be written`, { cause: error });
        });
      setExitCode(report.logs.some(({ problems }) => problems.items.length > 0) ? 1 : 0);
    });
}

function parseLines(text: string): number {
  const lines = /^[0-9]{1,4}$/.test(text) ? Number(text) : 0;
  if (lines < 1 || lines > LINES_MAX) throw new InvalidArgumentError(`it must be a number from 1 to ${LINES_MAX}.`);
  return lines;
}
