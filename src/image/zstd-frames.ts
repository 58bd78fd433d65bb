// Unpacks a layer of one zstd frame or of several, as parallel compressors and "zstd:chunked" make them: Node's decoder ends with the
// first one. UNTRUSTED: registry. Frames that may be skipped hold nothing of the layer. Format: RFC 8878.
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdDecompress } from "node:zlib";
import { HpccError } from "../base/errors.ts";
import { FrameWalker } from "../store/zstd-frame.ts";

/** Window of a frame: bounds the decoder's memory to 128 MiB. */
const WINDOW_LOG_MAX = 27;
/** Frames of a layer; each takes a decoder of its own. */
export const FRAMES_MAX = 200_000;
const CHUNK_BYTES = 256 * 1024;
const SKIPPABLE_FIRST = 0x184d2a50;
const SKIPPABLE_LAST = 0x184d2a5f;
const SKIPPABLE_HEADER_BYTES = 8;

/** Bytes as they come, with those that were taken too early given back. */
class Pushback {
  readonly #chunks: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  async next(): Promise<Buffer | null> {
    const held = this.#held;
    this.#held = Buffer.alloc(0);
    if (held.length > 0) return held;
    const { done, value } = await this.#chunks.next();
    return done === true ? null : value;
  }

  giveBack(bytes: Buffer): void {
    this.#held = bytes;
  }

  /** The next bytes without taking them: at least `size`, fewer at the end. */
  async look(size: number): Promise<Buffer> {
    let bytes: Buffer = Buffer.alloc(0);
    while (bytes.length < size) {
      const more = await this.next();
      if (more === null) break;
      bytes = bytes.length === 0 ? more : Buffer.concat([bytes, more]);
    }
    this.giveBack(bytes);
    return bytes;
  }
}

/** What the frames of a stream unpack to, one after the other. */
export async function* unpackZstdFrames(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  const source = new Pushback(chunks);
  for (let frames = 1; ; frames += 1) {
    const head = await source.look(SKIPPABLE_HEADER_BYTES);
    if (head.length === 0) return;
    if (frames > FRAMES_MAX) throw new HpccError("limit.exceeded", `a layer has more than ${FRAMES_MAX} zstd frames`);
    const magic = head.length < 4 ? 0 : head.readUInt32LE(0);
    if (magic >= SKIPPABLE_FIRST && magic <= SKIPPABLE_LAST && head.length >= SKIPPABLE_HEADER_BYTES)
      await skip(source, SKIPPABLE_HEADER_BYTES + head.readUInt32LE(4));
    else yield* unpackFrame(source);
  }
}

async function* unpackFrame(source: Pushback): AsyncGenerator<Buffer, void, void> {
  const params = { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG_MAX };
  const decoder = createZstdDecompress({ chunkSize: CHUNK_BYTES, params });
  const fed = pipeline(Readable.from(frameBytes(source), { objectMode: false }), decoder);
  fed.catch(() => {});
  try {
    for await (const chunk of decoder as AsyncIterable<Buffer>) yield chunk;
    await fed;
  } finally {
    decoder.destroy();
  }
}

/** The bytes of the frame that begins here; what comes behind it stays. */
async function* frameBytes(source: Pushback): AsyncGenerator<Buffer, void, void> {
  const walker = new FrameWalker(2 ** WINDOW_LOG_MAX);
  while (!walker.done) {
    const chunk = await source.next();
    if (chunk === null) throw new HpccError("image.invalid", "a layer ends within a zstd frame");
    const size = taken(walker, chunk);
    if (size < chunk.length) source.giveBack(chunk.subarray(size));
    yield chunk.subarray(0, size);
  }
}

function taken(walker: FrameWalker, chunk: Buffer): number {
  try {
    return walker.push(chunk);
  } catch (cause) {
    throw new HpccError("image.invalid", (cause as Error).message, { cause });
  }
}

async function skip(source: Pushback, size: number): Promise<void> {
  for (let left = size; left > 0; ) {
    const chunk = await source.next();
    if (chunk === null) throw new HpccError("image.invalid", "a layer ends within a zstd frame");
    if (chunk.length > left) source.giveBack(chunk.subarray(left));
    left -= Math.min(left, chunk.length);
  }
}
