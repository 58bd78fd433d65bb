// The scheduler: a registry of workers and a look-up of them, nothing else. It mints no certificate and sees no source,
// object or key; a malicious one can only deny service.
import { create } from "@bufbuild/protobuf";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { RateLimit } from "../base/rate-limit.ts";
import type { SchedulerConfig } from "../config/scheduler.ts";
import type { HostPort } from "../core/identity/host-port.ts";
import { type Identity, spiffeId } from "../core/identity/spiffe.ts";
import {
  type RegisterRequest,
  type RegisterResponse,
  RegisterResponseSchema,
  SchedulerService,
  type WatchPeersRequest,
  type WatchPeersResponse,
  WatchPeersResponseSchema,
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../gen/hpcc/scheduler/v1/scheduler_pb.js";
import type { MessageStream } from "../wire/grpc/message-stream.ts";
import { type CallContext, RpcServer } from "../wire/grpc/server.ts";
import type { OwnCredentials } from "../wire/grpc/tls-files.ts";
import {
  parseRegistration,
  parseWatchPeersRequest,
  parseWatchRequest,
  toAssignment,
} from "../wire/scheduler/mapping.ts";
import {
  HEARTBEATS_PER_INTERVAL_MAX,
  OPEN_BURST,
  OPENS_PER_SECOND,
  RATE_IDENTITIES_MAX,
  REGISTRATION_WAIT_MS,
} from "./limits.ts";
import { PeerHub } from "./peer-hub.ts";
import { WorkerRegistry } from "./registry.ts";
import { WatchHub } from "./watch-hub.ts";

export type SchedulerSettings = Omit<SchedulerConfig, "identity" | "logLevel">;

export interface SchedulerDependencies {
  readonly credentials: OwnCredentials;
  readonly logger: Logger;
  readonly clock: Clock;
}

export interface RunningScheduler {
  /** Where it listens. */
  readonly address: HostPort;
  /** Workers known and clients watching, for status and tests. */
  counts(): { readonly workers: number; readonly watchers: number };
  /** Uses other credentials for connections from now on. */
  updateCredentials(credentials: OwnCredentials): void;
  close(): Promise<void>;
}

/** Starts a scheduler; it serves when this resolves. */
export async function startScheduler(
  settings: SchedulerSettings,
  { credentials, logger, clock }: SchedulerDependencies,
): Promise<RunningScheduler> {
  if (credentials.identity.kind !== "scheduler")
    throw new HpccError(
      "identity.forbidden",
      `a scheduler needs a scheduler's certificate, not ${spiffeId(credentials.identity)}`,
    );
  const service = new Scheduler(settings, { credentials, logger, clock });
  const server = new RpcServer({ tls: credentials.tls, logger });
  server.add(SchedulerService, {
    register: (stream, context) => service.register(stream, context),
    watch: (request, context) => service.watch(request, context),
    watchPeers: (request, context) => service.watchPeers(request, context),
  });
  const address = await server.listen(settings.listen);
  logger.info("scheduler.started", { host: address.host, port: address.port });
  return {
    address,
    counts: () => service.counts(),
    updateCredentials: (next) => server.updateTls(next.tls),
    async close() {
      service.close();
      await server.close(0);
      logger.info("scheduler.stopped");
    },
  };
}

class Scheduler {
  readonly #settings: SchedulerSettings;
  readonly #dependencies: SchedulerDependencies;
  readonly #registry: WorkerRegistry;
  readonly #hub: WatchHub;
  readonly #peers: PeerHub;
  readonly #opens: RateLimit;

  constructor(settings: SchedulerSettings, dependencies: SchedulerDependencies) {
    this.#settings = settings;
    this.#dependencies = dependencies;
    const { clock, logger } = dependencies;
    this.#registry = new WorkerRegistry({
      clock,
      logger,
      expiryMs: settings.expiryMs,
      workersMax: settings.workersMax,
      changed: (images) => this.#hub.changed(images),
      membership: (id, offer) => this.#peers.changed(id, offer),
    });
    this.#peers = new PeerHub({ clock, watchersMax: settings.workersMax });
    this.#hub = new WatchHub({
      clock,
      watchersMax: settings.watchersMax,
      watchersPerClientMax: settings.watchersPerUserMax,
      find: (query, client) => this.#registry.find(query, client),
    });
    this.#opens = new RateLimit(
      { burst: OPEN_BURST, perSecond: OPENS_PER_SECOND, keysMax: RATE_IDENTITIES_MAX },
      clock,
    );
  }

  counts(): { readonly workers: number; readonly watchers: number } {
    return { workers: this.#registry.size, watchers: this.#hub.size };
  }

  close(): void {
    this.#registry.close();
    this.#hub.close();
    this.#peers.close();
  }

  /** One worker's stream: a registration, then heartbeats, until silence or its end. */
  async register(stream: MessageStream<RegisterRequest, RegisterResponse>, context: CallContext): Promise<void> {
    this.#admit(context.peer, "worker");
    const { heartbeatIntervalMs, expiryMs } = this.#settings;
    const { clock } = this.#dependencies;
    const incoming = stream.incoming[Symbol.asyncIterator]();
    const over = Promise.withResolvers<null>();
    context.signal.addEventListener("abort", () => over.resolve(null), { once: true });
    const impatient = clock.after(REGISTRATION_WAIT_MS, () => over.resolve(null));
    const first = await Promise.race([incoming.next(), over.promise]);
    impatient.cancel();
    if (first === null || first.done) throw new HpccError("peer.deadline", "no registration came");
    if (first.value.message.case !== "registration")
      throw new HpccError("peer.protocol", "the first message must be a registration");
    const expired = Promise.withResolvers<null>();
    const offer = parseRegistration(first.value.message.value, context.peer);
    const handle = this.#registry.register(offer, () => expired.resolve(null));
    const gone = () => expired.resolve(null);
    context.signal.addEventListener("abort", gone, { once: true });
    try {
      stream.send(create(RegisterResponseSchema, { heartbeatIntervalMs, expiryMs }));
      const reading = this.#heartbeats(incoming, handle);
      await Promise.race([reading, expired.promise]);
      // What the reader says after a worker was forgotten is of no interest.
      reading.catch(() => {});
    } finally {
      context.signal.removeEventListener("abort", gone);
      handle.remove();
    }
  }

  async #heartbeats(
    incoming: AsyncIterator<RegisterRequest>,
    handle: ReturnType<WorkerRegistry["register"]>,
  ): Promise<void> {
    const { clock } = this.#dependencies;
    let intervalEndMs = 0;
    let inInterval = 0;
    for (let next = await incoming.next(); !next.done; next = await incoming.next()) {
      const { message } = next.value;
      if (message.case !== "heartbeat") throw new HpccError("peer.protocol", "only heartbeats follow a registration");
      const nowMs = clock.monotonicMs();
      if (nowMs >= intervalEndMs) [intervalEndMs, inInterval] = [nowMs + this.#settings.heartbeatIntervalMs, 0];
      inInterval += 1;
      if (inInterval > HEARTBEATS_PER_INTERVAL_MAX) throw new HpccError("limit.exceeded", "too many heartbeats");
      const { freeSlots, queued, draining } = message.value;
      if (!handle.heartbeat({ freeSlots, queued, draining })) return;
    }
  }

  /** One client's stream of answers. */
  async *watch(request: WatchRequest, context: CallContext): AsyncGenerator<WatchResponse, void, undefined> {
    this.#admit(context.peer, "user");
    const query = parseWatchRequest(request);
    for await (const { revision, workers } of this.#hub.watch(query, spiffeId(context.peer), context.signal))
      yield create(WatchResponseSchema, { revision, assignments: workers.map(({ offer }) => toAssignment(offer)) });
  }

  /** One worker's stream of answers about its peers. */
  async *watchPeers(
    request: WatchPeersRequest,
    context: CallContext,
  ): AsyncGenerator<WatchPeersResponse, void, undefined> {
    this.#admit(context.peer, "worker");
    const images = parseWatchPeersRequest(request);
    for await (const { revision, peers } of this.#peers.watch(images, spiffeId(context.peer), context.signal))
      yield create(WatchPeersResponseSchema, { revision, peers: [...peers] });
  }

  /** Only workers register and watch peers and only users watch workers, of the own trust domain, at a bounded rate. */
  #admit(peer: Identity, kind: Identity["kind"]): void {
    if (peer.kind !== kind || peer.trustDomain !== this.#dependencies.credentials.identity.trustDomain)
      throw new HpccError("identity.forbidden", `${spiffeId(peer)} may not do this; it takes a ${kind}'s certificate`);
    if (!this.#opens.take(spiffeId(peer))) throw new HpccError("limit.exceeded", "too many calls; wait a second");
  }
}
