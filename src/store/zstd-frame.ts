// Finds where a zstd frame ends, by its headers alone (RFC 8878). Decoders differ in what they make of bytes after the
// first frame; a stored blob must be exactly one frame, so that every decoder reads the same from it. (Node's decoder
// ignores what follows, and its streaming compressor may add an empty second frame.)
import { HpccError } from "../base/errors.ts";

const MAGIC = 0xfd2fb528;
/** Largest window that a frame may ask of a decoder; level 3 asks for 2 MiB. */
const WINDOW_BYTES_MAX = 8 * 1024 * 1024;
const BLOCK_BYTES_MAX = 128 * 1024;
const FRAME_HEADER_BYTES_MAX = 18;

/** Largest frame that may hold `size` bytes; a compressor without sense of size stays below it. */
export function frameSizeMax(size: number): number {
  return size + Math.ceil(size / 128) + 1024;
}

/** Follows a frame chunk by chunk. UNTRUSTED: whoever made the frame. */
export class FrameWalker {
  #header = Buffer.alloc(0);
  #state: "frame" | "block" | "skip" | "last" | "done" = "frame";
  /** Bytes of the present block, and of the checksum after the last one, that are still to come. */
  #skip = 0;
  #checksumBytes = 0;
  readonly #windowBytesMax: number;

  constructor(windowBytesMax = WINDOW_BYTES_MAX) {
    this.#windowBytesMax = windowBytesMax;
  }

  /**
   * Returns how many bytes of the chunk belong to the frame; less than all when it ends within. Throws
   * `argument.invalid` at a byte that cannot belong to a frame without dictionary.
   */
  push(chunk: Uint8Array): number {
    let rest = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    while (rest.length > 0 && this.#state !== "done")
      rest = this.#state === "skip" || this.#state === "last" ? this.#skipBytes(rest) : this.#readHeader(rest);
    return chunk.length - rest.length;
  }

  /** Like `push`, and throws also when the frame ends before the chunk does. */
  pushAll(chunk: Uint8Array): void {
    if (this.push(chunk) !== chunk.length) throw invalid("has bytes after its end");
  }

  /** True once the frame is whole. */
  get done(): boolean {
    return this.#state === "done";
  }

  #skipBytes(rest: Buffer): Buffer {
    const taken = Math.min(this.#skip, rest.length);
    this.#skip -= taken;
    if (this.#skip === 0) this.#state = this.#state === "last" ? "done" : "block";
    return rest.subarray(taken);
  }

  #readHeader(rest: Buffer): Buffer {
    const before = this.#header.length;
    this.#header = Buffer.concat([this.#header, rest.subarray(0, FRAME_HEADER_BYTES_MAX - before)]);
    const used = this.#state === "frame" ? this.#frameHeader() : this.#blockHeader();
    if (used === null) return rest.subarray(this.#header.length - before);
    this.#header = Buffer.alloc(0);
    return rest.subarray(used - before);
  }

  #frameHeader(): number | null {
    const header = this.#header;
    if (header.length < 5) return null;
    if (header.readUInt32LE(0) !== MAGIC) throw invalid("does not begin as a zstd frame");
    const descriptor = header[4]!;
    const singleSegment = (descriptor & 0x20) !== 0;
    if ((descriptor & 0x08) !== 0) throw invalid("sets a reserved bit");
    if ((descriptor & 0x03) !== 0) throw invalid("names a dictionary");
    const sizeFlag = descriptor >> 6;
    const sizeBytes = sizeFlag === 0 ? (singleSegment ? 1 : 0) : 1 << sizeFlag;
    const length = 5 + (singleSegment ? 0 : 1) + sizeBytes;
    if (header.length < length) return null;
    if (windowBytes(header, singleSegment, sizeBytes) > this.#windowBytesMax)
      throw invalid("asks for too large a window");
    this.#checksumBytes = (descriptor & 0x04) !== 0 ? 4 : 0;
    this.#state = "block";
    return length;
  }

  #blockHeader(): number | null {
    if (this.#header.length < 3) return null;
    const bits = this.#header.readUIntLE(0, 3);
    const type = (bits >> 1) & 0x03;
    const size = bits >> 3;
    if (type === 3 || size > BLOCK_BYTES_MAX) throw invalid("has an invalid block");
    const last = (bits & 1) === 1;
    // A run-length block is one byte, whatever its size.
    this.#skip = (type === 1 ? 1 : size) + (last ? this.#checksumBytes : 0);
    this.#state = last ? "last" : "skip";
    if (this.#skip === 0) this.#state = last ? "done" : "block";
    return 3;
  }
}

function windowBytes(header: Buffer, singleSegment: boolean, sizeBytes: number): number {
  if (!singleSegment) {
    const descriptor = header[5]!;
    const base = 2 ** (10 + (descriptor >> 3));
    return base + (base / 8) * (descriptor & 0x07);
  }
  if (sizeBytes === 8) return Number(header.readBigUInt64LE(5));
  return header.readUIntLE(5, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
}

function invalid(problem: string): HpccError {
  return new HpccError("argument.invalid", `a blob's zstd frame ${problem}`);
}
