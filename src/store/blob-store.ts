// The port of content-addressed blobs of one tenant. Blobs are kept as zstd frames and named by the digest of what the
// frames hold. A miss is a value; a store that fails throws `store.io`.
import type { BlobRef } from "../core/action/result-manifest.ts";
import type { Digest } from "../core/digest/digest.ts";

/** Bytes in memory, or read as they come. */
export type ByteSource = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

/**
 * `kept`: as long as rows are (sources, manifests), durable before `put` resolves. `cache`: may be lost or evicted, since it
 * can be made again.
 */
export type Retention = "kept" | "cache";

/** A frame that is there. */
export interface StoredFrame {
  /** Uncompressed size in bytes. */
  readonly size: number;
  readonly frameSize: number;
  /** Reads the frame in order; may be called again until `close`. */
  chunks(): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

export type FrameLookup = { readonly kind: "hit"; readonly frame: StoredFrame } | { readonly kind: "miss" };

export interface BlobStore {
  /** Size of the blob's frame when it is there with this retention or a longer one. Says nothing of its health. */
  frameSize(digest: Digest, retention: Retention): Promise<number | null>;
  /** Opens a blob's frame, verified against what `put` wrote. Corrupt entries are set aside and missed. */
  get(digest: Digest): Promise<FrameLookup>;
  /**
   * Keeps a frame. Throws `argument.invalid` when it does not hold exactly `ref.size` bytes of `ref.digest`, and then keeps
   * nothing; so also when reading the source throws.
   */
  putFrame(ref: BlobRef, frame: ByteSource, retention: Retention): Promise<void>;
  /** Compresses, hashes and keeps bytes; throws `limit.exceeded` above `sizeMax`. */
  putBytes(bytes: ByteSource, retention: Retention, sizeMax: number): Promise<BlobRef>;
}
