// A tenant's store in memory: for tests, and small enough to show what the ports mean.

import type { BlobRef } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { Made, Revocation } from "../../core/revocation.ts";
import { RevocationSet } from "../../core/revocation-set.ts";
import type { ActionCache, ActionLookup, CachedAction, TenantStore } from "../action-cache.ts";
import type { BlobStore, ByteSource, FrameLookup, Retention } from "../blob-store.ts";
import { compressTo, verifyFrame } from "../zstd-codec.ts";

interface MemoryBlob {
  readonly size: number;
  readonly frame: Uint8Array;
  readonly retention: Retention;
}

class MemoryBlobStore implements BlobStore {
  readonly #blobs = new Map<Digest, MemoryBlob>();

  async frameSize(digest: Digest, retention: Retention): Promise<number | null> {
    const blob = this.#blobs.get(digest);
    return blob !== undefined && (retention === "cache" || blob.retention === "kept") ? blob.frame.length : null;
  }

  async get(digest: Digest): Promise<FrameLookup> {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return { kind: "miss" };
    const { size, frame } = blob;
    const chunks = async function* () {
      yield frame;
    };
    return { kind: "hit", frame: { size, frameSize: frame.length, chunks, close: async () => {} } };
  }

  async putFrame(ref: BlobRef, frame: ByteSource, retention: Retention): Promise<void> {
    const parts: Uint8Array[] = [];
    await verifyFrame(ref, frame, async (chunk) => void parts.push(Uint8Array.from(chunk)));
    this.#keep(ref, parts, retention);
  }

  async putBytes(bytes: ByteSource, retention: Retention, sizeMax: number): Promise<BlobRef> {
    const parts: Uint8Array[] = [];
    const ref = await compressTo(bytes, sizeMax, async (chunk) => void parts.push(Uint8Array.from(chunk)));
    this.#keep(ref, parts, retention);
    return ref;
  }

  #keep(ref: BlobRef, parts: Uint8Array[], retention: Retention): void {
    const kept = this.#blobs.get(ref.digest)?.retention === "kept" ? "kept" : retention;
    this.#blobs.set(ref.digest, { size: ref.size, frame: Buffer.concat(parts), retention: kept });
  }
}

class MemoryActionCache implements ActionCache {
  readonly #actions = new Map<Digest, CachedAction>();
  readonly #revoked: RevocationSet;

  constructor(worker: string | null) {
    this.#revoked = new RevocationSet(worker);
  }

  async get(key: Digest): Promise<ActionLookup> {
    const action = this.#actions.get(key);
    return action === undefined ? { kind: "miss" } : { kind: "hit", action };
  }

  async put(key: Digest, action: CachedAction): Promise<void> {
    if (!this.#revoked.has(key, action)) this.#actions.set(key, action);
  }

  async revoke(revocation: Revocation): Promise<void> {
    if (!this.#revoked.add(revocation)) return;
    for (const [key, action] of this.#actions) if (this.#revoked.has(key, action)) this.#actions.delete(key);
  }

  async revoked(key: Digest, made: Made): Promise<boolean> {
    return this.#revoked.has(key, made);
  }

  async stamp(nowMs: number): Promise<number> {
    return this.#revoked.stamp(nowMs);
  }
}

/** `worker` is the one whose results are not another's. */
export function memoryStore(worker: string | null = null): TenantStore {
  return { blobs: new MemoryBlobStore(), actions: new MemoryActionCache(worker) };
}
