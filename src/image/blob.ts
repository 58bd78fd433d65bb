// Blobs of an OCI layout: content files named by their digest. UNTRUSTED: registry. Whoever reads one gets bytes whose size
// and digest were checked, or an error before the stream's end.
import { createHash } from "node:crypto";
import { constants, type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { Transform, type TransformCallback } from "node:stream";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex, sha256 } from "../core/digest/digest.ts";
import { DOCUMENT_BYTES_MAX } from "./image-limits.ts";

/** An OCI descriptor, checked. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** File of a blob in a layout folder. */
export function blobPath(layoutFolder: string, digest: Digest): string {
  return join(layoutFolder, "blobs", "sha256", digestHex(digest));
}

/** Opens a blob's file; it must be a plain file of the size that its descriptor gives. */
export async function openBlob(layoutFolder: string, descriptor: Descriptor): Promise<FileHandle> {
  const path = blobPath(layoutFolder, descriptor.digest);
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    throw new HpccError("image.invalid", `blob ${descriptor.digest} is not in ${layoutFolder}`, { cause });
  }
  const stat = await file.stat();
  if (stat.isFile() && stat.size === descriptor.sizeBytes) return file;
  await file.close();
  throw new HpccError(
    "image.invalid",
    `blob ${descriptor.digest} is no file of ${descriptor.sizeBytes} bytes (found ${stat.size})`,
  );
}

/** Reads a whole small blob and checks it. */
export async function readDocument(layoutFolder: string, descriptor: Descriptor): Promise<Buffer> {
  if (descriptor.sizeBytes > DOCUMENT_BYTES_MAX)
    throw new HpccError("limit.exceeded", `document ${descriptor.digest} has more than ${DOCUMENT_BYTES_MAX} bytes`);
  const file = await openBlob(layoutFolder, descriptor);
  try {
    const bytes = Buffer.alloc(descriptor.sizeBytes);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    if (bytesRead !== bytes.length || sha256(bytes) !== descriptor.digest)
      throw new HpccError("image.invalid", `blob ${descriptor.digest} has other content than its name says`);
    return bytes;
  } finally {
    await file.close();
  }
}

/** Passes bytes on and hashes them. */
export class HashTap extends Transform {
  readonly #hash = createHash("sha256");
  readonly #check: (sizeBytes: number) => void;
  sizeBytes = 0;

  /** `check` sees the size so far and throws when it is too much. */
  constructor(check: (sizeBytes: number) => void = () => {}) {
    super();
    this.#check = check;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.sizeBytes += chunk.length;
    try {
      this.#check(this.sizeBytes);
    } catch (error) {
      done(error as Error);
      return;
    }
    this.#hash.update(chunk);
    done(null, chunk);
  }

  /** The digest of what passed; once, after the end. */
  digest(): Digest {
    return `sha256:${this.#hash.digest("hex")}` as Digest;
  }
}
