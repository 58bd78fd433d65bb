// Replay as the daemon sees it: records of its answered calls, and what launchers made of them since it last asked. Replayed results count as
// used in the local store, which else would remove them first.
import type { Clock, Timer } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import type { CallObserver } from "../call/answered-call.ts";
import { HitLog, type ReplayUse } from "./hit-log.ts";
import { ReplayWriter, type ReplayWriterOptions } from "./replay-writer.ts";

const REFRESH_MS = 60_000;

export interface ReplaysOptions extends Omit<ReplayWriterOptions, "clock" | "logger"> {
  readonly store: Pick<LocalStore, "readRecord" | "find">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of replays; those of records that are gone have no use. */
  readonly replayed: (hits: number, uses: readonly ReplayUse[]) => void;
}

export class Replays {
  readonly writer: ReplayWriter;
  readonly #options: ReplaysOptions;
  readonly #log: HitLog;
  #timer: Timer | null = null;
  #closed = false;

  constructor(options: ReplaysOptions) {
    this.#options = options;
    this.writer = new ReplayWriter(options);
    this.#log = new HitLog(options.folder, options.logger);
    this.#wait(0);
  }

  get observer(): CallObserver {
    return this.writer;
  }

  /** Counts what was replayed since the last time. A log that cannot be read costs figures, nothing else. */
  async refresh(): Promise<void> {
    const { store, replayed, logger } = this.#options;
    try {
      const { hits, uses } = await this.#log.take();
      if (hits > 0) replayed(hits, uses);
      for (const { call } of uses) if (call !== null) await store.readRecord(call);
    } catch (error) {
      logger.warn("replay.hits_unread", { error: String(error) });
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.writer.close();
    await this.refresh();
  }

  #wait(delayMs: number): void {
    this.#timer = this.#options.clock.after(delayMs, () => {
      void this.refresh().then(() => {
        if (!this.#closed) this.#wait(REFRESH_MS);
      });
    });
  }
}
