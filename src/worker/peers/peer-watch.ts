// The worker's view of its peers: every scheduler is asked side by side, and who any of them knows is a peer. What a scheduler
// said stays in use for a while when it cannot be reached; peers prove themselves, so a lie costs a failed dial.
import { type BackoffRule, backoffMs } from "../../base/backoff.ts";
import { type Clock, pause, type Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { formatHostPort, type HostPort } from "../../core/identity/host-port.ts";
import { type Identity, sameTrustDomain, spiffeId } from "../../core/identity/spiffe.ts";
import { SchedulerService } from "../../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcClient } from "../../wire/grpc/client.ts";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";
import { type PeerOffer, parseWatchPeersResponse, toWatchPeersRequest } from "../../wire/scheduler/mapping.ts";

export interface PeerWatchOptions {
  readonly schedulers: readonly HostPort[];
  /** Read again for each connection, so that a renewed certificate is used. */
  readonly credentials: () => OwnCredentials;
  /** What this worker offers; asked for each connection. */
  readonly images: () => readonly Digest[];
  readonly changed: (peers: readonly PeerOffer[]) => void;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface RunningPeerWatch {
  /** Asks all schedulers anew: the worker offers other images. */
  refresh(): void;
  close(): Promise<void>;
}

/** A scheduler that has not answered within this time is left and tried again. */
const FIRST_ANSWER_MS = 5_000;
const BACKOFF: BackoffRule = { firstMs: 200, maxMs: 5_000 };
/** How long the last answer of a scheduler holds that cannot be reached. */
const STALE_MS = 60_000;

/** Watches all schedulers until it is closed. */
export function watchPeers(options: PeerWatchOptions): RunningPeerWatch {
  const close = new AbortController();
  const streams = new Set<AbortController>();
  /** By scheduler, the one that answered last at the end. */
  const answers = new Map<string, readonly PeerOffer[]>();
  const tell = () => {
    const known = new Map<string, PeerOffer>();
    for (const peers of answers.values()) for (const peer of peers) known.set(spiffeId(peer.identity), peer);
    options.changed([...known.values()]);
  };
  const loops = options.schedulers.map((scheduler) =>
    keepWatching({ ...options, streams }, scheduler, close.signal, (peers) => {
      const name = formatHostPort(scheduler);
      answers.delete(name);
      if (peers !== null) answers.set(name, peers);
      tell();
    }),
  );
  return {
    refresh() {
      for (const stream of streams) stream.abort(OTHER_OFFER);
    },
    async close() {
      close.abort();
      await Promise.all(loops);
    },
  };
}

const OTHER_OFFER = Symbol("the worker offers other images");

type Watching = PeerWatchOptions & { readonly streams: Set<AbortController> };
type Answered = (peers: readonly PeerOffer[] | null) => void;

async function keepWatching(
  options: Watching,
  scheduler: HostPort,
  signal: AbortSignal,
  answered: Answered,
): Promise<void> {
  const { clock, random = Math.random } = options;
  const stale: { timer: Timer | null } = { timer: null };
  let known = false;
  let failures = 0;
  while (!signal.aborted) {
    failures += 1;
    await watchOnce(options, scheduler, signal, (peers) => {
      stale.timer?.cancel();
      stale.timer = null;
      known = true;
      failures = 1;
      answered(peers);
    });
    if (known)
      stale.timer ??= clock.after(STALE_MS, () => {
        known = false;
        answered(null);
      });
    await pause(clock, backoffMs(BACKOFF, failures, random()), signal);
  }
  stale.timer?.cancel();
}

/** One stream from its question to its end. */
async function watchOnce(
  { credentials, images: offered, streams, clock, logger }: Watching,
  scheduler: HostPort,
  close: AbortSignal,
  answered: Answered,
): Promise<void> {
  const impatience = new AbortController();
  const signal = AbortSignal.any([close, impatience.signal]);
  const timer = clock.after(FIRST_ANSWER_MS, () => impatience.abort());
  let client: RpcClient | null = null;
  streams.add(impatience);
  try {
    const images = offered();
    const own = credentials();
    const accept = (server: Identity) => server.kind === "scheduler" && sameTrustDomain(server, own.identity);
    client = new RpcClient({ address: scheduler, tls: own.tls, accept });
    const request = toWatchPeersRequest(images);
    for await (const response of client.serverStream(SchedulerService.method.watchPeers, request, { signal })) {
      const peers = parseWatchPeersResponse(response, images, own.identity);
      timer.cancel();
      logger.debug("worker.peers.known", { scheduler: formatHostPort(scheduler), peers: peers.length });
      answered(peers);
    }
  } catch (error) {
    if (close.aborted || impatience.signal.reason === OTHER_OFFER) return;
    const { message, code } = error instanceof HpccError ? error : new HpccError("peer.unavailable", String(error));
    logger.warn("worker.peers.watch_failed", { scheduler: formatHostPort(scheduler), code, message });
  } finally {
    streams.delete(impatience);
    timer.cancel();
    client?.close();
  }
}
