// Sends blobs of many jobs on one stream: one chunk of each job in turn, each job within its credit, and never so much in
// the connection that a small message has to wait behind it. Used by both ends; knows no message but its chunks.
import { HpccError } from "../../base/errors.ts";
import { CHUNK_BYTES_MAX, CREDIT_BYTES_MAX, QUEUED_BYTES_MAX } from "./limits.ts";

/** A zstd frame: in memory, or read while it is sent. */
export type Frame = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface OutgoingBlob {
  /** Index in Need.digests or JobResult.blobs. */
  readonly index: number;
  /** Opens the frame when its turn comes; never an empty one. */
  open(): Frame | Promise<Frame>;
}

export interface OutgoingChunk {
  readonly jobId: bigint;
  readonly blobIndex: number;
  readonly data: Uint8Array;
  readonly last: boolean;
}

export interface FairSenderOptions {
  /** Hands a chunk to the connection, which calls `flushed` once it has taken it. */
  readonly send: (chunk: OutgoingChunk, flushed: () => void) => void;
  /** Chunk payload that may be sent on a job before it gets credit. */
  readonly initialCreditBytes: number;
}

interface Sending {
  creditBytes: number;
  wake: (() => void) | null;
}

export class FairSender {
  readonly #options: FairSenderOptions;
  readonly #chunkBytes: number;
  readonly #sending = new Map<bigint, Sending>();
  /** Jobs with a chunk at hand, in the order of their turns. */
  readonly #turns: (() => void)[] = [];
  #queuedBytes = 0;
  #closed: HpccError | null = null;

  constructor(options: FairSenderOptions) {
    this.#options = options;
    // The other side hands out credit by halves, so that a chunk of this size always gets its turn.
    this.#chunkBytes = Math.max(1, Math.min(CHUNK_BYTES_MAX, Math.floor(options.initialCreditBytes / 2)));
  }

  /**
   * Sends the blobs of a job in order. Resolves when the last chunk is handed to the connection; rejects with the signal's
   * reason, with what opening or reading a frame throws, or when the sender is closed. Once per job.
   */
  async sendBlobs(jobId: bigint, blobs: readonly OutgoingBlob[], signal: AbortSignal): Promise<void> {
    const sending: Sending = { creditBytes: this.#options.initialCreditBytes, wake: null };
    this.#sending.set(jobId, sending);
    const wake = () => sending.wake?.();
    signal.addEventListener("abort", wake);
    try {
      for (const blob of blobs) {
        const frame = await blob.open();
        for await (const { data, last } of chunksOf(frame, this.#chunkBytes)) {
          await this.#until(sending, signal, () => sending.creditBytes >= data.length);
          await this.#turn(sending, signal);
          sending.creditBytes -= data.length;
          this.#send({ jobId, blobIndex: blob.index, data, last });
        }
      }
    } finally {
      signal.removeEventListener("abort", wake);
      this.#sending.delete(jobId);
    }
  }

  /** The other side takes more of a job; ignored when nothing is being sent for it. UNTRUSTED: the peer. */
  addCredit(jobId: bigint, bytes: number): void {
    const sending = this.#sending.get(jobId);
    if ((sending?.creditBytes ?? 0) + bytes > CREDIT_BYTES_MAX)
      throw new HpccError("peer.protocol", `the peer gives more than ${CREDIT_BYTES_MAX} bytes of credit`);
    if (sending === undefined) return;
    sending.creditBytes += bytes;
    sending.wake?.();
  }

  /** Rejects all that is being sent. */
  close(error: HpccError): void {
    this.#closed ??= error;
    for (const sending of this.#sending.values()) sending.wake?.();
  }

  #check(signal: AbortSignal): void {
    if (this.#closed !== null) throw this.#closed;
    signal.throwIfAborted();
  }

  async #until(sending: Sending, signal: AbortSignal, ready: () => boolean): Promise<void> {
    this.#check(signal);
    while (!ready()) {
      await new Promise<void>((resolve) => {
        sending.wake = resolve;
      });
      sending.wake = null;
      this.#check(signal);
    }
  }

  /** Waits for the job's turn: first come, first served, and a job has one chunk in the queue at most. */
  async #turn(sending: Sending, signal: AbortSignal): Promise<void> {
    if (this.#queuedBytes < QUEUED_BYTES_MAX && this.#turns.length === 0) return;
    let myTurn = false;
    const turn = () => {
      myTurn = true;
      sending.wake?.();
    };
    this.#turns.push(turn);
    try {
      await this.#until(sending, signal, () => myTurn);
    } catch (error) {
      const at = this.#turns.indexOf(turn);
      if (at >= 0) this.#turns.splice(at, 1);
      else this.#next();
      throw error;
    }
  }

  #send(chunk: OutgoingChunk): void {
    const { length } = chunk.data;
    this.#queuedBytes += length;
    this.#options.send(chunk, () => {
      this.#queuedBytes -= length;
      this.#next();
    });
    this.#next();
  }

  #next(): void {
    if (this.#queuedBytes < QUEUED_BYTES_MAX) this.#turns.shift()?.();
  }
}

/** Cuts a frame into chunks of at most `bytesMax`, and knows the last one. */
export async function* chunksOf(
  frame: Frame,
  bytesMax: number,
): AsyncGenerator<{ readonly data: Uint8Array; readonly last: boolean }> {
  let held: Uint8Array | null = null;
  for await (const part of frame instanceof Uint8Array ? [frame] : frame)
    for (let at = 0; at < part.length; at += bytesMax) {
      if (held !== null) yield { data: held, last: false };
      held = part.subarray(at, at + bytesMax);
    }
  if (held === null) throw new HpccError("store.corrupt", "a blob to be sent is empty");
  yield { data: held, last: true };
}
