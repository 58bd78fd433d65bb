// Finds a result at peers: asks those that placement names for its key, and whom they name; checks what comes and keeps its blobs.
// A peer that is slow, broken or lying is a miss and is left alone for a while. The search itself never fails.
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import type { PeerTrust } from "../../core/sharing/peer-trust.ts";
import type { CachedAction, TenantStore } from "../../store/action-cache.ts";
import { frameSizeMax } from "../../store/zstd-frame.ts";
import { blobsToSend, fetchFrom, type PeerAnswer } from "../../wire/peer/fetch.ts";
import type { StatementVerifier } from "../../wire/peer/signed-statement.ts";
import { type Checked, checkFound, lieOf, PeerLie, type ResultSizes, type WantedResult } from "./check-found.ts";
import type { PeerCounters } from "./counters.ts";
import type { Peer, PeerDirectory } from "./directory.ts";
import type { PeerFault, PeerHealth } from "./peer-health.ts";

export interface PeerSearchOptions {
  readonly directory: PeerDirectory;
  readonly health: PeerHealth;
  readonly verifier: () => StatementVerifier;
  readonly trust: PeerTrust;
  readonly sizes: ResultSizes;
  /** How long a job waits until a peer says that it has the result. */
  readonly answerMs: number;
  /** How long the result may take from then on. */
  readonly fetchMs: number;
  readonly counters: PeerCounters;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Questions that are open at one time, over all peers; each holds a few chunks in memory. */
const OPEN_QUESTIONS_MAX = 64;
/** A timer that fires later than this share of its time says that this worker was busy. */
const OVERSLEPT_SHARE = 1.5;
/** Peers that are asked for one key. */
const PEERS_PER_KEY_MAX = 4;

export class PeerSearch {
  readonly #options: PeerSearchOptions;
  readonly #open = new Semaphore(OPEN_QUESTIONS_MAX);

  constructor(options: PeerSearchOptions) {
    this.#options = options;
  }

  /**
   * The entry as it may be kept, its maker's statement with it, when its blobs are in the store; null for a miss, whatever the
   * reason. Throws when the signal is aborted.
   */
  async find(wanted: WantedResult, store: TenantStore, signal: AbortSignal): Promise<CachedAction | null> {
    const { directory, clock, answerMs } = this.#options;
    const peers = directory.homes(wanted.key, wanted.action.imageDigest);
    const release = peers.length === 0 ? null : await this.#place(signal);
    if (release === null) return null;
    const late = new AbortController();
    const question: Question = { wanted, store, signal, late: late.signal, overslept: false };
    const startMs = clock.monotonicMs();
    const timer = clock.after(answerMs, () => {
      question.overslept = clock.monotonicMs() - startMs > answerMs * OVERSLEPT_SHARE;
      late.abort();
    });
    try {
      return await this.#search(peers, question);
    } finally {
      timer.cancel();
      release();
    }
  }

  /** Waits for a place among the open questions, no longer than a result may take; null when none came. */
  async #place(signal: AbortSignal): Promise<(() => void) | null> {
    const { clock, fetchMs } = this.#options;
    const given = new AbortController();
    const timer = clock.after(fetchMs, () => given.abort());
    try {
      return await this.#open.take(AbortSignal.any([signal, given.signal]));
    } catch {
      signal.throwIfAborted();
      return null;
    } finally {
      timer.cancel();
    }
  }

  async #search(peers: Peer[], question: Question): Promise<CachedAction | null> {
    const { directory, health, counters } = this.#options;
    for (let at = 0; at < Math.min(peers.length, PEERS_PER_KEY_MAX) && !question.late.aborted; at += 1) {
      question.signal.throwIfAborted();
      const peer = peers[at]!;
      if (!health.begin(peer.id)) continue;
      counters.asked += 1;
      const asked = await this.#put(peer, question);
      if (asked.kind === "shared") return asked.action;
      for (const id of asked.holders) {
        const holder = directory.get(id);
        if (holder !== null && !peers.includes(holder)) peers.push(holder);
      }
    }
    return null;
  }

  async #put(peer: Peer, question: Question): Promise<Asked> {
    const { directory, health } = this.#options;
    const call = new AbortController();
    const stop = () => call.abort();
    const { signal, late } = question;
    signal.addEventListener("abort", stop, { once: true });
    late.addEventListener("abort", stop, { once: true });
    const state = { slow: false, answered: false };
    try {
      const answer = await fetchFrom(directory.client(peer), question.wanted, call.signal);
      state.answered = true;
      late.removeEventListener("abort", stop);
      if (answer.kind === "not-found") {
        health.answered(peer.id);
        return { kind: "miss", holders: answer.holders };
      }
      return await this.#take(peer, question, answer, () => {
        state.slow = true;
        stop();
      });
    } catch (error) {
      const slow = state.slow || (!state.answered && late.aborted);
      this.#blame(peer, error, slow, signal.aborted || (slow && question.overslept));
      return MISS;
    } finally {
      signal.removeEventListener("abort", stop);
      late.removeEventListener("abort", stop);
      stop();
    }
  }

  async #take(
    peer: Peer,
    { wanted, store }: Question,
    found: PeerAnswer & { readonly kind: "found" },
    late: () => void,
  ): Promise<Asked> {
    const { clock, verifier, trust, sizes, fetchMs, counters, health } = this.#options;
    const timer = clock.after(fetchMs, late);
    try {
      const checked = checkFound(found, wanted, { verifier: verifier(), trust, sizes, nowMs: clock.wallMs() });
      const action = checked && entryOf(checked, found);
      if (action === null || checked === null || (await store.actions.revoked(wanted.key, action))) {
        counters.unfit += 1;
        health.answered(peer.id);
        return MISS;
      }
      await this.#receive(checked, found, store);
      health.answered(peer.id);
      counters.hits += 1;
      return { kind: "shared", action };
    } finally {
      timer.cancel();
      await found.frames.close();
    }
  }

  /** Each frame must hold exactly what the manifest names; the store checks that before it keeps it. */
  async #receive(
    { manifest }: Checked,
    { frames, manifest: encoded }: PeerAnswer & { readonly kind: "found" },
    { blobs }: TenantStore,
  ): Promise<void> {
    const { counters } = this.#options;
    for (const ref of blobsToSend(manifest)) {
      const frame = await frames.next(frameSizeMax(ref.size));
      try {
        await blobs.putFrame(ref, counted(frame, counters), "cache");
      } catch (error) {
        throw lieOf(error);
      }
    }
    await blobs.putBytes(encoded, "kept", encoded.length);
  }

  #blame(peer: Peer, error: unknown, slow: boolean, ours: boolean): void {
    const { health, counters, logger } = this.#options;
    const fields = { peer: peer.id, error: error instanceof Error ? error.message : String(error) };
    const fault = ours ? null : faultOf(error, slow);
    if (fault === null) {
      health.left(peer.id);
      if (!ours) logger.warn("worker.peers.not_taken", fields);
      return;
    }
    health.failed(peer.id, fault);
    if (fault === "lied") {
      counters.lies += 1;
      logger.error("worker.peers.lied", fields);
    } else {
      counters[fault] += 1;
      logger.warn(`worker.peers.${fault}`, fields);
    }
  }
}

interface Question {
  readonly wanted: WantedResult;
  readonly store: TenantStore;
  readonly signal: AbortSignal;
  /** No answer counts any more. */
  readonly late: AbortSignal;
  /** This worker was too busy to hear of it in time, which is no fault of a peer. */
  overslept: boolean;
}

type Asked =
  | { readonly kind: "shared"; readonly action: CachedAction }
  | { readonly kind: "miss"; readonly holders: readonly string[] };

const MISS: Asked = { kind: "miss", holders: [] };

/** Null when the peer is not to blame: it is busy, or the own store failed. */
function faultOf(error: unknown, slow: boolean): PeerFault | null {
  if (error instanceof PeerLie) return "lied";
  if (slow) return "slow";
  if (!(error instanceof HpccError) || error.code.startsWith("store.")) return null;
  return error.code === "limit.exceeded" ? null : "broken";
}

function entryOf({ statement }: Checked, found: { readonly statement: Uint8Array; readonly manifest: Uint8Array }) {
  const { isolation, life, compileUs, vm, worker, principal, image, row, madeMs, confirmedBy } = statement;
  const made = { isolation, life, compileUs, vm, worker: worker.name, principal, image, row, madeMs, confirmedBy };
  return { ...made, result: found.manifest, statement: found.statement } satisfies CachedAction;
}

function counted(frame: Uint8Array | AsyncIterable<Uint8Array>, counters: PeerCounters) {
  if (frame instanceof Uint8Array) {
    counters.bytesFetched += frame.length;
    return frame;
  }
  return countedParts(frame, counters);
}

async function* countedParts(parts: AsyncIterable<Uint8Array>, counters: PeerCounters): AsyncGenerator<Uint8Array> {
  for await (const part of parts) {
    counters.bytesFetched += part.length;
    yield part;
  }
}
