// The digest of an open file, off the event loop where that pays.
import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { type Digest, sha256 } from "../../core/digest/digest.ts";

/** Up to this size hashing at once takes less than a turn through the thread pool. */
const AT_ONCE_BYTES_MAX = 32 * 1024;
const WHOLE_BYTES_MAX = 8 * 1024 * 1024;
const CHUNK_BYTES = 512 * 1024;

/** Reads a file to its end, wherever that is. */
export async function digestOfFile(handle: FileHandle, sizeBytes: number): Promise<Digest> {
  if (sizeBytes > WHOLE_BYTES_MAX) return digestInChunks(handle);
  // One byte more than it should have: a file that grew is told from one that did not.
  const bytes = Buffer.allocUnsafe(sizeBytes + 1);
  let length = 0;
  while (length < bytes.length) {
    const { bytesRead } = await handle.read(bytes, length, bytes.length - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  const content = bytes.subarray(0, length);
  if (length <= AT_ONCE_BYTES_MAX) return sha256(content);
  const hash = Buffer.from(await crypto.subtle.digest("SHA-256", content));
  return `sha256:${hash.toString("hex")}` as Digest;
}

async function digestInChunks(handle: FileHandle): Promise<Digest> {
  const hash = createHash("sha256");
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let at = 0; ; ) {
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at);
    if (bytesRead === 0) return `sha256:${hash.digest("hex")}` as Digest;
    hash.update(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
}
