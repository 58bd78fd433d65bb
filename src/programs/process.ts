// What the long-running programs share: their logger, their signals and the order of their end.
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { createJsonLogger, type LogLevel, writeStderr } from "../base/system/json-logger.ts";

/** Longest time that a shutdown may take; what hangs after that is cut off. */
const SHUTDOWN_MS_MAX = 20_000;
const BUG_EXIT_CODE = 70;
const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** The logger of a program: JSON lines to stderr. */
export function programLogger(program: string, level: LogLevel): Logger {
  return createJsonLogger({ write: writeStderr, level, clock: SYSTEM_CLOCK, fields: { program, pid: process.pid } });
}

/**
 * For a program that starts: aborted by the first SIGTERM or SIGINT. A second one ends the process at once. What serves sees to
 * signals itself; there this one's abort says nothing more.
 */
export function abortedBySignal(): AbortSignal {
  const stop = new AbortController();
  const abort = () => stop.abort(new HpccError("job.cancelled", "the program was told to end while it started"));
  for (const signal of STOP_SIGNALS) process.once(signal, abort);
  return stop.signal;
}

export interface ServeOptions {
  readonly logger: Logger;
  /** Settles when the program should end by itself. */
  readonly ended?: Promise<unknown>;
  /** On SIGHUP: read again what may have changed, certificates above all. */
  readonly reload?: () => void;
  readonly close: () => Promise<void>;
}

/** Serves until SIGTERM, SIGINT or `ended`; a second signal ends the process at once. */
export async function serveUntilSignal({ logger, ended, reload, close }: ServeOptions): Promise<void> {
  const { promise: stop, resolve } = Promise.withResolvers<string>();
  // The event loop must live on, whatever the parts keep alive.
  const alive = setInterval(() => {}, 3_600_000);
  let signals = 0;
  for (const signal of STOP_SIGNALS)
    process.on(signal, () => {
      signals += 1;
      if (signals > 1) process.exit(128 + (signal === "SIGINT" ? 2 : 15));
      resolve(signal);
    });
  process.on("SIGHUP", () => {
    if (!reload) return;
    try {
      reload();
      logger.info("program.reloaded");
    } catch (error) {
      logger.error("program.reload.failed", { error: String(error) });
    }
  });
  for (const event of ["unhandledRejection", "uncaughtException"] as const)
    process.on(event, (error: unknown) => {
      logger.error("program.bug", {
        event,
        error: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
      process.exitCode = BUG_EXIT_CODE;
      resolve("bug");
    });
  void ended?.then((why) => resolve(String(why)));
  const why = await stop;
  logger.info("program.stopping", { why });
  const impatience = setTimeout(() => {
    logger.error("program.stop.overdue");
    process.exit(1);
  }, SHUTDOWN_MS_MAX);
  await close();
  clearTimeout(impatience);
  clearInterval(alive);
}
