// Reads a whole blob, inflated: for manifests and other small ones.
import type { Digest } from "../core/digest/digest.ts";
import type { BlobStore } from "./blob-store.ts";
import { inflate } from "./zstd-codec.ts";

/** The blob's bytes; null when it is not there or larger than `sizeMax`. */
export async function readBlob(blobs: BlobStore, digest: Digest, sizeMax: number): Promise<Uint8Array | null> {
  const found = await blobs.get(digest);
  if (found.kind === "miss") return null;
  const { frame } = found;
  try {
    if (frame.size > sizeMax) return null;
    const parts: Uint8Array[] = [];
    for await (const part of frame.chunks()) parts.push(part);
    return await inflate(Buffer.concat(parts), frame.size);
  } finally {
    await frame.close();
  }
}
