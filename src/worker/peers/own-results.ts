// What this worker states about its own compiles: a result that serves a whole tenant gets a signed statement, which is kept in its
// entry and told to those peers that stand for its key. Results of a principal alone get none, so that they never travel.
import type { Logger } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { resultDigest } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { mayBeShared } from "../../core/sharing/statement.ts";
import type { StatementSigner } from "../../wire/peer/signed-statement.ts";
import type { SharedEntry } from "../shared-entry.ts";
import type { Announcer } from "./announcer.ts";
import type { PeerCounters } from "./counters.ts";

export interface OwnResultsOptions {
  readonly signer: () => StatementSigner;
  readonly announcer: Announcer;
  readonly counters: PeerCounters;
  readonly logger: Logger;
}

/** Entries that are stated at a time; and how many may wait, beyond which they stay unsaid. */
const STATED_AT_A_TIME = 8;
const WAITING_MAX = 4_096;

export class OwnResults {
  readonly #options: OwnResultsOptions;
  readonly #places = new Semaphore(STATED_AT_A_TIME);
  readonly #under = new Set<Promise<void>>();

  constructor(options: OwnResultsOptions) {
    this.#options = options;
  }

  /** States it in the background; what was made elsewhere has its maker's statement already. */
  state(entry: SharedEntry): void {
    const { worker, row, statement } = entry.action;
    if (statement !== null || row === null || worker !== this.#options.signer().worker.name) return;
    if (!mayBeShared(entry.action) || this.#under.size >= WAITING_MAX) return;
    const done = this.#state(entry, row)
      .catch((error: unknown) =>
        this.#options.logger.warn("worker.peers.not_stated", { key: entry.key, error: String(error) }),
      )
      .finally(() => this.#under.delete(done));
    this.#under.add(done);
  }

  /** Resolves when nothing is to be stated. */
  async settled(): Promise<void> {
    await Promise.all(this.#under);
  }

  async #state({ tenant, tier, key, action, store }: SharedEntry, row: Digest): Promise<void> {
    const { signer, announcer, counters } = this.#options;
    const release = await this.#places.take(new AbortController().signal);
    try {
      const { isolation, life, confirmedBy, image, vm, principal, madeMs, compileUs } = action;
      const statement = signer().sign({
        tenant,
        tier,
        key,
        result: resultDigest(action.result),
        isolation,
        life,
        confirmedBy,
        image,
        vm,
        worker: signer().worker,
        principal,
        row,
        madeMs,
        compileUs,
      });
      // Another may have taken its place meanwhile.
      const kept = await store.actions.get(key);
      if (kept.kind === "miss" || kept.action.vm !== action.vm || kept.action.madeMs !== action.madeMs) return;
      await store.actions.put(key, { ...action, statement });
      counters.signed += 1;
      announcer.announce({ key, image, statement });
    } finally {
      release();
    }
  }
}
