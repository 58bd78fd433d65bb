// Keeps each answered call, off the answer's path and in small slices, so that neither a call nor the event loop waits for it. Whatever fails
// here costs history alone: builds go on. Several daemons may write into one history.
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { AnsweredCall, CallObserver } from "../call/answered-call.ts";
import { databaseFault, HistoryDatabase, setAside } from "./history-database.ts";
import { type HistoryLimits, HistoryWriter, type ReplayedCalls } from "./history-writer.ts";

export interface CallHistoryOptions {
  /** The state folder; the database is made in it with the first call. */
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits?: HistoryLimits;
}

export const HISTORY_LIMITS: HistoryLimits = { callsMax: 200_000, bytesMax: 512 * 1024 * 1024 };

/** Calls that are answered within it are written at once. */
const BATCH_MS = 100;
/** How long the event loop stands still for it at a time. */
const SLICE_MS = 4;
/** Calls that wait to be written; what comes beyond is lost. */
const WAITING_MAX = 5_000;
/** How often a flush finds another daemon writing before it gives up. */
const FLUSH_TRIES = 50;
const REPLAYS_AT_ONCE = 100;
const BUSY_PAUSE_MS = 250;
/** After a disk that is full, or a folder that cannot be written. */
const FAULT_PAUSE_MS = 60_000;

export class CallHistoryRecorder implements CallObserver {
  readonly #options: CallHistoryOptions;
  readonly #limits: HistoryLimits;
  #waiting: AnsweredCall[] = [];
  #replays: ReplayedCalls[] = [];
  #timer: Timer | null = null;
  #open: { readonly database: HistoryDatabase; readonly writer: HistoryWriter } | null = null;
  #brokenUntilMs = Number.NEGATIVE_INFINITY;
  #lost = 0;

  constructor(options: CallHistoryOptions) {
    this.#options = options;
    this.#limits = options.limits ?? HISTORY_LIMITS;
  }

  answered(call: AnsweredCall): void {
    if (this.#waiting.length >= WAITING_MAX || this.#isBroken()) this.#lost += 1;
    else this.#waiting.push(call);
    if (this.#waiting.length > 0) this.#schedule(BATCH_MS);
  }

  /** Calls that launchers answered alone, told some time later; they are written after the calls that they repeat. */
  replayed(replays: readonly ReplayedCalls[]): void {
    if (this.#isBroken()) return;
    this.#replays.push(...replays.slice(0, WAITING_MAX - this.#replays.length));
    if (this.#replays.length > 0) this.#schedule(BATCH_MS);
  }

  /** Calls that were not kept, since too many waited or the disk took none. */
  get lost(): number {
    return this.#lost;
  }

  /** Writes all that waits, for somebody who is about to read. */
  flush(): void {
    for (let tries = 0; this.#waits() && tries < FLUSH_TRIES; ) if (!this.#slice()) tries += 1;
  }

  close(): void {
    this.flush();
    this.#timer?.cancel();
    this.#timer = null;
    this.#release();
  }

  #isBroken(): boolean {
    return this.#options.clock.monotonicMs() < this.#brokenUntilMs;
  }

  #schedule(delayMs: number): void {
    this.#timer ??= this.#options.clock.after(delayMs, () => {
      this.#timer = null;
      const goesOn = this.#slice();
      if (goesOn) this.#schedule(0);
      else if (this.#waits()) this.#schedule(BUSY_PAUSE_MS);
    });
  }

  /** Writes or drops a little; whether there is more that can be done now. */
  #slice(): boolean {
    try {
      const { writer } = this.#opened();
      if (writer.dropOldest()) return true;
      if (this.#waiting.length === 0) return this.#writeReplays(writer);
      const endMs = performance.now() + SLICE_MS;
      const written = writer.write(this.#waiting, () => performance.now() >= endMs);
      this.#waiting.splice(0, written);
      return true;
    } catch (error) {
      return this.#failed(error);
    }
  }

  #waits(): boolean {
    return this.#waiting.length + this.#replays.length > 0;
  }

  #writeReplays(writer: HistoryWriter): boolean {
    if (this.#replays.length === 0) return false;
    writer.writeReplays(this.#replays.slice(0, REPLAYS_AT_ONCE));
    this.#replays.splice(0, REPLAYS_AT_ONCE);
    return true;
  }

  #opened(): { readonly database: HistoryDatabase; readonly writer: HistoryWriter } {
    if (this.#open?.database.isReplaced()) this.#release();
    if (this.#open === null) {
      const { database, setAside } = HistoryDatabase.forWriting(this.#options.folder, this.#limits.bytesMax);
      if (setAside) this.#options.logger.warn("history.set_aside", { path: database.path });
      this.#open = { database, writer: new HistoryWriter(database, this.#limits) };
    }
    return this.#open;
  }

  /** Whether to go on at once. */
  #failed(error: unknown): boolean {
    const fault = databaseFault(error);
    if (fault === "busy") return false;
    const message = error instanceof Error ? error.message : String(error);
    const isOwn = this.#open !== null && !this.#open.database.isReplaced();
    this.#release();
    if (fault === "damaged" && isOwn) {
      this.#options.logger.warn("history.set_aside", { message });
      if (this.#putAside()) return this.#waits();
    }
    this.#options.logger.warn("history.failed", { message, calls: this.#waiting.length });
    this.#lost += this.#waiting.length;
    this.#waiting = [];
    this.#replays = [];
    this.#brokenUntilMs = this.#options.clock.monotonicMs() + FAULT_PAUSE_MS;
    return false;
  }

  #putAside(): boolean {
    try {
      setAside(this.#options.folder);
      return true;
    } catch {
      // The folder is gone or not ours; it is told as a failure of the history.
      return false;
    }
  }

  #release(): void {
    try {
      this.#open?.database.close();
    } catch {
      // Nothing more can be done with a database that does not even close.
    }
    this.#open = null;
  }
}
