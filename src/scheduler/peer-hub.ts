// The workers that watch their peers: each gets an answer at once, and another when a worker came, went or changed its offer,
// at most one per push interval. Load is no news here. It knows addresses and images, and no key.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { LatestValue } from "../base/latest-value.ts";
import type { Digest } from "../core/digest/digest.ts";
import { hash32 } from "../core/placement/hash.ts";
import type { Peer } from "../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { PEERS_MAX, toPeer, type WorkerOffer } from "../wire/scheduler/mapping.ts";
import { PEER_WATCHES_PER_WORKER_MAX, PEERS_PUSH_INTERVAL_MS } from "./limits.ts";

export interface PeersAnswer {
  readonly revision: bigint;
  readonly peers: readonly Peer[];
}

export interface PeerHubOptions {
  readonly clock: Clock;
  readonly watchersMax: number;
}

interface Member {
  readonly id: string;
  readonly point: number;
  readonly offer: WorkerOffer;
}

interface Watcher {
  readonly worker: string;
  readonly images: readonly Digest[];
  /** The same for watchers with the same images, who get the same answer but for themselves. */
  readonly question: string;
  revision: bigint;
  signature: string;
  readonly latest: LatestValue<PeersAnswer>;
}

/** A worker and how it looks to those who ask one question. */
interface Found {
  readonly id: string;
  readonly peer: Peer;
  readonly signature: string;
}

export class PeerHub {
  readonly #options: PeerHubOptions;
  /** By place: who is told of when there are too many is the same for every worker. */
  readonly #members: Member[] = [];
  readonly #watchers = new Set<Watcher>();
  readonly #perWorker = new Map<string, number>();
  #flush: Timer | null = null;
  #flushedMs = Number.NEGATIVE_INFINITY;

  constructor(options: PeerHubOptions) {
    this.#options = options;
  }

  /** The answers to one worker, until its signal is aborted. */
  async *watch(
    images: readonly Digest[],
    worker: string,
    signal: AbortSignal,
  ): AsyncGenerator<PeersAnswer, void, undefined> {
    const latest = new LatestValue<PeersAnswer>();
    const watcher: Watcher = { worker, images, question: images.join(), revision: 0n, signature: "", latest };
    this.#add(watcher);
    try {
      this.#answer(watcher, this.#find(images), true);
      yield* latest.values(signal);
    } finally {
      this.#remove(watcher);
    }
  }

  /** A worker has come or changed its offer; null: it has gone. */
  changed(id: string, offer: WorkerOffer | null): void {
    const old = this.#members.findIndex((member) => member.id === id);
    if (old >= 0) this.#members.splice(old, 1);
    if (offer !== null) {
      const member = { id, point: hash32(id), offer };
      const after = this.#members.findIndex(({ point }) => point > member.point);
      this.#members.splice(after < 0 ? this.#members.length : after, 0, member);
    }
    if (this.#watchers.size === 0 || this.#flush !== null) return;
    const { clock } = this.#options;
    const waitMs = Math.max(0, this.#flushedMs + PEERS_PUSH_INTERVAL_MS - clock.monotonicMs());
    this.#flush = clock.after(waitMs, () => {
      this.#flush = null;
      this.#flushedMs = clock.monotonicMs();
      const answers = new Map<string, readonly Found[]>();
      for (const watcher of this.#watchers) {
        const found = answers.get(watcher.question) ?? this.#find(watcher.images);
        answers.set(watcher.question, found);
        this.#answer(watcher, found, false);
      }
    });
  }

  /** Pushes nothing more. */
  close(): void {
    this.#flush?.cancel();
    this.#flush = null;
  }

  /** One more than a worker is told of: it may be among them itself. */
  #find(images: readonly Digest[]): Found[] {
    const places = new Map(images.map((image, place) => [image, place]));
    const found: Found[] = [];
    for (const { id, offer } of this.#members) {
      if (found.length > PEERS_MAX) break;
      const peer = toPeer(offer, places);
      if (peer.sharedImages.length === 0) continue;
      const { address, isolation, slots, sharedImages } = peer;
      const signature = [id, address, offer.caDigest, isolation, slots, sharedImages.join()].join(" ");
      found.push({ id, peer, signature });
    }
    return found;
  }

  #answer(watcher: Watcher, found: readonly Found[], always: boolean): void {
    const others = found.filter(({ id }) => id !== watcher.worker).slice(0, PEERS_MAX);
    const signature = others.map((other) => other.signature).join("\n");
    if (!always && signature === watcher.signature) return;
    watcher.signature = signature;
    watcher.revision += 1n;
    watcher.latest.put({ revision: watcher.revision, peers: others.map(({ peer }) => peer) });
  }

  #add(watcher: Watcher): void {
    const open = this.#perWorker.get(watcher.worker) ?? 0;
    if (open >= PEER_WATCHES_PER_WORKER_MAX)
      throw new HpccError("limit.exceeded", `at most ${PEER_WATCHES_PER_WORKER_MAX} watches of one worker`);
    if (this.#watchers.size >= this.#options.watchersMax)
      throw new HpccError("limit.exceeded", "this scheduler has too many workers that watch");
    this.#perWorker.set(watcher.worker, open + 1);
    this.#watchers.add(watcher);
  }

  #remove(watcher: Watcher): void {
    if (!this.#watchers.delete(watcher)) return;
    const open = this.#perWorker.get(watcher.worker) ?? 1;
    if (open > 1) this.#perWorker.set(watcher.worker, open - 1);
    else this.#perWorker.delete(watcher.worker);
  }
}
