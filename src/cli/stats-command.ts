// `hpcc stats`: counts of the daemon, of one project, and why calls were not kept.
import type { Command } from "commander";
import { resolveDirectories } from "../config/directories.ts";
import { type HistoryHost, openHistory } from "./explain-command.ts";
import { json, printable } from "./output.ts";
import type { StoreStats } from "./stats.ts";

interface StatsFlags {
  readonly json?: true;
  readonly zero?: true;
  readonly why?: true;
  readonly project?: string | true;
}

export function addStats(program: Command, host: HistoryHost): void {
  program
    .command("stats")
    .description("show what became of the calls")
    .option("--why", "why results were not kept, with examples and what to do")
    .option("--project [folder]", "only calls of this folder's project (default: of the current one), of all time")
    .option("--json", "print JSON")
    .option("--zero", "print, then start counting anew")
    .action(async (flags: StatsFlags) => {
      host.output.out(
        await (flags.why || flags.project !== undefined ? ofHistory(host, flags) : ofDaemon(host, flags)),
      );
    });
}

async function ofDaemon(host: HistoryHost, { json: asJson, zero }: StatsFlags): Promise<string> {
  const { printStats, stats } = await import("./stats.ts");
  const counts = await stats(resolveDirectories(host.env, host.uid), zero === true);
  const store = await storeStats(host);
  if (asJson) return json(store === null ? counts : { ...counts, local_store: store });
  return printStats(counts, store);
}

/** What lies in the local store; null where none is used, or its configuration cannot be read, which doctor tells. */
async function storeStats(host: HistoryHost): Promise<StoreStats | null> {
  const { currentClientConfig } = await import("./current-config.ts");
  const { localStoreFigures } = await import("../store/local/upkeep.ts");
  const { HpccError } = await import("../base/errors.ts");
  try {
    const { local } = currentClientConfig(host.env).config;
    if (!local.enabled) return null;
    const { cache } = resolveDirectories(host.env, host.uid);
    const { bytes, bytesMax, records, files } = await localStoreFigures(cache, local.sizeBytesMax);
    return { bytes, bytes_max: bytesMax, results: records, files };
  } catch (error) {
    if (error instanceof HpccError) return null;
    throw error;
  }
}

async function ofHistory(host: HistoryHost, { why, project, json: asJson }: StatsFlags): Promise<string> {
  const { printWhy, projectAt, projectStats, whyReasons } = await import("./stats-why.ts");
  const root = project === undefined ? null : projectAt(project === true ? "." : project);
  const sinceMs = root === null ? await countedSinceMs(host) : 0;
  const history = await openHistory(host);
  try {
    const of = root === null ? null : projectStats(history, root);
    const reasons = why ? whyReasons(history.reasons(root, sinceMs)) : null;
    if (asJson) return json({ ...of, ...(reasons === null ? {} : { why: reasons }) });
    const { outcomeTable } = await import("./stats.ts");
    const counts = of === null ? "" : `project ${printable(of.project)}\n${outcomeTable(of.outcomes, of.calls)}`;
    return [counts, reasons === null ? "" : printWhy(reasons, currentFolder())]
      .filter((part) => part !== "")
      .join("\n");
  } finally {
    history.close();
  }
}

/** The folder that names are shown from. */
function currentFolder(): string {
  try {
    return process.cwd();
  } catch {
    return "/";
  }
}

/** Since when the daemon counts; without one, all calls that are known are looked at. */
async function countedSinceMs(host: HistoryHost): Promise<number> {
  const { askDaemon } = await import("./daemon-control.ts");
  const counts = await askDaemon(resolveDirectories(host.env, host.uid), { command: "stats", zero: false });
  const sinceMs = counts?.["since_ms"];
  return typeof sinceMs === "number" ? sinceMs : 0;
}
