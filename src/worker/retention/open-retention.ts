// Retention as a part of a worker: what was cut off is finished, operators are answered, and once a day the worker removes by itself what
// its policy says it may.
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { removesAny, retentionOf } from "../../core/policy/retention-rules.ts";
import type { SitePolicy } from "../../core/policy/site-policy.ts";
import type { ControlHandler } from "../control/control-socket.ts";
import { retentionHandler } from "../control/retention-request.ts";
import { LogRetention, type LogRetentionOptions } from "./log-retention.ts";

export interface RetentionOptions extends Omit<LogRetentionOptions, "graceMs"> {
  /** The policy in force; null for a worker without one. */
  readonly policy: () => SitePolicy | null;
}

export interface OpenRetention {
  /** Answers requests about retention, and leaves others to another handler. */
  handler(otherwise: ControlHandler): ControlHandler;
  /** Begins nothing more, and leaves what is under way to the next start. */
  close(): Promise<void>;
}

/** Longer than any job takes from its first look at a blob to its row. */
const SWEEP_GRACE_MS = 2 * 60 * 60 * 1000;
/** Not while a worker starts; and then each day. */
export const FIRST_RUN_MS = 10 * 60 * 1000;
export const RUN_EVERY_MS = 24 * 60 * 60 * 1000;

export function openRetention(options: RetentionOptions): OpenRetention {
  const { clock, logger, policy } = options;
  const retention = new LogRetention({ ...options, graceMs: SWEEP_GRACE_MS });
  const runs = new DailyRuns(clock, async () => runAutomatic(retention, policy(), logger));
  void retention.finish().catch((error: unknown) => sayFailed(error, logger));
  return {
    handler: (otherwise) => retentionHandler(retention, otherwise),
    async close() {
      runs.close();
      await retention.close();
    },
  };
}

async function runAutomatic(retention: LogRetention, policy: SitePolicy | null, logger: Logger): Promise<void> {
  const rules = policy === null ? null : retentionOf(policy, "automatic");
  if (policy === null || rules === null || !removesAny(rules)) return;
  try {
    const how = { cause: "policy", askedBy: "the worker", policy: policy.digest, reason: null, dryRun: false } as const;
    await retention.prune({ rules, ...how });
  } catch (error) {
    sayFailed(error, logger);
  }
}

function sayFailed(error: unknown, logger: Logger): void {
  if (error instanceof HpccError && error.code === "job.cancelled") return;
  logger.error("audit.prune.failed", { error: String(error) });
}

class DailyRuns {
  #timer: Timer | null = null;
  #closed = false;

  constructor(clock: Clock, run: () => Promise<void>) {
    const after = (ms: number) => {
      if (this.#closed) return;
      this.#timer = clock.after(ms, () => void run().finally(() => after(RUN_EVERY_MS)));
    };
    after(FIRST_RUN_MS);
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}
