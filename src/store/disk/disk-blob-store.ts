// Blobs of one tenant on disk. An entry is a header (magic, sizes, SHA-256 of the frame) and the frame as it was sent, so
// that reading checks what was written without inflating it (docs/specs/store.md).
import { createHash } from "node:crypto";
import { type FileHandle, open, stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { BlobRef } from "../../core/action/result-manifest.ts";
import { type Digest, digestHex, isDigest } from "../../core/digest/digest.ts";
import type { BlobStore, ByteSource, FrameLookup, Retention, StoredFrame } from "../blob-store.ts";
import { compressTo, type FrameSink, verifyFrame } from "../zstd-codec.ts";
import { type DiskFiles, isMissing, type NewFile, storeError } from "./disk-files.ts";

const MAGIC = "hpccblb1";
/** Magic, u64 LE size, u64 LE frame size, SHA-256 of both sizes and the frame. */
const HEADER_BYTES = 56;
/** Frames up to this size are read at once and served from memory. */
const IN_MEMORY_BYTES_MAX = 256 * 1024;
const READ_BYTES = 128 * 1024;
/** An entry's time of last use is written no more often than this. */
const TOUCH_MS = 10 * 60 * 1000;

const AREAS: readonly Retention[] = ["kept", "cache"];

/** What a store tells about itself. */
export interface StoreObserver {
  /** A corrupt entry was set aside. */
  quarantined(kind: "blob" | "action", digest: Digest, problem: string): void;
  /** Bytes were added to what may be evicted. */
  cacheGrew(bytes: number): void;
}

export interface KeptSweep {
  /** Whether a row needs it. */
  readonly isNeeded: (digest: Digest) => boolean;
  /** What was used since then may be needed by a row that is still to be written. */
  readonly usedBeforeMs: number;
}

export interface SweptKept {
  readonly blobs: number;
  /** On the disk. */
  readonly bytes: number;
  /** Not needed, and used too lately to go. */
  readonly recent: number;
}

export interface DiskBlobStoreOptions {
  readonly files: DiskFiles;
  readonly observer: StoreObserver;
  readonly clock: Clock;
  /** False only where losing everything at a power cut is fine. */
  readonly durable: boolean;
}

export class DiskBlobStore implements BlobStore {
  readonly #files: DiskFiles;
  readonly #observer: StoreObserver;
  readonly #clock: Clock;
  readonly #durable: boolean;

  constructor({ files, observer, clock, durable }: DiskBlobStoreOptions) {
    this.#files = files;
    this.#observer = observer;
    this.#clock = clock;
    this.#durable = durable;
  }

  async frameSize(digest: Digest, retention: Retention): Promise<number | null> {
    for (const area of retention === "kept" ? AREAS.slice(0, 1) : AREAS) {
      try {
        const path = this.#path(area, digest);
        const { size, mtimeMs } = await stat(path);
        // Who asks for a kept blob is going to name it in a row: it is not swept meanwhile.
        const old = retention === "kept" && Math.abs(this.#clock.wallMs() - mtimeMs) > TOUCH_MS;
        if (old && !(await this.#files.renew(path, this.#clock.wallMs()))) continue;
        return Math.max(0, size - HEADER_BYTES);
      } catch (error) {
        if (!isMissing(error)) throw storeError(error, `cannot look for ${digest}`);
      }
    }
    return null;
  }

  /** Bytes of a kept blob on the disk; 0 when it is not there. Asking is no use of it. */
  async keptBytes(digest: Digest): Promise<number> {
    try {
      return (await stat(this.#path("kept", digest))).size;
    } catch (error) {
      if (isMissing(error)) return 0;
      throw storeError(error, `cannot look for ${digest}`);
    }
  }

  /** Removes all kept blobs but those that are needed, and those that were used since a time. */
  async sweepKept({ isNeeded, usedBeforeMs }: KeptSweep): Promise<SweptKept> {
    let [blobs, bytes, recent] = [0, 0, 0];
    try {
      for await (const path of this.#files.paths("kept")) {
        const digest = `sha256:${basename(path)}`;
        if (!isDigest(digest) || isNeeded(digest)) continue;
        const removed = await this.#files.removeUnused(path, usedBeforeMs);
        if (removed === null) recent++;
        else [blobs, bytes] = [blobs + 1, bytes + removed];
      }
    } catch (error) {
      throw storeError(error, "cannot remove what no row needs");
    }
    return { blobs, bytes, recent };
  }

  async get(digest: Digest): Promise<FrameLookup> {
    for (const area of AREAS) {
      const frame = await this.#open(area, digest);
      if (frame !== null) return { kind: "hit", frame };
    }
    return { kind: "miss" };
  }

  async putFrame(ref: BlobRef, frame: ByteSource, retention: Retention): Promise<void> {
    await this.#put(retention, async (sink) => {
      await verifyFrame(ref, frame, sink);
      return ref;
    });
  }

  async putBytes(bytes: ByteSource, retention: Retention, sizeMax: number): Promise<BlobRef> {
    return this.#put(retention, async (sink) => compressTo(bytes, sizeMax, sink));
  }

  async #put(retention: Retention, fill: (sink: FrameSink) => Promise<BlobRef>): Promise<BlobRef> {
    let ref: BlobRef | null = null;
    let frameSize = 0;
    try {
      await this.#files.create(this.#durable && retention === "kept", async (file: NewFile) => {
        const hash = createHash("sha256");
        file.reserve(HEADER_BYTES);
        ref = await fill(async (chunk) => {
          frameSize += chunk.length;
          hash.update(chunk);
          await file.append(chunk);
        });
        const sizes = sizesOf(ref.size, frameSize);
        await file.header(Buffer.concat([Buffer.from(MAGIC), sizes, hash.update(sizes).digest()]));
        return this.#path(retention, ref.digest);
      });
    } catch (error) {
      throw storeError(error, "cannot keep a blob");
    }
    if (retention === "cache") this.#observer.cacheGrew(HEADER_BYTES + frameSize);
    return ref!;
  }

  async #open(area: Retention, digest: Digest): Promise<StoredFrame | null> {
    const path = this.#path(area, digest);
    let handle: FileHandle | null = null;
    try {
      handle = await open(path, "r");
      const info = await handle.stat();
      const frame = await readVerified(handle, info.size);
      if (typeof frame === "string") {
        await this.#files.quarantine(path, digestHex(digest));
        this.#observer.quarantined("blob", digest, frame);
        return null;
      }
      if (area === "cache" && this.#clock.wallMs() - info.mtimeMs > TOUCH_MS)
        await this.#files.touch(path, this.#clock.wallMs());
      if (frame.keepsHandle) handle = null;
      return frame.stored;
    } catch (error) {
      if (isMissing(error)) return null;
      throw storeError(error, `cannot read ${digest}`);
    } finally {
      await handle?.close();
    }
  }

  #path(area: Retention, digest: Digest): string {
    return this.#files.path(area, digestHex(digest));
  }
}

function sizesOf(size: number, frameSize: number): Buffer {
  const sizes = Buffer.alloc(16);
  sizes.writeBigUInt64LE(BigInt(size), 0);
  sizes.writeBigUInt64LE(BigInt(frameSize), 8);
  return sizes;
}

interface Verified {
  readonly stored: StoredFrame;
  readonly keepsHandle: boolean;
}

/** Checks an entry; a string tells what is wrong with it. */
async function readVerified(handle: FileHandle, fileSize: number): Promise<Verified | string> {
  if (fileSize < HEADER_BYTES) return "it is shorter than its header";
  const atOnce = fileSize <= HEADER_BYTES + IN_MEMORY_BYTES_MAX;
  const start = Buffer.alloc(atOnce ? fileSize : HEADER_BYTES);
  const { bytesRead } = await handle.read(start, 0, start.length, 0);
  if (bytesRead !== start.length) return "it ends early";
  if (start.toString("latin1", 0, MAGIC.length) !== MAGIC) return "its magic is wrong";
  const size = Number(start.readBigUInt64LE(8));
  const frameSize = Number(start.readBigUInt64LE(16));
  if (frameSize !== fileSize - HEADER_BYTES || !Number.isSafeInteger(size)) return "its sizes are wrong";
  const hash = createHash("sha256");
  const frame = start.subarray(HEADER_BYTES);
  const chunks = () => (atOnce ? once(frame) : readChunks(handle, frameSize));
  for await (const chunk of chunks()) hash.update(chunk);
  const expected = start.subarray(HEADER_BYTES - 32, HEADER_BYTES);
  if (!hash.update(start.subarray(8, 24)).digest().equals(expected)) return "its checksum is wrong";
  const close = async () => (atOnce ? undefined : handle.close());
  return { stored: { size, frameSize, chunks, close }, keepsHandle: !atOnce };
}

async function* once(frame: Uint8Array): AsyncGenerator<Uint8Array> {
  yield frame;
}

async function* readChunks(handle: FileHandle, frameSize: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < frameSize; ) {
    const chunk = Buffer.alloc(Math.min(READ_BYTES, frameSize - at));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, HEADER_BYTES + at);
    if (bytesRead === 0) return;
    yield chunk.subarray(0, bytesRead);
    at += bytesRead;
  }
}
