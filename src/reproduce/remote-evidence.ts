// What a worker gives its own clients to run their jobs again, over its Inspect and Fetch calls. UNTRUSTED: the worker.
import { create } from "@bufbuild/protobuf";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { HostPort } from "../core/identity/host-port.ts";
import { type Identity, sameTrustDomain } from "../core/identity/spiffe.ts";
import { FetchRequestSchema, InspectRequestSchema, WorkerService } from "../gen/hpcc/worker/v1/worker_pb.js";
import { inflate } from "../store/zstd-codec.ts";
import { frameSizeMax } from "../store/zstd-frame.ts";
import { RpcClient } from "../wire/grpc/client.ts";
import type { OwnCredentials } from "../wire/grpc/tls-files.ts";
import type { Evidence, JobEvidence } from "./evidence.ts";

/** A worker that may be asked. */
export interface KnownWorker {
  readonly address: HostPort;
  /** Whom its certificate must name; null for any worker of the own trust domain. */
  readonly identity: Identity | null;
}

const FETCH_MS_MAX = 120_000;

/** Asks workers in turn; the one that knew a hash is asked for its blobs. */
export class RemoteEvidence implements Evidence {
  readonly #workers: readonly KnownWorker[];
  readonly #credentials: OwnCredentials;
  #client: RpcClient | null = null;

  constructor(workers: readonly KnownWorker[], credentials: OwnCredentials) {
    this.#workers = workers;
    this.#credentials = credentials;
  }

  async find(hash: string) {
    let last: unknown = new HpccError("peer.unavailable", "there is no worker to ask");
    for (const worker of this.#workers) {
      const client = this.#connect(worker);
      try {
        const found = await client.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash }));
        this.close();
        this.#client = client;
        return found;
      } catch (error) {
        client.close();
        if (!(error instanceof HpccError)) throw error;
        // That a worker does not know it says more than that another cannot be reached.
        if (!(last instanceof HpccError && last.code === "hash.unknown")) last = error;
      }
    }
    throw last;
  }

  async blob({ digest: rowDigest }: JobEvidence, digest: Digest, sizeMax: number): Promise<Uint8Array | null> {
    if (this.#client === null) throw new Error("bug: nothing was found");
    const request = create(FetchRequestSchema, { rowDigest, digest });
    const signal = AbortSignal.timeout(FETCH_MS_MAX);
    const parts: Uint8Array[] = [];
    let received = 0;
    let size = 0;
    for await (const part of this.#client.serverStream(WorkerService.method.fetch, request, { signal })) {
      size = Number(part.size);
      if (size > sizeMax) return null;
      received += part.data.length;
      if (received > frameSizeMax(size))
        throw new HpccError("peer.protocol", "the worker sent more than a blob's frame");
      parts.push(part.data);
    }
    return parts.length === 0 ? null : inflate(Buffer.concat(parts), size);
  }

  close(): void {
    this.#client?.close();
    this.#client = null;
  }

  #connect({ address, identity }: KnownWorker): RpcClient {
    const { tls, identity: own } = this.#credentials;
    const accept = (server: Identity) =>
      server.kind === "worker" &&
      sameTrustDomain(server, own) &&
      (identity?.kind !== "worker" || identity.name === server.name);
    return new RpcClient({ address, tls, accept });
  }
}
