// One job on a worker's stream, from its header to its verified outputs.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { decodeSourceManifest, filesOf } from "../../core/action/source-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import {
  type BlobChunk,
  type JobProgress,
  type JobResult,
  JobState,
  type Need,
  type SessionRequestSchema,
} from "../../gen/hpcc/worker/v1/worker_pb.js";
import { frameSizeMax } from "../../store/zstd-frame.ts";
import { actionToMessage, isolationToNumber } from "../../wire/worker/action-codec.ts";
import { BlobReceiver } from "../../wire/worker/blob-receiver.ts";
import type { FairSender, Frame } from "../../wire/worker/fair-sender.ts";
import { JOB_SILENCE_MS_MAX } from "../../wire/worker/limits.ts";
import { checkResult } from "./check-result.ts";
import { receiveResult } from "./receive-result.ts";
import type { RemoteJob, RemoteOptions, RemoteProgress, RemoteResult } from "./remote-job.ts";

export interface OpenJobParts {
  readonly id: bigint;
  readonly job: RemoteJob;
  readonly options: RemoteOptions;
  /** Chunk payload that the worker may send before it gets credit. */
  readonly creditBytes: number;
  readonly clock: Clock;
  /** What the worker's audit log is called, by its certificate. */
  readonly logName: string | null;
  readonly sender: FairSender;
  readonly send: (message: NonNullable<MessageInitShape<typeof SessionRequestSchema>["message"]>) => void;
}

const PROGRESS: Partial<Record<JobState, RemoteProgress>> = {
  [JobState.RECEIVING]: "receiving",
  [JobState.QUEUED]: "queued",
  [JobState.RUNNING]: "running",
};

export class OpenJob {
  readonly #parts: OpenJobParts;
  readonly #done = Promise.withResolvers<RemoteResult>();
  readonly #over = Promise.withResolvers<void>();
  readonly #stopSending = new AbortController();
  #receiver: BlobReceiver | null = null;
  /** Settles, never rejecting, when all of the result that will come is on disk or removed. */
  #receiving: Promise<void> = Promise.resolve();
  #timer: Timer | null = null;
  #heardMs = 0;
  #needed = false;
  #isOver = false;
  #cancelSent = false;
  #sentFrameBytes = 0;
  #sentBytes = 0;

  constructor(parts: OpenJobParts) {
    this.#parts = parts;
    this.#done.promise.catch(() => {});
  }

  /** Resolves when no message of the job can come any more. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  async run(): Promise<RemoteResult> {
    const { id, job, options } = this.#parts;
    this.#watch();
    options.onSent?.();
    this.#parts.send({
      case: "job",
      value: {
        jobId: id,
        action: actionToMessage(job.action),
        sourceManifest: job.manifest,
        deadlineMs: job.deadlineMs,
        isolationMin: isolationToNumber(job.isolationMin),
        again: job.again ?? false,
        buildId: job.build ?? "",
        imageRepository: job.image?.repository ?? "",
        imageWaitMs: job.image?.waitMs ?? 0,
        imageContents: job.image?.contents ?? "",
      },
    });
    return this.#done.promise;
  }

  cancel(): void {
    this.#giveUp(new HpccError("job.cancelled", "the compile was given up"));
  }

  /** UNTRUSTED: the worker. */
  takeNeed(need: Need): void {
    if (this.#needed || this.#receiver !== null) throw breach("asks for blobs of a job twice");
    this.#needed = true;
    const sizes = new Map(
      filesOf(decodeSourceManifest(this.#parts.job.manifest)).map((file) => [file.digest, file.size]),
    );
    const digests = need.digests as Digest[];
    if (new Set(digests).size !== digests.length || !digests.every((digest) => (sizes.get(digest) ?? 0) > 0))
      throw breach("asks for blobs that are none of the job's");
    const { id, job, sender } = this.#parts;
    const blobs = digests.map((digest, index) => ({
      index,
      open: async () => {
        this.#sentBytes += sizes.get(digest) ?? 0;
        return this.#counted(await job.openBlob(digest));
      },
    }));
    const { signal } = this.#stopSending;
    sender.sendBlobs(id, blobs, signal).catch((error: unknown) => signal.aborted || this.#giveUp(error));
  }

  /** UNTRUSTED: the worker. */
  takeResult(message: JobResult): void {
    if (this.#receiver !== null) throw breach("answers a job twice");
    const { id, job, creditBytes, clock, send, logName } = this.#parts;
    const result = checkResult(message, job, logName);
    const receiver = new BlobReceiver({
      blobs: result.blobs
        .map(({ size }, index) => ({ index, frameSizeMax: frameSizeMax(size), size }))
        .filter(({ size }) => size > 0),
      creditBytes,
      grant: (bytes) => send({ case: "credit", value: { jobId: id, bytes } }),
      clock,
    });
    this.#receiver = receiver;
    this.#stopSending.abort(new HpccError("job.cancelled", "the worker has answered"));
    if (receiver.complete) this.#finish();
    // It crossed the cancel. Whoever gave up has been told that nothing is written any more.
    if (this.#cancelSent) return;
    const received = receiveResult(result, receiver, job.outputFolder);
    this.#receiving = received.then(
      (content) => {
        const receivedBytes = result.blobs.reduce((sum, { size }) => sum + size, 0);
        const traffic = {
          sentFrameBytes: this.#sentFrameBytes,
          sentBytes: this.#sentBytes,
          receivedFrameBytes: receiver.receivedBytes,
          receivedBytes,
        };
        this.#done.resolve({ ...result.head, ...content, traffic });
      },
      (error: unknown) => this.#giveUp(error),
    );
  }

  /** UNTRUSTED: the worker. */
  takeChunk(chunk: BlobChunk): void {
    if (this.#receiver === null) throw breach("sends a chunk before its result");
    this.#receiver.push(chunk);
    if (this.#receiver.complete) this.#finish();
  }

  /** Notes that the worker gave a sign of life for this job. */
  heard(): void {
    this.#heardMs = this.#parts.clock.monotonicMs();
  }

  /** The job ended without a result, or before all of it came. */
  takeError(error: HpccError): void {
    this.#stopSending.abort(error);
    // A result that has come whole is good, whatever comes after it.
    if (this.#receiver?.complete !== true) {
      this.#reject(error);
    }
    this.#finish();
  }

  takeProgress({ state }: JobProgress): void {
    const progress = PROGRESS[state];
    if (progress !== undefined) this.#parts.options.onProgress?.(progress);
  }

  /** A worker that hangs is left; the connection's own probes only see a dead one. */
  #watch(): void {
    const { clock } = this.#parts;
    this.heard();
    const check = () => {
      const silentMs = clock.monotonicMs() - this.#heardMs;
      if (silentMs >= JOB_SILENCE_MS_MAX) this.#giveUp(new HpccError("peer.deadline", "the worker fell silent"));
      else if (!this.#isOver) this.#timer = clock.after(JOB_SILENCE_MS_MAX - silentMs, check);
    };
    this.#timer = clock.after(JOB_SILENCE_MS_MAX, check);
  }

  #giveUp(error: unknown): void {
    const known = error instanceof HpccError ? error : new HpccError("store.io", String(error), { cause: error });
    this.#stopSending.abort(known);
    this.#reject(known);
    if (this.#isOver || this.#cancelSent) return;
    this.#cancelSent = true;
    this.#parts.send({ case: "cancel", value: { jobId: this.#parts.id } });
  }

  /** Rejects once nothing is written to the output folder any more. */
  #reject(error: HpccError): void {
    this.#receiver?.fail(error);
    void this.#receiving.then(() => this.#done.reject(error));
  }

  #finish(): void {
    this.#timer?.cancel();
    this.#isOver = true;
    this.#over.resolve();
  }

  async *#counted(frame: Frame): AsyncGenerator<Uint8Array> {
    for await (const part of frame instanceof Uint8Array ? [frame] : frame) {
      this.#sentFrameBytes += part.length;
      yield part;
    }
  }
}

function breach(problem: string): HpccError {
  return new HpccError("peer.protocol", `the worker ${problem}`);
}
