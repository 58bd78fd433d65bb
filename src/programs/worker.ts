// `hpcc worker --config FILE`: builds the worker's parts from its configuration and ends them in order.
import { mkdir } from "node:fs/promises";
import { rootCertificates } from "node:tls";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { VERSION } from "../base/version.ts";
import type { Environment } from "../config/directories.ts";
import { parsePolicy } from "../config/policy-file.ts";
import { loadWorkerConfig, type WorkerConfig } from "../config/worker.ts";
import type { Identity } from "../core/identity/spiffe.ts";
import { ISOLATIONS, type Isolation } from "../core/isolation.ts";
import { fixedPolicies } from "../core/tenant-policy.ts";
import type { VmEventSink } from "../vm/pool.ts";
import { WarmVmPool } from "../vm/warm-vm-pool.ts";
import { type OwnCredentials, readTlsFiles } from "../wire/grpc/tls-files.ts";
import type { WorkerImages } from "../worker/images.ts";
import { type RunningPeerWatch, watchPeers } from "../worker/peers/peer-watch.ts";
import type { PeerSettings } from "../worker/peers/peers.ts";
import { startRegistration } from "../worker/registration.ts";
import { type RunningWorker, startWorker, type WorkerDeps } from "../worker/worker.ts";
import { abortedBySignal, programLogger, serveUntilSignal } from "./process.ts";
import { reportWorkerHost } from "./worker-host.ts";
import { openWorkerImages } from "./worker-images.ts";
import { openWorkerRuntime } from "./worker-runtime.ts";

type WorkerIdentity = Identity & { readonly kind: "worker" };

/** Is a worker until a signal ends it; SIGHUP reads its certificate again. `openRuntime` opens what makes its machines. */
export async function runWorker(
  env: Environment,
  file: string,
  flags: Readonly<Record<string, string>>,
  openRuntime: typeof openWorkerRuntime = openWorkerRuntime,
): Promise<void> {
  const { config } = loadWorkerConfig(env, file, flags);
  const logger = programLogger("worker", config.logLevel);
  const credentials = () => readTlsFiles(config.identity, SYSTEM_CLOCK.wallMs());
  const own = credentials();
  const identity = workerIdentity(own);
  await mkdir(config.stateDir, { recursive: true, mode: 0o700 });
  const starting = abortedBySignal();
  // Whatever ends the start or the serving, the parts end in the reverse order of their start.
  await using parts = new AsyncDisposableStack();
  const offered = parts.adopt(await openWorkerImages(env, config, logger), (one) => one.close());
  const { images } = offered;
  const opened = parts.adopt(await openRuntime(env, config, logger, starting), (one) => one.close());
  const { runtime } = opened;
  const host = await reportWorkerHost(config, logger);
  starting.throwIfAborted();
  const watching = new Set<RunningPeerWatch>();
  const peers = config.peers.enabled ? peersOf(config, { credentials, images, watching, logger }) : null;
  const running = await startWorker(settings(config, identity), {
    clock: SYSTEM_CLOCK,
    logger,
    tls: own.tls,
    images,
    policies: policiesOf(config, runtime.isolation),
    isolation: runtime.isolation,
    host,
    createPool: (recorded) => {
      const events: VmEventSink = async (event) => {
        await offered.vmEvent(event);
        await recorded(event);
      };
      return new WarmVmPool({ runtime, limits: config.vms, events, clock: SYSTEM_CLOCK, logger });
    },
    peers,
    witnesses: { witnesses: config.witnesses, ca: [...rootCertificates, own.tls.ca.toString("latin1")] },
  });
  const worker = parts.adopt(running, (one) => one.close());
  starting.throwIfAborted();
  const registration = startRegistration({
    schedulers: config.schedulers,
    credentials,
    offer: () => ({ ...trustOf(credentials()), ...offerOf(config, worker, images) }),
    load: () => worker.load(),
    clock: SYSTEM_CLOCK,
    logger,
  });
  worker.followDisk((full) => registration.drain(full));
  parts.defer(() => {
    worker.followDisk(() => undefined);
    // Nobody new is sent here before those who are here are sent away.
    registration.drain();
    return registration.close();
  });
  if (images.digests.length === 0 && config.imageFetch.repositories.length === 0)
    logger.warn("worker.images.none", { key: "images.layouts" });
  logger.info("worker.started", {
    host: worker.address.host,
    port: worker.address.port,
    isolation: worker.isolation,
    images: images.digests.length,
    policyVersion: worker.policy?.version ?? null,
    policy: worker.policy?.digest ?? null,
  });
  offered.start((digest) => {
    registration.refresh();
    for (const watch of watching) watch.refresh();
    if (images.has(digest)) void opened.prepare(images, [digest]);
  });
  void opened.prepare(images, images.digests);
  await serveUntilSignal({
    logger,
    ended: opened.ended,
    reload: () => {
      worker.updateTls(credentials().tls);
      registration.refresh();
      void worker.checkPolicy();
    },
    close: () => parts.disposeAsync(),
  });
}

function settings(config: WorkerConfig, identity: WorkerIdentity) {
  return {
    listen: config.listen,
    name: identity.name,
    trustDomain: identity.trustDomain,
    version: VERSION,
    stateFolder: config.stateDir,
    isolationMin: ISOLATIONS.find((isolation) => config.isolation.allowed.includes(isolation)) ?? "firecracker",
    slots: config.vms.placesMax,
    confirmationsMax: config.vms.placesMax,
    jobsPerStreamMax: config.jobs.perClientMax,
    limits: {
      blobBytesMax: config.jobs.blobBytesMax,
      sourceBytesMax: config.jobs.sourceBytesMax,
      execution: config.execution,
    },
    cacheBytesMax: config.storeBytesMax,
    disk: config.disk,
  } as const;
}

function policiesOf({ policy }: WorkerConfig, isolation: Isolation): WorkerDeps["policies"] {
  return policy === null ? fixedPolicies(new Map(), isolation) : { path: policy, parse: parsePolicy };
}

/** Its schedulers say who its peers are. */
function peersOf(
  { peers, schedulers }: WorkerConfig,
  parts: {
    readonly credentials: () => OwnCredentials;
    readonly images: WorkerImages;
    /** Those that are told when the images change. */
    readonly watching: Set<RunningPeerWatch>;
    readonly logger: Logger;
  },
): PeerSettings {
  const { credentials, watching, logger } = parts;
  const images = () => parts.images.digests;
  const { trust, answerMs, fetchMs } = peers;
  return {
    trust,
    answerMs,
    fetchMs,
    credentials,
    watch(changed) {
      const watch = watchPeers({ schedulers, credentials, images, changed, clock: SYSTEM_CLOCK, logger });
      watching.add(watch);
      return watch;
    },
  };
}

function workerIdentity({ identity }: OwnCredentials): WorkerIdentity {
  if (identity.kind !== "worker")
    throw new HpccError("identity.forbidden", `a worker needs a worker's certificate, not a ${identity.kind}'s`);
  return identity;
}

function trustOf(credentials: OwnCredentials) {
  return { identity: workerIdentity(credentials), caDigest: credentials.caDigest };
}

function offerOf(config: WorkerConfig, worker: RunningWorker, images: WorkerImages) {
  return {
    address: config.advertise ?? worker.address,
    images: images.digests,
    repositories: config.imageFetch.repositories,
    isolation: worker.isolation,
    slots: config.vms.placesMax,
    version: VERSION,
  };
}
