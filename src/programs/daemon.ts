// `hpcc daemon --foreground`: the user's daemon.
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { VERSION } from "../base/version.ts";
import { loadClientConfig } from "../config/client.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";
import { startDaemon } from "../daemon/control/daemon.ts";
import { CallHistoryRecorder } from "../daemon/history/call-history.ts";
import { programLogger, serveUntilSignal } from "./process.ts";

/** Is the daemon until it is told to end, or has been idle for long. */
export async function runDaemon(env: Environment, uid: number): Promise<void> {
  const directories = resolveDirectories(env, uid);
  const { config } = loadClientConfig({ env, projectRoot: null, directories });
  const logger = programLogger("daemon", config.logLevel);
  const program = process.argv[1];
  const history = new CallHistoryRecorder({ folder: directories.state, clock: SYSTEM_CLOCK, logger });
  const daemon = await startDaemon({
    config,
    directories,
    logger,
    clock: SYSTEM_CLOCK,
    version: VERSION,
    env,
    ...(program !== undefined && { program }),
    observers: [history],
  });
  const close = async () => {
    await daemon.close();
    history.close();
  };
  await serveUntilSignal({ logger, ended: daemon.ended, close });
}
