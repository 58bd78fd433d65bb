// zstd with bounds: what comes in is hashed, counted and checked while it streams; nothing inflates past its stated size.
import { createHash, type Hash } from "node:crypto";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { constants, createZstdCompress, createZstdDecompress, zstdCompress, zstdDecompressSync } from "node:zlib";
import { HpccError } from "../base/errors.ts";
import type { BlobRef } from "../core/action/result-manifest.ts";
import type { Digest } from "../core/digest/digest.ts";
import { sha256 } from "../core/digest/digest.ts";
import type { ByteSource } from "./blob-store.ts";
import { FrameWalker, frameSizeMax } from "./zstd-frame.ts";

const LEVEL = 3;
/** Up to this size a blob is inflated at once: it takes less time than a turn through the thread pool. */
const AT_ONCE_BYTES_MAX = 128 * 1024;
const OPTIONS = { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } };

const compressAtOnce = promisify<Uint8Array, typeof OPTIONS, Buffer>(zstdCompress);

/** Takes the frame's bytes in order; awaited, so that a slow disk holds the sender back. */
export type FrameSink = (chunk: Uint8Array) => Promise<void>;

/** One frame of bytes in memory. */
export async function compressBytes(bytes: Uint8Array): Promise<Uint8Array> {
  return compressAtOnce(bytes, OPTIONS);
}

/** Iterates over a source; bytes in memory are one chunk. */
export function chunksOf(source: ByteSource): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  return source instanceof Uint8Array ? (source.length === 0 ? [] : [source]) : source;
}

/**
 * Passes a frame on to `sink` while checking that it holds exactly `ref.size` bytes of `ref.digest`; throws
 * `argument.invalid` when it does not, with bytes already passed on. UNTRUSTED: whoever made the frame.
 */
export async function verifyFrame(ref: BlobRef, frame: ByteSource, sink: FrameSink): Promise<void> {
  await checkFrame(ref, frame, { frame: sink, content: async () => {} });
}

/** Like `verifyFrame`, but passes on what the frame holds. UNTRUSTED: whoever made the frame. */
export async function inflateFrame(ref: BlobRef, frame: ByteSource, sink: FrameSink): Promise<void> {
  await checkFrame(ref, frame, { frame: async () => {}, content: sink });
}

async function checkFrame(
  ref: BlobRef,
  frame: ByteSource,
  sinks: { readonly frame: FrameSink; readonly content: FrameSink },
): Promise<void> {
  if (frame instanceof Uint8Array && ref.size <= AT_ONCE_BYTES_MAX && frame.length <= frameSizeMax(ref.size)) {
    const content = inflateAtOnce(frame, ref.size);
    if (sha256(content) !== ref.digest) throw invalid("does not hold what its digest names");
    await sinks.frame(frame);
    return sinks.content(content);
  }
  const walker = new FrameWalker();
  const hash = createHash("sha256");
  let frameBytes = 0;
  let size = 0;
  async function* taken(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunksOf(frame)) {
      frameBytes += chunk.length;
      if (frameBytes > frameSizeMax(ref.size)) throw invalid("is larger than its content can make it");
      walker.pushAll(chunk);
      await sinks.frame(chunk);
      yield chunk;
    }
    if (!walker.done) throw invalid("is cut short");
  }
  await guarded(async () =>
    pipeline(taken, createZstdDecompress(), async (content: AsyncIterable<Uint8Array>) => {
      for await (const chunk of content) {
        size += chunk.length;
        if (size > ref.size) throw invalid("holds more than its size");
        hash.update(chunk);
        await sinks.content(chunk);
      }
    }),
  );
  if (size !== ref.size || digestOf(hash) !== ref.digest) throw invalid("does not hold what its digest names");
}

/** Inflates a frame that a store has verified; throws `argument.invalid` unless it holds exactly `size` bytes. */
export async function inflate(frame: Uint8Array, size: number): Promise<Uint8Array> {
  if (size <= AT_ONCE_BYTES_MAX) return inflateAtOnce(frame, size);
  const parts: Uint8Array[] = [];
  let total = 0;
  await guarded(async () =>
    pipeline([frame], createZstdDecompress(), async (content: AsyncIterable<Uint8Array>) => {
      for await (const chunk of content) {
        total += chunk.length;
        if (total > size) throw invalid("holds more than its size");
        parts.push(chunk);
      }
    }),
  );
  if (total !== size) throw invalid("holds less than its size");
  return Buffer.concat(parts);
}

/** Compresses a source into one frame, hashing what it holds; throws `limit.exceeded` above `sizeMax`. */
export async function compressTo(source: ByteSource, sizeMax: number, sink: FrameSink): Promise<BlobRef> {
  if (source instanceof Uint8Array) {
    if (source.length > sizeMax) throw tooLarge(sizeMax);
    await sink(await compressBytes(source));
    return { digest: sha256(source), size: source.length };
  }
  const hash = createHash("sha256");
  const walker = new FrameWalker();
  let size = 0;
  async function* taken(): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunksOf(source)) {
      size += chunk.length;
      if (size > sizeMax) throw tooLarge(sizeMax);
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(taken, createZstdCompress(OPTIONS), async (frame: AsyncIterable<Uint8Array>) => {
    // Node may add an empty second frame.
    for await (const chunk of frame) {
      const used = walker.done ? 0 : walker.push(chunk);
      if (used > 0) await sink(chunk.subarray(0, used));
    }
  });
  return { digest: digestOf(hash), size };
}

function inflateAtOnce(frame: Uint8Array, size: number): Uint8Array {
  const walker = new FrameWalker();
  walker.pushAll(frame);
  if (!walker.done) throw invalid("is cut short");
  try {
    const content = zstdDecompressSync(frame, { maxOutputLength: Math.max(1, size) });
    if (content.length !== size) throw invalid("holds less than its size");
    return content;
  } catch (error) {
    throw translated(error);
  }
}

async function guarded(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    throw translated(error);
  }
}

const DECODER_CODES = /^(ZSTD_|Z_|ERR_BUFFER_TOO_LARGE|ERR_ZLIB)/;

/** A decoder's complaint is about the frame; everything else passes through. */
function translated(error: unknown): unknown {
  const code = (error as { code?: unknown } | null)?.code;
  if (error instanceof HpccError || typeof code !== "string" || !DECODER_CODES.test(code)) return error;
  return invalid(`cannot be inflated (${code})`);
}

function digestOf(hash: Hash): Digest {
  return `sha256:${hash.digest("hex")}` as Digest;
}

function invalid(problem: string): HpccError {
  return new HpccError("argument.invalid", `a blob's zstd frame ${problem}`);
}

function tooLarge(sizeMax: number): HpccError {
  return new HpccError("limit.exceeded", `a blob is larger than ${sizeMax} bytes`);
}
