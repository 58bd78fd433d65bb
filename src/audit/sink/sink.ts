// Follows a log's folder and fills a database. The log's own files are the queue: while the database is away nothing is read and
// nothing is held, and afterwards the position that the database has says where to go on.
import { type BackoffRule, backoffMs } from "../../base/backoff.ts";
import { type Clock, pause } from "../../base/clock.ts";
import { type ErrorCode, HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { NoteVerifier } from "../../core/note/signed-note.ts";
import { Database } from "./database.ts";
import type { DatabaseTarget } from "./database-target.ts";
import { carryOut, mayRemove, openRemovals, type Removal } from "./removals.ts";
import { checkSchema } from "./schema.ts";
import { LOG_START, SignedRows } from "./signed-rows.ts";
import { readPosition, writeBatch } from "./write-rows.ts";

export interface SinkOptions {
  readonly folder: string;
  /** What the log is called in the database. */
  readonly log: string;
  readonly target: DatabaseTarget;
  /** The log's keys as the caller knows them; empty: those that the log names. */
  readonly keys: readonly NoteVerifier[];
  /** Ends at what is signed now, and at the first failure. */
  readonly once: boolean;
  /** Begins with the first row, and so holds each row that is there against the log. */
  readonly again: boolean;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly backoff?: BackoffRule;
}

export interface SinkCount {
  /** Rows that the database did not have. */
  readonly added: number;
  /** Rows that retention had removed from the log, and that could not be put down or compared. */
  readonly removed: number;
  /** Rows that were removed from the database, as retention had removed them from the log. */
  readonly pruned: number;
  /** Up to which row of the log that was. */
  readonly rows: number;
}

/** How often the log is looked at. */
const FOLLOW_MS = 250;
const BACKOFF: BackoffRule = { firstMs: 500, maxMs: 30_000 };

/** Resolves when all is there that is signed (`once`), or when the signal is aborted. Throws `audit.corrupt` for an alarm. */
export async function runSink(options: SinkOptions): Promise<SinkCount> {
  const sink = new Sink(options);
  const { once, signal, clock, random, logger } = options;
  for (;;) {
    try {
      await sink.followOnce();
      return sink.count;
    } catch (error) {
      if (isOf(error, "audit.corrupt")) logger.error("audit.sink.alarm", { error: error.message });
      else if (signal.aborted) return sink.count;
      if (once || !(isOf(error, "database.unavailable") || isOf(error, "audit.io"))) throw error;
      sink.failures++;
      const waitMs = Math.round(backoffMs(options.backoff ?? BACKOFF, sink.failures, random()));
      logger.warn("audit.sink.waiting", {
        error: error.message,
        failures: sink.failures,
        waitMs,
      });
      await pause(clock, waitMs, signal);
    }
  }
}

function isOf(error: unknown, code: ErrorCode): error is HpccError {
  return error instanceof HpccError && error.code === code;
}

/** The removals that are still to be carried out, once all rows are there that are signed. */
class Removing {
  readonly #database: Database;
  readonly #options: SinkOptions;
  readonly #may: boolean;
  #open: readonly Removal[];

  private constructor(database: Database, options: SinkOptions, open: readonly Removal[], may: boolean) {
    this.#database = database;
    this.#options = options;
    this.#open = open;
    this.#may = may;
    this.#warn();
  }

  static async open(database: Database, options: SinkOptions): Promise<Removing> {
    return new Removing(database, options, await openRemovals(database, options.log), await mayRemove(database));
  }

  add(removals: readonly Removal[]): void {
    this.#open = [...this.#open, ...removals];
    if (removals.length > 0) this.#warn();
  }

  /** Gives how many rows went. What the log itself has not removed yet stays. */
  async carryOut(): Promise<number> {
    if (!this.#may) return 0;
    const left: Removal[] = [];
    let count = 0;
    for (const removal of this.#open) {
      const rows = await carryOut(this.#database, this.#options, removal);
      if (rows === null) left.push(removal);
      else this.#options.logger.info("audit.sink.pruned", { tenant: removal.tenant, row: removal.sequence, rows });
      count += rows ?? 0;
    }
    this.#open = left;
    return count;
  }

  #warn(): void {
    if (this.#may || this.#open.length === 0) return;
    const rows = this.#open.reduce((sum, removal) => sum + removal.rows, 0);
    this.#options.logger.warn("audit.sink.prune_not_granted", { removals: this.#open.length, rows });
  }
}

class Sink {
  readonly #options: SinkOptions;
  /** Failures since something last went well. */
  failures = 0;
  #added = 0;
  #removed = 0;
  #pruned = 0;
  #rows = 0;
  readonly #again: boolean;

  constructor(options: SinkOptions) {
    this.#options = options;
    this.#again = options.again;
  }

  get count(): SinkCount {
    return { added: this.#added, removed: this.#removed, pruned: this.#pruned, rows: this.#rows };
  }

  /** Fills the database through one connection, until that fails or there is no more to do. */
  async followOnce(): Promise<void> {
    const { folder, log, target, keys, once, clock, signal, logger } = this.#options;
    await using database = await Database.open(target);
    await checkSchema(database);
    const position = await readPosition(database, log);
    const rows = new SignedRows(folder, this.#again ? LOG_START : position, keys);
    this.#rows = position.rows;
    const removals = await Removing.open(database, this.#options);
    while (!signal.aborted) {
      const batch = await rows.next();
      if (batch === null) this.#pruned += await removals.carryOut();
      if (batch === null && once) return;
      if (batch === null) {
        await pause(clock, FOLLOW_MS, signal);
        continue;
      }
      const added = await writeBatch(database, log, batch);
      removals.add(batch.removals);
      if (this.failures > 0) logger.info("audit.sink.going_on", { failures: this.failures, rows: batch.position.rows });
      this.failures = 0;
      this.#added += added;
      this.#removed += batch.removed;
      this.#rows = Math.max(this.#rows, batch.position.rows);
      logger.debug("audit.sink.rows", { rows: batch.position.rows, added });
    }
  }
}
