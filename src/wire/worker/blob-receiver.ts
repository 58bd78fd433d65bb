// Receives the blobs of one job: holds the sender to its credit, order and sizes, and hands out new credit as the bytes are
// used, so that memory stays within the credit. Used by both ends; knows no message but its chunks.
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { BLOB_IDLE_TIMEOUT_MS, CHUNK_BYTES_MAX } from "./limits.ts";

export interface ExpectedBlob {
  /** Index in Need.digests or JobResult.blobs. */
  readonly index: number;
  /** Most bytes that the frame may have. */
  readonly frameSizeMax: number;
}

export interface IncomingChunk {
  readonly blobIndex: number;
  readonly data: Uint8Array;
  readonly last: boolean;
}

export interface BlobReceiverOptions {
  /** The blobs in the order in which they are sent. */
  readonly blobs: readonly ExpectedBlob[];
  readonly creditBytes: number;
  /** Tells the sender that it may send so many bytes more. */
  readonly grant: (bytes: number) => void;
  readonly clock: Clock;
}

export class BlobReceiver {
  readonly #options: BlobReceiverOptions;
  readonly #queue: IncomingChunk[] = [];
  /** Position in `blobs` of the one that is arriving, and its bytes so far. */
  #arriving = 0;
  #arrivedBytes = 0;
  /** Bytes that the sender may still send. */
  #allowedBytes: number;
  #usedBytes = 0;
  #receivedBytes = 0;
  #wake: (() => void) | null = null;
  #failed: HpccError | null = null;

  constructor(options: BlobReceiverOptions) {
    this.#options = options;
    this.#allowedBytes = options.creditBytes;
  }

  /** Payload of all chunks so far. */
  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** True when the last chunk of the last blob has come. */
  get complete(): boolean {
    return this.#arriving === this.#options.blobs.length;
  }

  /** Takes a chunk; throws `peer.protocol` when the sender breaks its credit, order or sizes. UNTRUSTED: the peer. */
  push(chunk: IncomingChunk): void {
    const blob = this.#options.blobs[this.#arriving];
    const { length } = chunk.data;
    if (blob === undefined || chunk.blobIndex !== blob.index) throw breach("a chunk belongs to no blob that is due");
    if (length < 1 || length > CHUNK_BYTES_MAX) throw breach(`a chunk has ${length} bytes`);
    if (length > this.#allowedBytes) throw breach("a chunk is beyond the job's credit");
    this.#arrivedBytes += length;
    if (this.#arrivedBytes > blob.frameSizeMax) throw breach("a blob is larger than its size allows");
    this.#allowedBytes -= length;
    this.#receivedBytes += length;
    if (chunk.last) {
      this.#arriving++;
      this.#arrivedBytes = 0;
    }
    this.#queue.push(chunk);
    this.#wake?.();
  }

  /** Ends the reading of blobs with an error. */
  fail(error: HpccError): void {
    this.#failed ??= error;
    this.#wake?.();
  }

  /**
   * The bytes of the next blob, in the order of `blobs`; read it to its end before the one after it. Throws
   * `peer.deadline` when the sender is silent for too long, and what `fail` was told.
   */
  async *next(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const chunk = this.#queue.shift() ?? (await this.#arrival());
      yield chunk.data;
      this.#use(chunk.data.length);
      if (chunk.last) return;
    }
  }

  #use(bytes: number): void {
    this.#usedBytes += bytes;
    if (this.complete || this.#usedBytes < this.#options.creditBytes / 2) return;
    this.#allowedBytes += this.#usedBytes;
    this.#options.grant(this.#usedBytes);
    this.#usedBytes = 0;
  }

  async #arrival(): Promise<IncomingChunk> {
    let late = false;
    const timer: Timer = this.#options.clock.after(BLOB_IDLE_TIMEOUT_MS, () => {
      late = true;
      this.#wake?.();
    });
    try {
      for (;;) {
        if (this.#failed !== null) throw this.#failed;
        const chunk = this.#queue.shift();
        if (chunk !== undefined) return chunk;
        if (late) throw new HpccError("peer.deadline", "the sender of a blob fell silent");
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        this.#wake = null;
      }
    } finally {
      timer.cancel();
    }
  }
}

function breach(problem: string): HpccError {
  return new HpccError("peer.protocol", problem);
}
