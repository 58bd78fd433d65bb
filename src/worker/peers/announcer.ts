// Tells peers which results this worker has: those that placement names for a key hear that it is here, with its maker's statement.
// Nothing is sent but the statement. What cannot be told is dropped, since it is only a hint; a peer that comes later is told of
// the latest results that it stands for.
import { create } from "@bufbuild/protobuf";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { AnnounceRequestSchema, PeerService } from "../../gen/hpcc/peer/v1/peer_pb.js";
import { STATEMENTS_MAX } from "../../wire/peer/limits.ts";
import type { PeerCounters } from "./counters.ts";
import type { Peer, PeerDirectory } from "./directory.ts";
import type { PeerHealth } from "./peer-health.ts";

export interface AnnouncerOptions {
  readonly directory: PeerDirectory;
  readonly health: PeerHealth;
  readonly counters: PeerCounters;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A result that is here. */
export interface Announced {
  readonly key: Digest;
  readonly image: Digest;
  /** Its maker's signed statement. */
  readonly statement: Uint8Array;
}

/** Results that a peer that comes later is told of. */
const REMEMBERED_MAX = 4_096;
/** Statements that wait for one peer; beyond that the oldest are dropped. */
const WAITING_MAX = 4_096;
/** Statements that come within this time travel together. */
const GATHER_MS = 20;
const ANNOUNCE_TIMEOUT_MS = 5_000;

interface Outbox {
  waiting: Uint8Array[];
  sending: Promise<void> | null;
}

export class Announcer {
  readonly #options: AnnouncerOptions;
  /** By key, the latest last. */
  readonly #remembered = new Map<Digest, Announced>();
  readonly #outboxes = new Map<string, Outbox>();
  #closed = false;

  constructor(options: AnnouncerOptions) {
    this.#options = options;
  }

  announce(result: Announced): void {
    if (this.#closed) return;
    this.#remembered.delete(result.key);
    this.#remembered.set(result.key, result);
    const [oldest] = this.#remembered.keys();
    if (oldest !== undefined && this.#remembered.size > REMEMBERED_MAX) this.#remembered.delete(oldest);
    for (const peer of this.#options.directory.homes(result.key, result.image)) this.#tell(peer, result.statement);
  }

  /** These peers are new, or have lost what they were told. */
  joined(peers: readonly Peer[]): void {
    const ids = new Set(peers.map(({ id }) => id));
    if (ids.size === 0) return;
    for (const { key, image, statement } of this.#remembered.values())
      for (const home of this.#options.directory.homes(key, image)) if (ids.has(home.id)) this.#tell(home, statement);
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    for (const { sending } of this.#outboxes.values()) await sending;
  }

  close(): void {
    this.#closed = true;
    for (const outbox of this.#outboxes.values()) outbox.waiting = [];
  }

  #tell(peer: Peer, statement: Uint8Array): void {
    const outbox = this.#outboxes.get(peer.id) ?? { waiting: [], sending: null };
    this.#outboxes.set(peer.id, outbox);
    outbox.waiting.push(statement);
    if (outbox.waiting.length > WAITING_MAX) {
      outbox.waiting.shift();
      this.#options.counters.unannounced += 1;
    }
    outbox.sending ??= this.#send(peer.id, outbox);
  }

  async #send(id: string, outbox: Outbox): Promise<void> {
    const { clock } = this.#options;
    await new Promise<void>((resolve) => clock.after(GATHER_MS, resolve));
    while (outbox.waiting.length > 0 && !this.#closed)
      await this.#sendSome(id, outbox.waiting.splice(0, STATEMENTS_MAX));
    // Nothing can come between the last look and this.
    this.#outboxes.delete(id);
  }

  async #sendSome(id: string, statements: readonly Uint8Array[]): Promise<void> {
    const { directory, health, counters, logger } = this.#options;
    const peer = directory.get(id);
    if (peer === null || !health.begin(id)) {
      counters.unannounced += statements.length;
      return;
    }
    try {
      const request = create(AnnounceRequestSchema, { statements: [...statements] });
      const timeoutMs = ANNOUNCE_TIMEOUT_MS;
      const { noted } = await directory.client(peer).unary(PeerService.method.announce, request, { timeoutMs });
      health.answered(id);
      const taken = Math.min(noted, statements.length);
      counters.announced += taken;
      counters.unannounced += statements.length - taken;
    } catch (error) {
      if (error instanceof HpccError && error.code === "limit.exceeded") health.left(id);
      else health.failed(id, "broken");
      counters.unannounced += statements.length;
      logger.debug("worker.peers.not_told", { peer: id, error: String(error) });
    }
  }
}
