// Brings revocations to every worker of a site: each keeps a stream from each peer, which first gives what came since the last one
// that was applied, and then each new one at once. Removing is always safe, so every worker of the trust domain is heard; but not
// faster than it can be borne. UNTRUSTED: other workers.
import { create } from "@bufbuild/protobuf";
import { type BackoffRule, backoffMs } from "../../base/backoff.ts";
import { type Clock, pause } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { RateLimit } from "../../base/rate-limit.ts";
import type { TenantId, TrustDomain } from "../../core/identity/spiffe.ts";
import {
  PeerService,
  type WatchRevocationsRequest,
  WatchRevocationsRequestSchema,
  type WatchRevocationsResponse,
} from "../../gen/hpcc/peer/v1/peer_pb.js";
import type { CallContext } from "../../wire/grpc/server.ts";
import { parseRevocations, toRevocations } from "../../wire/peer/revocations.ts";
import type { RevocationFeed } from "../revocations.ts";
import { admitPeer } from "./admit-peer.ts";
import type { PeerCounters } from "./counters.ts";
import type { Peer, PeerDirectory } from "./directory.ts";
import type { ReadPlaces } from "./read-places.ts";

export interface RevocationExchangeOptions {
  readonly feed: RevocationFeed;
  /** Whether this worker has anything of a tenant. */
  readonly knows: (tenant: TenantId) => Promise<boolean>;
  readonly directory: PeerDirectory;
  /** How far each peer's list was read. */
  readonly places: ReadPlaces;
  readonly trustDomain: TrustDomain;
  readonly counters: PeerCounters;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random: () => number;
}

const BACKOFF: BackoffRule = { firstMs: 500, maxMs: 30_000 };
/** Streams that one peer may have open here: one, and one that has not been seen to end. */
const STREAMS_PER_PEER_MAX = 2;
/** Revocations of one peer that are applied in a burst, and after that per second. */
const RATE = { burst: 1_000, perSecond: 20, keysMax: 2_048 };
const RATE_PAUSE_MS = 100;
/** Those of different lists may be told in another order than that of their sequences, which are times: a new stream begins so much earlier. */
const OVERLAP_MS = 60_000;

export class RevocationExchange {
  readonly #options: RevocationExchangeOptions;
  readonly #rate: RateLimit;
  readonly #close = new AbortController();
  /** By peer. */
  readonly #readers = new Map<string, { readonly leave: AbortController; readonly done: Promise<void> }>();
  readonly #streams = new Map<string, number>();

  constructor(options: RevocationExchangeOptions) {
    this.#options = options;
    this.#rate = new RateLimit(RATE, options.clock);
  }

  /** Reads from the peers of the directory as they are now. */
  follow(): void {
    const { directory } = this.#options;
    for (const [id, { leave }] of this.#readers) if (directory.get(id) === null) leave.abort();
    for (const peer of directory.peers) {
      const before = this.#readers.get(peer.id);
      if (before?.leave.signal.aborted === false || this.#close.signal.aborted) continue;
      // One that was away for a moment may still be being left.
      const leave = new AbortController();
      const done = this.#readAfter(before?.done, peer.id, leave.signal).finally(() => {
        if (this.#readers.get(peer.id)?.leave === leave) this.#readers.delete(peer.id);
      });
      this.#readers.set(peer.id, { leave, done });
    }
  }

  /** One peer's stream of this worker's revocations. */
  async *watch(
    { after }: WatchRevocationsRequest,
    { peer, signal }: CallContext,
  ): AsyncGenerator<WatchRevocationsResponse, void, undefined> {
    const { feed, trustDomain } = this.#options;
    const id = admitPeer(peer, trustDomain);
    const open = this.#streams.get(id) ?? 0;
    if (open >= STREAMS_PER_PEER_MAX)
      throw new HpccError("limit.exceeded", `at most ${STREAMS_PER_PEER_MAX} streams of one worker`);
    this.#streams.set(id, open + 1);
    const ended = AbortSignal.any([signal, this.#close.signal]);
    try {
      yield toRevocations([]);
      for await (const told of feed.since(Math.max(0, Number(after) - OVERLAP_MS), ended)) yield toRevocations([told]);
    } finally {
      const left = (this.#streams.get(id) ?? 1) - 1;
      if (left > 0) this.#streams.set(id, left);
      else this.#streams.delete(id);
    }
  }

  async close(): Promise<void> {
    this.#close.abort();
    await Promise.all([...this.#readers.values()].map(({ done }) => done));
  }

  async #readAfter(before: Promise<void> | undefined, id: string, leave: AbortSignal): Promise<void> {
    await before;
    await this.#read(id, leave);
  }

  async #read(id: string, leave: AbortSignal): Promise<void> {
    const { directory, clock, random } = this.#options;
    const signal = AbortSignal.any([leave, this.#close.signal]);
    for (let failures = 0; !signal.aborted; ) {
      const peer = directory.get(id);
      if (peer === null) return;
      failures = (await this.#readOnce(peer, signal)) ? 1 : failures + 1;
      await pause(clock, backoffMs(BACKOFF, failures, random()), signal);
    }
  }

  /** One stream to its end; true when it gave anything. */
  async #readOnce(peer: Peer, signal: AbortSignal): Promise<boolean> {
    const { directory, places, logger } = this.#options;
    let heard = false;
    try {
      const request = create(WatchRevocationsRequestSchema, { after: BigInt(places.of(peer.id)) });
      const stream = directory.client(peer).serverStream(PeerService.method.watchRevocations, request, { signal });
      for await (const message of stream) {
        heard = true;
        await this.#apply(peer, message, signal);
      }
    } catch (error) {
      if (!signal.aborted) logger.debug("worker.peers.revocations_broke_off", { peer: peer.id, error: String(error) });
    }
    return heard;
  }

  async #apply(peer: Peer, message: WatchRevocationsResponse, signal: AbortSignal): Promise<void> {
    const { feed, knows, places, counters, clock, logger } = this.#options;
    for (const { sequence, tenant, revocation } of parseRevocations(message, clock.wallMs())) {
      while (!this.#rate.take(peer.id) && !signal.aborted) await pause(clock, RATE_PAUSE_MS, signal);
      if (signal.aborted) return;
      if (revocation === null) logger.warn("worker.peers.revocation_refused", { peer: peer.id, sequence });
      else {
        // A tenant that is not known here gets no folder from a peer's word: what is revoked for it is revoked for all.
        const whose = tenant !== null && (await knows(tenant)) ? tenant : null;
        if (await feed.apply({ tenant: whose, revocation }, peer.id)) counters.revocations += 1;
      }
      places.note(peer.id, sequence);
    }
    await places.save();
  }
}
