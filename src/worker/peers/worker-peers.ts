// The exchange with peers as a part of a worker.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { DiskStore } from "../../store/disk/disk-store.ts";
import type { ExecutionLimits } from "../../vm/execution.ts";
import type { Interceptors } from "../layers/stack.ts";
import type { RevocationFeed } from "../revocations.ts";
import { openPeers, type PeerSettings, type RunningPeers } from "./peers.ts";

export interface WorkerPeersParts {
  readonly folder: string;
  readonly disk: DiskStore;
  readonly feed: RevocationFeed;
  readonly limits: ExecutionLimits;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A result of several outputs may be larger than the largest one, but not by much. */
const RESULT_OUTPUTS = 2;

/** Null for a worker that knows no others. */
export async function openWorkerPeers(
  settings: PeerSettings | null | undefined,
  { disk, limits: { outputBytes, stdioBytes }, ...parts }: WorkerPeersParts,
): Promise<RunningPeers | null> {
  if (!settings) return null;
  return openPeers({
    ...settings,
    ...parts,
    store: (tenant) => disk.tenant(tenant),
    knows: (tenant) => disk.has(tenant),
    sizes: { outputBytes, stdioBytes, resultBytes: RESULT_OUTPUTS * outputBytes },
  });
}

/** Peers are asked before anything else that stands below the worker's own look-up. */
export function withPeers(interceptors: Interceptors, peers: RunningPeers | null): Interceptors {
  if (peers === null) return interceptors;
  return { ...interceptors, missed: [peers.intercept, ...(interceptors.missed ?? [])] };
}
