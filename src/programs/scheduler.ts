// `hpcc scheduler --config FILE`.
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import type { Environment } from "../config/directories.ts";
import { loadSchedulerConfig } from "../config/scheduler.ts";
import { startScheduler } from "../scheduler/scheduler.ts";
import { readTlsFiles } from "../wire/grpc/tls-files.ts";
import { programLogger, serveUntilSignal } from "./process.ts";

/** Is a scheduler until a signal ends it; SIGHUP reads its certificate again. */
export async function runScheduler(
  env: Environment,
  file: string,
  flags: Readonly<Record<string, string>>,
): Promise<void> {
  const { config } = loadSchedulerConfig(env, file, flags);
  const logger = programLogger("scheduler", config.logLevel);
  const credentials = () => readTlsFiles(config.identity, SYSTEM_CLOCK.wallMs());
  const scheduler = await startScheduler(config, { credentials: credentials(), logger, clock: SYSTEM_CLOCK });
  await serveUntilSignal({
    logger,
    reload: () => scheduler.updateCredentials(credentials()),
    close: () => scheduler.close(),
  });
}
