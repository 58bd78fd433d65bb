// What this worker answers to others: results that serve a whole tenant, each with its maker's statement, and what it has heard of
// who has which. No message of theirs stores a result. UNTRUSTED: other workers.
import { create } from "@bufbuild/protobuf";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { RateLimit } from "../../base/rate-limit.ts";
import { resultDigest } from "../../core/action/result-manifest.ts";
import { type Digest, parseDigest } from "../../core/digest/digest.ts";
import { parseTenantId, type TenantId, type TrustDomain } from "../../core/identity/spiffe.ts";
import {
  type AnnounceRequest,
  type AnnounceResponse,
  AnnounceResponseSchema,
  type FetchRequest,
  type FetchResponse,
  FetchResponseSchema,
} from "../../gen/hpcc/peer/v1/peer_pb.js";
import type { CachedAction, TenantStore } from "../../store/action-cache.ts";
import type { CallContext } from "../../wire/grpc/server.ts";
import { blobsToSend } from "../../wire/peer/fetch.ts";
import { HOLDERS_MAX, STATEMENTS_MAX } from "../../wire/peer/limits.ts";
import type { StatementVerifier } from "../../wire/peer/signed-statement.ts";
import { chunksOf } from "../../wire/worker/fair-sender.ts";
import { CHUNK_BYTES_MAX } from "../../wire/worker/limits.ts";
import { type OpenResult, openAction } from "../cached-result.ts";
import { admitPeer } from "./admit-peer.ts";
import type { PeerCounters } from "./counters.ts";
import type { Holders } from "./holders.ts";

export interface PeerServiceOptions {
  readonly trustDomain: TrustDomain;
  readonly store: (tenant: TenantId) => TenantStore;
  /** Whether this worker has anything of a tenant: a question about another one leaves no trace. */
  readonly knows: (tenant: TenantId) => Promise<boolean>;
  readonly holders: Holders;
  readonly verifier: () => StatementVerifier;
  readonly counters: PeerCounters;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Questions that one worker, and all of them, may have open here. */
const OPEN_PER_PEER_MAX = 64;
const OPEN_MAX = 256;
/** Announcements of one worker, in a burst and after that per second. */
const ANNOUNCEMENTS = { burst: 200, perSecond: 50, keysMax: 1_024 };
/** A statement that is about to be too old is not handed on. */
const AGE_MARGIN_MS = 3_600_000;

export class PeerAnswers {
  readonly #options: PeerServiceOptions;
  readonly #openBy = new Map<string, number>();
  readonly #announcements: RateLimit;
  #open = 0;

  constructor(options: PeerServiceOptions) {
    this.#options = options;
    this.#announcements = new RateLimit(ANNOUNCEMENTS, options.clock);
  }

  async *fetch(request: FetchRequest, { peer, signal }: CallContext): AsyncGenerator<FetchResponse, void, undefined> {
    const id = admitPeer(peer, this.#options.trustDomain);
    const tenant = parseTenantId(request.tenant);
    const key = parseDigest(request.key, "the key");
    this.#begin(id);
    try {
      const found = await this.#find(tenant, key);
      if (found === null) {
        const holders = this.#options.holders.of(tenant, key, HOLDERS_MAX);
        yield create(FetchResponseSchema, { message: { case: "notFound", value: { holders } } });
      } else yield* this.#give(found, signal);
    } finally {
      this.#end(id);
    }
  }

  async announce({ statements }: AnnounceRequest, { peer }: CallContext): Promise<AnnounceResponse> {
    const { trustDomain, verifier, holders, counters, clock, logger } = this.#options;
    const id = admitPeer(peer, trustDomain);
    if (statements.length > STATEMENTS_MAX)
      throw new HpccError("limit.exceeded", `at most ${STATEMENTS_MAX} statements in one announcement`);
    if (!this.#announcements.take(id)) throw new HpccError("limit.exceeded", "too many announcements; wait a second");
    let noted = 0;
    for (const signed of statements)
      try {
        const { tenant, key } = verifier().verify(signed, clock.wallMs());
        holders.note(id, tenant, key);
        noted += 1;
      } catch (error) {
        logger.warn("worker.peers.announcement_refused", { peer: id, error: String(error) });
      }
    counters.noted += noted;
    return create(AnnounceResponseSchema, { noted });
  }

  /** Null for what is not here, serves a principal alone, or is revoked: they look the same from outside. */
  async #find(tenant: TenantId, key: Digest): Promise<Given | null> {
    const { store, knows, logger } = this.#options;
    try {
      if (!(await knows(tenant))) return null;
      const { actions, blobs } = store(tenant);
      const found = await actions.get(key);
      if (found.kind === "miss") return null;
      const { action } = found;
      const { statement } = action;
      if (statement === null || !this.#serves(action, statement, tenant, key)) return null;
      const result = await openAction(action, blobs);
      return result && { statement, action, result };
    } catch (error) {
      logger.warn("worker.peers.look_up_failed", { tenant, key, error: String(error) });
      return null;
    }
  }

  /** Only what a statement says to be the tenant's travels: nothing that a principal paid for alone has one. */
  #serves(action: CachedAction, signed: Uint8Array, tenant: TenantId, key: Digest): boolean {
    const { verifier, clock, logger } = this.#options;
    try {
      const statement = verifier().verify(signed, clock.wallMs() + AGE_MARGIN_MS);
      return statement.tenant === tenant && statement.key === key && statement.result === resultDigest(action.result);
    } catch (error) {
      logger.debug("worker.peers.statement_unfit", { tenant, key, error: String(error) });
      return false;
    }
  }

  async *#give({ statement, action, result }: Given, signal: AbortSignal): AsyncGenerator<FetchResponse, void> {
    try {
      yield create(FetchResponseSchema, {
        message: { case: "found", value: { statement, resultManifest: action.result } },
      });
      for (const { digest } of blobsToSend(result.recorded.manifest)) {
        const frame = result.parts.find((part) => part.digest === digest)?.frame;
        if (!frame) throw new HpccError("store.corrupt", "a blob of a result is not there any more");
        for await (const chunk of chunksOf(frame.chunks(), CHUNK_BYTES_MAX)) {
          if (signal.aborted) return;
          yield create(FetchResponseSchema, { message: { case: "chunk", value: chunk } });
        }
      }
      this.#options.counters.served += 1;
    } finally {
      await result.close();
    }
  }

  #begin(id: string): void {
    const open = this.#openBy.get(id) ?? 0;
    if (open >= OPEN_PER_PEER_MAX || this.#open >= OPEN_MAX)
      throw new HpccError("limit.exceeded", "this worker answers too many peers at the moment");
    this.#openBy.set(id, open + 1);
    this.#open += 1;
  }

  #end(id: string): void {
    const open = this.#openBy.get(id) ?? 1;
    if (open > 1) this.#openBy.set(id, open - 1);
    else this.#openBy.delete(id);
    this.#open -= 1;
  }
}

interface Given {
  readonly statement: Uint8Array;
  readonly action: CachedAction;
  readonly result: OpenResult;
}
