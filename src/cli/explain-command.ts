// `hpcc explain FILE` and `hpcc explain --last-build`.
import type { Command } from "commander";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";
import type { CallHistory } from "../core/explain/recorded-call.ts";
import { json, type Output } from "./output.ts";
import { workingFolder } from "./working-folder.ts";

/** What commands about earlier calls need of the process. */
export interface HistoryHost {
  readonly env: Environment;
  readonly uid: number;
  readonly output: Output;
  readonly clock: Clock;
  /** Calls that were answered before; null when none was. */
  history(): Promise<CallHistory | null>;
}

export function addExplain(program: Command, host: HistoryHost): void {
  program
    .command("explain")
    .description("tell why a file was compiled again")
    .argument("[file]", "a source or an object")
    .option("--last-build", "of the current folder's project instead: what its last build was compiled for")
    .option("--json", "print JSON")
    .action(async (file: string | undefined, options: { lastBuild?: true; json?: true }) => {
      if ((file === undefined) === (options.lastBuild !== true))
        throw new HpccError("argument.invalid", "name one file, or say --last-build");
      const history = await openHistory(host);
      try {
        host.output.out(await explained(history, host, { file, asJson: options.json === true }));
      } finally {
        history.close();
      }
    });
}

async function explained(
  history: CallHistory,
  host: HistoryHost,
  { file, asJson }: { readonly file: string | undefined; readonly asJson: boolean },
): Promise<string> {
  const { currentProject, explainFile, explainLastBuild } = await import("./explain.ts");
  const print = await import("./explain-print.ts");
  const reader = { cwd: workingFolder(), nowMs: host.clock.wallMs() };
  if (file !== undefined) {
    const found = explainFile(history, file);
    return asJson ? json(print.fileExplanationForJson(found, reader)) : print.printFileExplanation(found, reader);
  }
  const build = explainLastBuild(history, currentProject());
  return asJson ? json(print.buildExplanationForJson(build, reader)) : print.printBuildExplanation(build, reader);
}

/** With the calls that the daemon has answered by now, if one runs. */
export async function openHistory(host: HistoryHost): Promise<CallHistory> {
  const { askDaemon } = await import("./daemon-control.ts");
  // What is written down can be read whatever the daemon says.
  await askDaemon(resolveDirectories(host.env, host.uid), { command: "flush" }).catch(() => null);
  const history = await host.history();
  if (history === null)
    throw new HpccError("argument.invalid", "no call is known yet", {
      hint: "Compile something through hpcc, as in `hpcc gcc -c foo.c`; what it was compiled for is known from then on.",
    });
  return history;
}
