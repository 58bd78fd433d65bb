// `hpcc daemon --foreground`: the user's daemon.

import { HpccError } from "../base/errors.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { VERSION } from "../base/version.ts";
import { type ClientConfig, loadClientConfig } from "../config/client.ts";
import { type Directories, type Environment, resolveDirectories } from "../config/directories.ts";
import { startDaemon } from "../daemon/control/daemon.ts";
import { CallHistoryRecorder } from "../daemon/history/call-history.ts";
import { programLogger, serveUntilSignal } from "./process.ts";

/** A daemon that was started with less than the user's configuration gives way to another one as soon as calls pause. */
const MAKESHIFT_IDLE_MS = 1_000;
const NO_FILE = "/dev/null";

/** The daemon's own settings. Where they cannot be read it starts without: each call says what is wrong, and how it is to be mended. */
function startingConfig(
  env: Environment,
  directories: Directories,
): { readonly config: ClientConfig; readonly fault: string | null } {
  try {
    return { config: loadClientConfig({ env, projectRoot: null, directories }).config, fault: null };
  } catch (error) {
    if (!(error instanceof HpccError) || error.code !== "config.invalid") throw error;
    const nothing = { ...directories, userConfig: NO_FILE, systemConfig: NO_FILE };
    const { config } = loadClientConfig({ env: {}, projectRoot: null, directories: nothing });
    return { config: { ...config, daemonIdleMs: MAKESHIFT_IDLE_MS }, fault: error.message };
  }
}

/** Is the daemon until it is told to end, or has been idle for long. */
export async function runDaemon(env: Environment, uid: number): Promise<void> {
  const directories = resolveDirectories(env, uid);
  const { config, fault } = startingConfig(env, directories);
  const logger = programLogger("daemon", config.logLevel);
  if (fault !== null) logger.warn("config.invalid", { message: fault });
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
