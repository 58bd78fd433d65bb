// Cuts a stream of bytes into frames. Holds at most one frame's bytes, and only as they arrive: a length that promises
// 64 MiB costs nothing until they come.
// UNTRUSTED: launcher
import type { Frame } from "./decode.ts";
import { codingError } from "./fields.ts";
import { FRAME_BYTES_MAX } from "./limits.ts";

const LENGTH_BYTES = 4;

/** An incremental reader: push what the socket gave, take the frames that are whole. */
export class FrameReader {
  readonly #frameBytesMax: number;
  #chunks: Buffer[] = [];
  #buffered = 0;
  #failed = false;

  constructor(frameBytesMax: number = FRAME_BYTES_MAX) {
    this.#frameBytesMax = frameBytesMax;
  }

  /** Bytes of the frame that is not whole yet; not 0 at a connection's end means it was cut off. */
  get pendingBytes(): number {
    return this.#buffered;
  }

  /** Takes bytes and returns the frames that they complete. After a throw the reader takes nothing more. */
  push(chunk: Uint8Array): Frame[] {
    if (this.#failed) throw codingError("frame-length", "bytes after a broken frame");
    this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    this.#buffered += chunk.byteLength;
    const frames: Frame[] = [];
    for (;;) {
      const length = this.#peekLength();
      if (length === null || this.#buffered < LENGTH_BYTES + length) return frames;
      const bytes = this.#consume(LENGTH_BYTES + length);
      frames.push({ type: bytes.readUInt8(LENGTH_BYTES), fields: bytes.subarray(LENGTH_BYTES + 1) });
    }
  }

  #peekLength(): number | null {
    if (this.#buffered < LENGTH_BYTES) return null;
    if (this.#chunks[0]!.length < LENGTH_BYTES) this.#chunks = [Buffer.concat(this.#chunks)];
    const length = this.#chunks[0]!.readUInt32LE(0);
    if (length === 0) return this.#fail("frame-empty", "no type byte");
    if (length > this.#frameBytesMax) return this.#fail("frame-too-long", `${length} bytes`);
    return length;
  }

  #fail(fault: "frame-empty" | "frame-too-long", what: string): never {
    this.#failed = true;
    this.#chunks = [];
    this.#buffered = 0;
    throw codingError(fault, what);
  }

  #consume(count: number): Buffer {
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    const rest = all.subarray(count);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#buffered = rest.length;
    return all.subarray(0, count);
  }
}
