// A worker's exchange with the other workers of its site, put together: who they are, what it asks of them, what it answers, and
// what it takes back with them.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { spiffeId, type TenantId } from "../../core/identity/spiffe.ts";
import type { PeerTrust } from "../../core/sharing/peer-trust.ts";
import type { PeerService } from "../../gen/hpcc/peer/v1/peer_pb.js";
import type { TenantStore } from "../../store/action-cache.ts";
import type { ServiceHandlers } from "../../wire/grpc/server.ts";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";
import { StatementSigner, StatementVerifier } from "../../wire/peer/signed-statement.ts";
import type { PeerOffer } from "../../wire/scheduler/mapping.ts";
import type { Interceptor } from "../layers/layer.ts";
import type { JobObserver } from "../layers/observer.ts";
import type { RevocationFeed } from "../revocations.ts";
import type { SharedEntry } from "../shared-entry.ts";
import { Announcer } from "./announcer.ts";
import type { ResultSizes } from "./check-found.ts";
import { newCounters, type PeerCounters } from "./counters.ts";
import { PeerDirectory } from "./directory.ts";
import { Holders } from "./holders.ts";
import { OwnResults } from "./own-results.ts";
import { PeerHealth } from "./peer-health.ts";
import { PeerLookUp } from "./peer-look-up.ts";
import { PeerAnswers } from "./peer-service.ts";
import type { RunningPeerWatch } from "./peer-watch.ts";
import { ReadPlaces } from "./read-places.ts";
import { RevocationExchange } from "./revocation-exchange.ts";
import { PeerSearch } from "./search.ts";
import { trustedStore } from "./trusted-store.ts";

/** What a worker's configuration says of its peers. */
export interface PeerSettings {
  readonly trust: PeerTrust;
  readonly answerMs: number;
  readonly fetchMs: number;
  /** Read at the start and after each change of the worker's certificate. */
  readonly credentials: () => OwnCredentials;
  /** Says who the peers are, from now on. */
  readonly watch: (changed: (peers: readonly PeerOffer[]) => void) => Pick<RunningPeerWatch, "close">;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface PeersOptions extends PeerSettings {
  readonly folder: string;
  readonly store: (tenant: TenantId) => TenantStore;
  readonly knows: (tenant: TenantId) => Promise<boolean>;
  readonly feed: RevocationFeed;
  readonly sizes: ResultSizes;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface RunningPeers {
  /** The layer below the worker's own look-up. */
  readonly intercept: Interceptor;
  readonly observe: JobObserver;
  /** A result of this worker serves a tenant from now on. */
  readonly state: (entry: SharedEntry) => void;
  readonly handlers: ServiceHandlers<typeof PeerService>;
  readonly counters: Readonly<PeerCounters>;
  /** Begins to look for peers; once the worker can be dialled. */
  start(): void;
  /** The worker's store, without what came from workers that it does not believe. */
  readonly store: (tenant: TenantId) => TenantStore;
  /** Uses other credentials from now on. */
  renew(): void;
  /** Resolves when nothing that was to be stated or told is under way. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

export async function openPeers(options: PeersOptions): Promise<RunningPeers> {
  const { trust, feed, knows, clock, logger, random = Math.random } = options;
  let own = readOwn(options);
  const verifier = () => own.verifier;
  const directory = new PeerDirectory({ self: own.id, tls: () => own.credentials.tls });
  const common = { directory, counters: newCounters(), health: new PeerHealth(clock, random), clock, logger };
  const { counters } = common;
  const announcer = new Announcer(common);
  const results = new OwnResults({ ...common, signer: () => own.signer, announcer });
  const store = (tenant: TenantId) => trustedStore(options.store(tenant), trust, own.signer.worker.name);
  const { sizes, answerMs, fetchMs } = options;
  const search = new PeerSearch({ ...common, verifier, trust, sizes, answerMs, fetchMs });
  const { trustDomain } = own.signer.worker;
  const answers = new PeerAnswers({ ...common, trustDomain, store, knows, holders: new Holders(), verifier });
  const places = await ReadPlaces.open(options.folder, logger);
  const exchange = new RevocationExchange({ ...common, feed, knows, places, trustDomain, random });
  let watch: Pick<RunningPeerWatch, "close"> | null = null;
  return {
    intercept: (next) => (trust === "none" ? next : new PeerLookUp(next, { search, announcer, counters, logger })),
    observe: (event) => {
      if (event.t !== "stored" || event.key.scope !== "tenant") return;
      const { job, key, action } = event;
      results.state({ tenant: job.principal.tenant, tier: key.tier, key: key.key, action, store: job.store });
    },
    state: (entry) => results.state(entry),
    handlers: {
      fetch: (request, context) => answers.fetch(request, context),
      announce: (request, context) => answers.announce(request, context),
      watchRevocations: (request, context) => exchange.watch(request, context),
    },
    counters,
    store,
    start() {
      watch = options.watch((peers) => {
        announcer.joined(directory.update(peers));
        exchange.follow();
      });
    },
    renew() {
      own = readOwn(options);
      directory.hangUp();
    },
    async settled() {
      await results.settled();
      await announcer.settled();
    },
    async close() {
      announcer.close();
      await watch?.close();
      await exchange.close();
      directory.hangUp();
      await results.settled();
    },
  };
}

function readOwn({ credentials }: PeerSettings) {
  const read = credentials();
  const { tls, identity } = read;
  return {
    credentials: read,
    id: spiffeId(identity),
    signer: new StatementSigner(read),
    verifier: new StatementVerifier(tls.ca, identity.trustDomain),
  };
}
