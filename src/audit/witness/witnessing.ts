// Has a log's checkpoints cosigned, beside everything else: no row and no answer waits for a witness. Each witness's newest cosigned
// checkpoint is a file of its own beside the log, so that one that is away takes nothing from what the others have signed.
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { backoffMs } from "../../base/backoff.ts";
import { type Clock, pause } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { readCheckpoint } from "../../core/note/checkpoint.ts";
import type { WitnessAddress } from "../../core/note/witness-address.ts";
import { CHECKPOINT_FILE, WITNESSED_FOLDER } from "../log-tree.ts";
import { CheckedTiles, TileLost } from "../tiles.ts";
import { type Published, WitnessClient } from "./witness-client.ts";

export interface WitnessingOptions {
  /** The log's folder. */
  readonly folder: string;
  readonly witnesses: readonly WitnessAddress[];
  /** Certificates of authorities for witnesses on HTTPS. */
  readonly ca: readonly string[];
  /** Makes tiles again that are lost or damaged; without them nothing can be cosigned. */
  readonly mendTiles: () => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface WitnessCounters {
  /** Checkpoints that a witness has cosigned. */
  cosigned: number;
  /** Requests that failed. */
  failed: number;
  /** Those of them that failed because the witness has seen another log. */
  disputed: number;
}

/** A witness is asked no more often, and also without new rows after the longer time: what it signs says when. */
const INTERVAL_MS = 1_000;
const REFRESH_MS = 10 * 60_000;
const RETRY = { firstMs: 1_000, maxMs: 60_000 } as const;
/** How long the end of a worker waits for the last cosignatures. */
const LAST_MS_MAX = 2_000;

export class Witnessing {
  readonly counters: WitnessCounters = { cosigned: 0, failed: 0, disputed: 0 };
  readonly #options: WitnessingOptions;
  readonly #ended = new AbortController();
  readonly #loops: readonly Promise<void>[];
  #wake = Promise.withResolvers<void>();
  readonly #closing = Promise.withResolvers<void>();
  #isClosing = false;

  private constructor(options: WitnessingOptions) {
    this.#options = options;
    this.#loops = options.witnesses.map(async (witness) => this.#follow(new WitnessClient(witness, options.ca)));
  }

  static start(options: WitnessingOptions): Witnessing {
    return new Witnessing(options);
  }

  /** Asks for what is not cosigned yet, a short time at most, and ends. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#closing.resolve();
    const late = this.#options.clock.after(LAST_MS_MAX, () => this.#ended.abort());
    await Promise.all(this.#loops);
    late.cancel();
  }

  /** There is a new checkpoint. */
  readonly published = (): void => {
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  };

  async #follow(client: WitnessClient): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#ended;
    let done = -1;
    let doneMs = 0;
    for (let failures = 0; !signal.aborted; ) {
      const woken = this.#wake.promise;
      const last = this.#isClosing;
      const newest = await this.#newest();
      const due = newest !== null && (newest.size > done || clock.monotonicMs() - doneMs >= REFRESH_MS);
      if (due) {
        const cosigned = await this.#ask(client, newest);
        failures = cosigned ? 0 : failures + 1;
        if (cosigned) [done, doneMs] = [newest.size, clock.monotonicMs()];
      }
      if (last) return;
      const waitMs = failures > 0 ? backoffMs(RETRY, failures, Math.random()) : due ? INTERVAL_MS : REFRESH_MS;
      // After a failure, or just after it was asked, a new checkpoint does not hurry it; the end does.
      const stop = new AbortController();
      await Promise.race([pause(clock, waitMs, stop.signal), this.#closing.promise, ...(due ? [] : [woken])]);
      stop.abort();
    }
  }

  async #newest(): Promise<Published | null> {
    try {
      const checkpoint = await readFile(join(this.#options.folder, CHECKPOINT_FILE), "utf8");
      return { size: readCheckpoint(checkpoint).size, checkpoint };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") this.#failed("", error);
      return null;
    }
  }

  async #ask(client: WitnessClient, newest: Published): Promise<boolean> {
    const { folder, logger } = this.#options;
    const { key } = client.address;
    try {
      const tiles = new CheckedTiles(folder, readCheckpoint(newest.checkpoint));
      const { line } = await client.cosign(newest, tiles.hashAt, this.#ended.signal);
      await keep(join(folder, WITNESSED_FOLDER), key.id.toString("hex"), `${newest.checkpoint}${line}\n`);
      this.counters.cosigned++;
      logger.debug("audit.witness.cosigned", { witness: key.name, size: newest.size });
      return true;
    } catch (error) {
      if (error instanceof TileLost) await this.#mend(newest, error);
      else this.#failed(key.name, error);
      return false;
    }
  }

  async #mend({ checkpoint }: Published, lost: TileLost): Promise<void> {
    // A newer checkpoint has taken the place of this one's tiles; it is the next to be cosigned.
    if ((await this.#newest())?.checkpoint !== checkpoint) return;
    this.counters.failed++;
    try {
      await this.#options.mendTiles();
    } catch (error) {
      this.#options.logger.error("audit.tiles.failed", { lost: lost.message, error: String(error) });
    }
  }

  #failed(witness: string, error: unknown): void {
    const { logger } = this.#options;
    this.counters.failed++;
    const disputed = error instanceof HpccError && error.code === "audit.corrupt";
    if (disputed) this.counters.disputed++;
    const fields = { witness, error: error instanceof Error ? error.message : String(error) };
    if (disputed) logger.error("audit.witness.disputed", fields);
    else logger.warn("audit.witness.failed", fields);
  }
}

async function keep(folder: string, name: string, note: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, name);
  const handle = await open(`${path}.new`, "w", 0o600);
  try {
    await handle.writeFile(note);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(`${path}.new`, path);
}
