// A running worker: its listener, its clients' sessions, its stores and its audit log. What it runs compiles with comes from
// outside; which configuration file it was read from, and how the process ends, is the program's matter.
import { create } from "@bufbuild/protobuf";
import type { LogDisk } from "../audit/log-disk.ts";
import { readOrMakeLogSigner } from "../audit/log-key-file.ts";
import type { WitnessCounters } from "../audit/witness/witnessing.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { HostPort } from "../core/identity/host-port.ts";
import type { Identity, IdentityName, Principal, TrustDomain } from "../core/identity/spiffe.ts";
import { type Isolation, isolationAtLeast } from "../core/isolation.ts";
import type { PolicySource } from "../core/tenant-policy.ts";
import { PeerService } from "../gen/hpcc/peer/v1/peer_pb.js";
import { InspectResponseSchema, WorkerService } from "../gen/hpcc/worker/v1/worker_pb.js";
import type { WriteAt } from "../store/disk/disk-files.ts";
import { DiskStore, type DiskStoreCounters } from "../store/disk/disk-store.ts";
import type { HostReport } from "../vm/host/host-report.ts";
import type { VmEventSink, VmPool } from "../vm/pool.ts";
import { RpcServer } from "../wire/grpc/server.ts";
import type { TlsMaterial } from "../wire/grpc/tls.ts";
import { type ConfirmCounters, Confirmer } from "./confirm/confirmer.ts";
import { SecondCompiles } from "./confirm/second-compile.ts";
import { type ControlHandler, ControlServer } from "./control/control-socket.ts";
import { revokeHandler } from "./control/revoke-request.ts";
import { type DiskMarks, type DiskStatus, DiskWatch } from "./disk-watch.ts";
import { fetchBlob } from "./fetch-blob.ts";
import type { WorkerImages } from "./images.ts";
import { ThreadInspector } from "./inspect/thread-inspector.ts";
import type { JobCounters } from "./layers/count.ts";
import type { JobObserver } from "./layers/observer.ts";
import { withQuotas } from "./layers/quota.ts";
import { type Interceptors, type JobLimits, type StackedLayers, stackLayers } from "./layers/stack.ts";
import type { PeerCounters } from "./peers/counters.ts";
import type { PeerSettings } from "./peers/peers.ts";
import { openWorkerPeers, withPeers } from "./peers/worker-peers.ts";
import { type OpenPolicies, openPolicies } from "./policy/open-policies.ts";
import { UsageKeeper } from "./policy/usage-keeper.ts";
import type { PolicyFile } from "./policy/watched-policy.ts";
import { openRetention } from "./retention/open-retention.ts";
import { type RevocationFeed, WorkerRevocations } from "./revocations.ts";
import { hostRow } from "./rows/host-row.ts";
import { vmRows } from "./rows/vm-rows.ts";
import { serveSession } from "./session.ts";
import type { SharedEntry } from "./shared-entry.ts";
import { stateFolders } from "./state-folders.ts";
import { takingBack } from "./take-back.ts";
import { openWitnessedLog, type WitnessSettings } from "./witnessed-log.ts";

export interface WorkerConfig {
  /** Where clients dial; port 0 takes a free one. */
  readonly listen: HostPort;
  /** The worker's name, as in its certificate; the `worker` column of its rows. */
  readonly name: IdentityName;
  /** Clients of other trust domains are refused, whatever the CA signed. */
  readonly trustDomain: TrustDomain;
  readonly version: string;
  /** Store, audit log and index live below it. */
  readonly stateFolder: string;
  /** The worker does not start with a weaker runtime. */
  readonly isolationMin: Isolation;
  /** Compiles at a time. */
  readonly slots: number;
  /** Second compiles at a time while the worker has nothing else to do; none without it. */
  readonly confirmationsMax?: number;
  /** Jobs that a client may have open. */
  readonly jobsPerStreamMax: number;
  readonly limits: JobLimits;
  /** Largest size of results and cached actions; null for no limit. */
  readonly cacheBytesMax: number | null;
  /** Free space below which it warns, and says that nobody new is to come; by default shares of the disk. */
  readonly disk?: DiskMarks;
}

export interface WorkerDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly tls: TlsMaterial;
  readonly images: WorkerImages;
  /** What holds for tenants' jobs: fixed, or a file that is watched. */
  readonly policies: PolicySource | PolicyFile;
  /** What the pool's machines offer. */
  readonly isolation: Isolation;
  /** Makes the pool; each event must be awaited before its VM runs anything. */
  readonly createPool: (events: VmEventSink) => VmPool;
  /** What the host was found to be; it becomes a row before the worker answers anybody. */
  readonly host?: HostReport;
  /** Who is told of jobs. */
  readonly observers?: readonly JobObserver[];
  /** Layers from elsewhere. */
  readonly interceptors?: Interceptors;
  /** Who is asked to cosign the audit log. */
  readonly witnesses?: WitnessSettings;
  /** Other workers of the site; null for a worker that knows none. */
  readonly peers?: PeerSettings | null;
  /** A test's places for faults of the disk. */
  readonly faults?: { readonly log?: LogDisk; readonly write?: WriteAt };
}

export interface WorkerStats {
  readonly jobs: Readonly<JobCounters>;
  readonly store: DiskStoreCounters;
  readonly confirmed: ConfirmCounters;
  /** Revocations since the worker started, and the results that they removed. */
  readonly taken: { readonly revocations: number; readonly entries: number };
  /** Null for a worker that knows no others. */
  readonly peers: Readonly<PeerCounters> | null;
  /** What witnesses have cosigned; null for a worker that asks none. */
  readonly witnessed: Readonly<WitnessCounters> | null;
  /** Durable audit records, since the log began. */
  readonly rows: number;
  /** Room for the log and the store, as it was seen last. */
  readonly disk: DiskStatus | null;
}

export interface RunningWorker {
  /** Where it listens. */
  readonly address: HostPort;
  readonly isolation: Isolation;
  /** For heartbeats. */
  load(): { readonly freeSlots: number; readonly queued: number };
  stats(): WorkerStats;
  /** Uses other credentials for connections from now on. */
  updateTls(tls: TlsMaterial): void;
  /** Is told when the disk is too full for new jobs, and when it is not any more. */
  followDisk(told: (full: boolean) => void): void;
  /** Looks at the policy file now. */
  checkPolicy(): Promise<void>;
  /** The policy in force; null without a file. */
  readonly policy: { readonly version: number; readonly digest: Digest } | null;
  /** For telling other workers what is revoked, and hearing of theirs. */
  readonly revocations: RevocationFeed;
  /** Ends the sessions, then the pool, then the log. */
  close(graceMs?: number): Promise<void>;
}

/** Throws `argument.invalid` while another process has the state folder. */
export async function startWorker(config: WorkerConfig, deps: WorkerDeps): Promise<RunningWorker> {
  const { clock, logger } = deps;
  const started = Promise.withResolvers<ControlHandler>();
  started.promise.catch(() => undefined);
  const handle: ControlHandler = async (request) => (await started.promise)(request);
  const control = await ControlServer.listen({ stateFolder: config.stateFolder, handle, clock, logger });
  try {
    return await startParts(config, deps, { handleBy: started.resolve, close: () => control.close() });
  } catch (error) {
    started.reject(error);
    await control.close();
    throw error;
  }
}

async function startParts(
  config: WorkerConfig,
  deps: WorkerDeps,
  control: { readonly handleBy: (handle: ControlHandler) => void; readonly close: () => Promise<void> },
): Promise<RunningWorker> {
  const { clock, logger, isolation } = deps;
  if (!isolationAtLeast(isolation, config.isolationMin))
    throw new HpccError(
      "config.invalid",
      `the runtime offers ${isolation}, the worker must have ${config.isolationMin}`,
    );
  const folders = stateFolders(config.stateFolder);
  const faults = deps.faults ?? {};
  const signer = await readOrMakeLogSigner(config.stateFolder, `${config.trustDomain}/worker/${config.name}`);
  const faulty = faults.log ? { disk: faults.log } : {};
  const audit = await openWitnessedLog(
    { folder: folders.audit, worker: config.name, clock, logger, signer, ...faulty },
    deps.witnesses,
  );
  const { log } = audit;
  if (deps.host) await log.append(...hostRow(deps.host, { worker: config.name, isolation, nowMs: clock.wallMs() }));
  const common = { log, worker: config.name, clock, logger };
  const policies = await openPolicies(deps.policies, { ...common, folder: folders.policy, isolation });
  const usage = await UsageKeeper.open({ folder: folders.policy, clock, logger });
  const revocations = new WorkerRevocations({ ...common, auditFolder: folders.audit });
  const disk = await DiskStore.open({
    root: folders.store,
    clock,
    logger,
    cacheBytesMax: config.cacheBytesMax,
    worker: config.name,
    ...revocations.observer,
    ...(faults.write ? { write: faults.write } : {}),
  });
  revocations.attach(disk.revocations);
  await disk.revocations.open();
  const peers = await openWorkerPeers(deps.peers, {
    folder: folders.peers,
    disk,
    feed: revocations,
    limits: config.limits.execution,
    clock,
    logger,
  });
  const store = peers?.store ?? disk.tenant.bind(disk);
  const pool = deps.createPool(takingBack(vmRows({ log, worker: config.name, clock }), store, { clock, logger }));
  revocations.retireBy((vm) => pool.retire(vm));
  const { limits } = config;
  const { images } = deps;
  const shared = (entry: SharedEntry) => peers?.state(entry);
  const compiles = new SecondCompiles({ ...common, images, limits: limits.execution, pool, store, usage, shared });
  const confirming = new Confirmer({
    compiles,
    freePlaces: () => config.slots - layers.compiling,
    atOnceMax: config.confirmationsMax ?? 0,
    policyDigest: () => policies.source.digest,
    clock,
    logger,
  });
  const layers: StackedLayers = stackLayers({
    ...common,
    isolation,
    images,
    policies: policies.source,
    store,
    pool,
    limits,
    observers: [
      usage.observe,
      ...(config.confirmationsMax ? [confirming.observe] : []),
      ...(peers === null ? [] : [peers.observe]),
      ...(deps.observers ?? []),
    ],
    interceptors: withPeers(withQuotas(deps.interceptors ?? {}, usage.ledger, clock), peers),
  });
  const session = {
    jobs: layers.jobs,
    version: config.version,
    jobsMax: config.jobsPerStreamMax,
    blobBytesMax: limits.blobBytesMax,
    clock,
    logger,
  };
  const sessions = new Set<Promise<void>>();
  const server = new RpcServer({ tls: deps.tls, logger });
  const inspector = new ThreadInspector({ folders, durable: () => log.sequence, clock, logger });
  server.add(WorkerService, {
    session: async (stream, { peer }) => {
      const serving = serveSession(stream, clientOf(peer, config.trustDomain), session);
      sessions.add(serving);
      try {
        await serving;
      } finally {
        sessions.delete(serving);
      }
    },
    inspect: async ({ hash }, { peer }) =>
      create(InspectResponseSchema, await inspector.find(hash, clientOf(peer, config.trustDomain).tenant)),
    fetch: (request, { peer }) => {
      const principal = clientOf(peer, config.trustDomain);
      return fetchBlob(request, principal, { inspector, store: store(principal.tenant) });
    },
  });
  if (peers !== null) server.add(PeerService, peers.handlers);
  const retention = openRetention({
    ...common,
    folder: folders.audit,
    stateFolder: config.stateFolder,
    store: disk,
    policy: policies.site,
    pruned: () => inspector.forget(),
  });
  const room = new DiskWatch({
    folders: [folders.audit, folders.store],
    marks: config.disk ?? { lowBytes: null, hardBytes: null },
    clock,
    logger,
  });
  const closeParts = async () => {
    await room.close();
    await peers?.close();
    await policies.close();
    await usage.close();
    await confirming.close();
    await pool.close();
    await disk.settled();
    await revocations.close();
    await retention.close();
    await inspector.close();
    await audit.close();
    await control.close();
  };
  let closing: Promise<void> | null = null;
  const close = async (graceMs: number | undefined) => {
    // Peers' streams would hold the server open.
    await peers?.close();
    await server.close(graceMs);
    // Jobs that were cut off still leave their rows.
    await Promise.allSettled(sessions);
    await closeParts();
  };
  const address = await server.listen(config.listen).catch(async (error: unknown) => {
    await closeParts();
    throw error;
  });
  control.handleBy(retention.handler(revokeHandler(revocations, clock)));
  peers?.start();
  return {
    address,
    isolation,
    load: () => ({
      freeSlots: Math.max(0, config.slots - layers.compiling),
      queued: Math.max(0, layers.compiling - config.slots),
    }),
    stats: () => ({
      jobs: { ...layers.counters },
      store: disk.counters,
      witnessed: audit.witnessing?.counters ?? null,
      rows: log.sequence,
      disk: room.status,
      taken: revocations.counters,
      confirmed: confirming.counters,
      peers: peers?.counters ?? null,
    }),
    updateTls(tls) {
      server.updateTls(tls);
      peers?.renew();
    },
    followDisk: (told) => room.follow(told),
    checkPolicy: () => policies.check(),
    revocations,
    get policy() {
      return policyInForce(policies);
    },
    async close(graceMs) {
      closing ??= close(graceMs);
      await closing;
    },
  };
}

function policyInForce({ source: { digest, version } }: OpenPolicies): RunningWorker["policy"] {
  return digest === null || version === null ? null : { digest, version };
}

/** Only users of tenants are clients; a worker's or scheduler's certificate opens nothing here. */
function clientOf(peer: Identity, trustDomain: TrustDomain): Principal {
  if (peer.kind !== "user") throw new HpccError("identity.forbidden", `a ${peer.kind} is no client of a worker`);
  if (peer.trustDomain !== trustDomain)
    throw new HpccError("identity.forbidden", `this worker serves ${trustDomain} alone`);
  return peer;
}
