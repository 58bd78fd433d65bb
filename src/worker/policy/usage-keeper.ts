// Keeps what was used today over a worker's restarts. It is written some seconds after it changed, whole, so that a crash loses those
// seconds' use and nothing else.
import { rename } from "node:fs/promises";
import { join } from "node:path";
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { partiesOf, QuotaLedger, type SavedUsage, type Usage } from "../../core/policy/quota-ledger.ts";
import type { CompileJob } from "../layers/layer.ts";
import type { JobObserver } from "../layers/observer.ts";
import { readBounded, replaceFile } from "./state-file.ts";

export const USAGE_SAVE_MS = 5_000;
const BYTES_MAX = 64 * 1024 * 1024;
const SCHEMA = 1;
const DAY = /^[0-9]{4}-[0-9]{2}-[0-9]{2}$/;

export interface UsageKeeperOptions {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class UsageKeeper {
  readonly ledger: QuotaLedger;
  readonly #options: UsageKeeperOptions;
  readonly #path: string;
  #timer: Timer | null = null;
  #saving: Promise<void> = Promise.resolve();

  private constructor(options: UsageKeeperOptions, saved: SavedUsage | null) {
    this.#options = options;
    this.#path = usageFile(options.folder);
    this.ledger = new QuotaLedger(saved);
  }

  /** What cannot be read is set aside, and the day begins anew. */
  static async open(options: UsageKeeperOptions): Promise<UsageKeeper> {
    return new UsageKeeper(options, await readUsage(options));
  }

  /** Charges jobs for what they cost, whatever became of them. */
  readonly observe: JobObserver = (event) => {
    if (event.t === "received" && event.bytes > 0) this.charge(event.job, { bytes: event.bytes, cpuUs: 0 });
    else if (event.t === "used" && event.cpuUs > 0) this.charge(event.job, { bytes: 0, cpuUs: event.cpuUs });
  };

  /** Saves what is not saved. */
  async close(): Promise<void> {
    if (this.#timer !== null) this.#save();
    await this.#saving;
  }

  charge({ principal, policy }: Pick<CompileJob, "principal" | "policy">, usage: Usage): void {
    const { clock } = this.#options;
    if (!this.ledger.charge(partiesOf(principal, policy), usage, clock.wallMs())) return;
    this.#timer ??= clock.after(USAGE_SAVE_MS, () => this.#save());
  }

  #save(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#saving = this.#saving
      .then(() => replaceFile(this.#path, encode(this.ledger.saved())))
      .catch((error: unknown) => this.#options.logger.error("worker.usage.not_saved", { error: String(error) }));
  }
}

function usageFile(folder: string): string {
  return join(folder, "usage.json");
}

async function readUsage({ folder, logger }: UsageKeeperOptions): Promise<SavedUsage | null> {
  const path = usageFile(folder);
  try {
    const bytes = await readBounded(path, BYTES_MAX);
    return bytes === null ? null : decode(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    logger.error("worker.usage.unreadable", { path, error: String(error) });
    await rename(path, `${path}.bad`);
    return null;
  }
}

function encode({ day, used }: SavedUsage): string {
  const entries = [...used].map(([key, { bytes, cpuUs }]) => [key, [bytes, cpuUs]] as const);
  return `${JSON.stringify({ schema: SCHEMA, day, used: Object.fromEntries(entries) })}\n`;
}

function decode(text: string): SavedUsage {
  const { schema, day, used } = JSON.parse(text) as Record<string, unknown>;
  if (schema !== SCHEMA || typeof day !== "string" || !DAY.test(day) || typeof used !== "object" || used === null)
    throw new Error("it is not what a worker writes");
  return { day, used: new Map(Object.entries(used).map(([key, value]) => [key, usageOf(value)])) };
}

function usageOf(value: unknown): Usage {
  const [bytes, cpuUs] = Array.isArray(value) ? (value as unknown[]) : [];
  if (!isCount(bytes) || !isCount(cpuUs)) throw new Error("it holds what is no use of a day");
  return { bytes, cpuUs };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
