// The one entry of hpcc's TypeScript programs: the launcher runs it for every sub-command, `daemon --foreground` included.
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { createJsonLogger, writeStderr } from "../base/system/json-logger.ts";
import { runCli } from "../cli/program.ts";
import { replayFolder, resolveDirectories } from "../config/directories.ts";

const { env } = process;
const uid = process.getuid?.() ?? 0;
const bundle = process.argv[1] ?? "";

/** Of sysexits.h: a program that could not say what it found. */
const EX_IOERR = 74;
let outputCode = 0;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") {
    // `hpcc stats | head`: nobody reads on. What a command judges still counts, as in `hpcc audit verify LOG | head`.
    if (process.argv.includes("--follow")) process.exit(0);
    return;
  }
  if (outputCode === 0) writeStderr(`hpcc: cannot write the output: ${error.message}\n`);
  outputCode = EX_IOERR;
  process.exitCode ||= EX_IOERR;
});

const code = await runCli(process.argv.slice(2), {
  env,
  uid,
  clock: SYSTEM_CLOCK,
  node: process.execPath,
  bundle,
  output: {
    out: (text) => process.stdout.write(text),
    error: writeStderr,
  },
  async runDaemon() {
    const { runDaemon } = await import("./daemon.ts");
    await runDaemon(env, uid);
  },
  async runWorker(file, flags) {
    const { runWorker } = await import("./worker.ts");
    await runWorker(env, file, flags);
  },
  async runScheduler(file, flags) {
    const { runScheduler } = await import("./scheduler.ts");
    await runScheduler(env, file, flags);
  },
  async runWitness(file) {
    const { runWitness } = await import("./witness.ts");
    await runWitness(env, file);
  },
  async images() {
    const { ImageStore } = await import("../image/image-store.ts");
    return new ImageStore(resolveDirectories(env, uid).images);
  },
  async replayUpkeep() {
    const { lastReplays, removeReplays } = await import("../daemon/replay/replay-upkeep.ts");
    const folder = replayFolder(resolveDirectories(env, uid).state);
    return { lastReplays: () => lastReplays(folder), removeReplays: () => removeReplays(folder) };
  },
  async doctorChecks(workerFile) {
    const { doctorChecks } = await import("./doctor-checks.ts");
    return doctorChecks(env, uid, workerFile);
  },
  async history() {
    const { openHistory } = await import("../daemon/history/history-reader.ts");
    return openHistory(resolveDirectories(env, uid).state);
  },
  async inspectState(folder, hash) {
    const { inspectState } = await import("../worker/inspect/inspection.ts");
    return inspectState(folder, hash);
  },
  async keptBlobs(folder) {
    const { existsSync } = await import("node:fs");
    const { openState } = await import("../worker/inspect/inspection.ts");
    const { stateFolders } = await import("../worker/state-folders.ts");
    return existsSync(stateFolders(folder).store) ? openState(folder) : null;
  },
  async revokeResults(stateFolder, request) {
    const { revokeResults } = await import("../worker/control/revoke-request.ts");
    const logger = createJsonLogger({ write: writeStderr, level: "error", clock: SYSTEM_CLOCK });
    return revokeResults(stateFolder, request, { clock: SYSTEM_CLOCK, logger });
  },
  async askRetention(stateFolder, ask) {
    const { askRetention } = await import("../worker/control/retention-request.ts");
    const logger = createJsonLogger({ write: writeStderr, level: "error", clock: SYSTEM_CLOCK });
    return askRetention(stateFolder, ask, { clock: SYSTEM_CLOCK, logger });
  },
  async reproducing(options) {
    const { openReproducing } = await import("./reproduce.ts");
    return openReproducing(options, { env, uid, clock: SYSTEM_CLOCK });
  },
});
process.exitCode = code || outputCode;
