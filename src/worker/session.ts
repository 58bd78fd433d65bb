// One client's stream: jobs multiplexed on it, each with its credit, none able to end the others. A client that breaks the
// protocol loses the stream, and with it all its jobs.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { BlobRef } from "../core/action/result-manifest.ts";
import type { Principal } from "../core/identity/spiffe.ts";
import {
  type ClientHello,
  type JobHeader,
  JobState,
  Outcome,
  ResultBlobKind,
  type SessionRequest,
  type SessionResponse,
  SessionResponseSchema,
} from "../gen/hpcc/worker/v1/worker_pb.js";
import { frameSizeMax } from "../store/zstd-frame.ts";
import type { MessageStream } from "../wire/grpc/message-stream.ts";
import { isolationToNumber, lifeToNumber } from "../wire/worker/action-codec.ts";
import { BlobReceiver } from "../wire/worker/blob-receiver.ts";
import { FairSender } from "../wire/worker/fair-sender.ts";
import {
  ERROR_MESSAGE_LENGTH_MAX,
  HELLO_TIMEOUT_MS,
  INITIAL_CREDIT_BYTES,
  PROGRESS_INTERVAL_MS,
  PROTOCOL_VERSION,
} from "../wire/worker/limits.ts";
import type { JobAnswer, Jobs } from "./layers/layer.ts";
import type { JobProgress } from "./receive-source.ts";

export interface SessionOptions {
  readonly jobs: Jobs;
  readonly version: string;
  readonly jobsMax: number;
  readonly blobBytesMax: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

type Stream = MessageStream<SessionRequest, SessionResponse>;

interface OpenJob {
  readonly id: bigint;
  readonly cancel: AbortController;
  receiver: BlobReceiver | null;
  state: JobProgress;
}

const STATES: Record<JobProgress, JobState> = {
  receiving: JobState.RECEIVING,
  queued: JobState.QUEUED,
  running: JobState.RUNNING,
};
const OUTCOMES = { compiled: Outcome.COMPILED, hit: Outcome.HIT, joined: Outcome.JOINED } as const;
const BLOB_KINDS = {
  output: ResultBlobKind.OUTPUT,
  stdout: ResultBlobKind.STDOUT,
  stderr: ResultBlobKind.STDERR,
} as const;

/** Serves a stream to its end; resolves when the client ends it, throws `peer.protocol` when it breaks the protocol. */
export async function serveSession(stream: Stream, principal: Principal, options: SessionOptions): Promise<void> {
  await new Session(stream, principal, options).run();
}

class Session {
  readonly #stream: Stream;
  readonly #principal: Principal;
  readonly #options: SessionOptions;
  readonly #sender: FairSender;
  readonly #jobs = new Map<bigint, OpenJob>();
  readonly #running = new Set<Promise<void>>();
  #lastJobId = 0n;

  constructor(stream: Stream, principal: Principal, options: SessionOptions) {
    this.#stream = stream;
    this.#principal = principal;
    this.#options = options;
    this.#sender = new FairSender({
      initialCreditBytes: INITIAL_CREDIT_BYTES,
      send: (chunk, flushed) => this.#send({ case: "chunk", value: chunk }, flushed),
    });
  }

  async run(): Promise<void> {
    const gone = () => this.#abandon(new HpccError("job.cancelled", "the client has gone"));
    this.#stream.closed.addEventListener("abort", gone, { once: true });
    try {
      const messages = this.#stream.incoming[Symbol.asyncIterator]();
      if (!(await this.#greet(messages))) return;
      for (let next = await messages.next(); !next.done; next = await messages.next()) this.#take(next.value.message);
      // The client has said all it has to say; what it waits for is still sent.
      await Promise.all(this.#running);
    } catch (error) {
      this.#abandon(error instanceof HpccError ? error : given());
      throw error;
    } finally {
      this.#stream.closed.removeEventListener("abort", gone);
      await Promise.all(this.#running);
    }
  }

  /** The first message; false when the client left without one. */
  async #greet(messages: AsyncIterator<SessionRequest>): Promise<boolean> {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => {});
    const timer = this.#options.clock.after(HELLO_TIMEOUT_MS, () => reject(breach("the hello did not come in time")));
    try {
      const first = await Promise.race([messages.next(), promise]);
      if (first.done) return false;
      if (first.value.message.case !== "hello") throw breach("the first message is no hello");
      this.#answerHello(first.value.message.value);
      return true;
    } finally {
      timer.cancel();
    }
  }

  #answerHello(hello: ClientHello): void {
    const { version, jobsMax, blobBytesMax } = this.#options;
    if (hello.protocolVersion !== PROTOCOL_VERSION)
      throw breach(`this worker speaks version ${PROTOCOL_VERSION}, the client ${hello.protocolVersion}`);
    this.#send({
      case: "hello",
      value: {
        protocolVersion: PROTOCOL_VERSION,
        workerVersion: version,
        initialCreditBytes: INITIAL_CREDIT_BYTES,
        jobsMax,
        blobSizeMax: BigInt(blobBytesMax),
      },
    });
  }

  /** UNTRUSTED: the client. */
  #take(message: SessionRequest["message"]): void {
    switch (message.case) {
      case "job":
        this.#begin(message.value);
        return;
      case "chunk": {
        const job = this.#known(message.value.jobId);
        if (job === null) return;
        if (job.receiver === null) throw breach("a chunk came for a job that needs none");
        job.receiver.push(message.value);
        return;
      }
      case "credit":
        this.#known(message.value.jobId);
        this.#sender.addCredit(message.value.jobId, message.value.bytes);
        return;
      case "cancel":
        this.#known(message.value.jobId)?.cancel.abort(given());
        return;
      case "hello":
      case undefined:
        throw breach("a message that does not belong here");
    }
  }

  /** A job that is open; null for one that has ended, whose last messages may still be under way. */
  #known(id: bigint): OpenJob | null {
    if (id > this.#lastJobId) throw breach("a message names a job that never began");
    return this.#jobs.get(id) ?? null;
  }

  #begin(header: JobHeader): void {
    if (header.jobId <= this.#lastJobId) throw breach("job ids must grow");
    // A job ends here when its last message has left, which its client may know before.
    if (this.#jobs.size >= this.#options.jobsMax * 2) throw breach("more jobs are open than the worker allows");
    this.#lastJobId = header.jobId;
    const job: OpenJob = { id: header.jobId, cancel: new AbortController(), receiver: null, state: "queued" };
    this.#jobs.set(job.id, job);
    const done = this.#serve(job, header)
      .catch((error: unknown) => this.#options.logger.error("worker.session.bug", { error: String(error) }))
      .finally(() => {
        this.#jobs.delete(job.id);
        this.#running.delete(done);
      });
    this.#running.add(done);
  }

  async #serve(job: OpenJob, header: JobHeader): Promise<void> {
    const client = {
      receive: (blobs: readonly BlobRef[]) => this.#receive(job, blobs),
      progress: (state: JobProgress) => this.#progress(job, state),
    };
    const beat = () => {
      this.#progress(job, job.state);
      timer = this.#options.clock.after(PROGRESS_INTERVAL_MS, beat);
    };
    let timer = this.#options.clock.after(PROGRESS_INTERVAL_MS, beat);
    let answer: JobAnswer;
    try {
      answer = await this.#options.jobs.run({ principal: this.#principal, header, client, signal: job.cancel.signal });
    } finally {
      timer.cancel();
    }
    if (answer.kind === "result") await this.#sendResult(job, answer);
    else await this.#sendError(job, answer.error);
  }

  async *#receive(job: OpenJob, blobs: readonly BlobRef[]): AsyncGenerator<AsyncIterable<Uint8Array>> {
    const receiver = new BlobReceiver({
      blobs: blobs.map(({ size }, index) => ({ index, frameSizeMax: frameSizeMax(size) })),
      creditBytes: INITIAL_CREDIT_BYTES,
      grant: (bytes) => this.#send({ case: "credit", value: { jobId: job.id, bytes } }),
      clock: this.#options.clock,
    });
    const { signal } = job.cancel;
    const stop = () => receiver.fail(signal.reason as HpccError);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    job.receiver = receiver;
    this.#send({ case: "need", value: { jobId: job.id, digests: blobs.map(({ digest }) => digest) } });
    try {
      for (let i = 0; i < blobs.length; i++) yield receiver.next();
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  #progress(job: OpenJob, state: JobProgress): void {
    job.state = state;
    this.#send({ case: "progress", value: { jobId: job.id, state: STATES[state] } });
  }

  async #sendResult(job: OpenJob, answer: JobAnswer & { readonly kind: "result" }): Promise<void> {
    const { result, row, outcome } = answer;
    const { manifest, resultDigest, origin } = result.recorded;
    try {
      const sent = this.#sendAndWait({
        case: "result",
        value: {
          jobId: job.id,
          outcome: OUTCOMES[outcome],
          resultDigest,
          exitCode: manifest.exitCode,
          blobs: result.parts.map((part) => ({
            kind: BLOB_KINDS[part.kind],
            outputIndex: part.outputIndex,
            digest: part.digest,
            size: BigInt(part.size),
            frameSize: BigInt(part.frame?.frameSize ?? 0),
            executable: part.executable,
          })),
          auditRow: row.line,
          rowDigest: row.digest,
          ...(row.receipt !== null && { receipt: row.receipt }),
          isolation: isolationToNumber(origin.isolation),
          compileUs: BigInt(origin.compileUs),
          life: lifeToNumber(origin.life),
        },
      });
      const blobs = result.parts.flatMap(({ frame }, index) =>
        frame === null ? [] : [{ index, open: () => frame.chunks() }],
      );
      await this.#sender.sendBlobs(job.id, blobs, job.cancel.signal);
      await sent;
    } catch (error) {
      const known = error instanceof HpccError ? error : new HpccError("store.io", "the result could not be read");
      await this.#sendError(job, known);
    } finally {
      await result.close();
    }
  }

  async #sendError(job: OpenJob, { code, message, retryable }: HpccError): Promise<void> {
    const text = message.slice(0, ERROR_MESSAGE_LENGTH_MAX);
    await this.#sendAndWait({ case: "error", value: { jobId: job.id, code, message: text, retryable } });
  }

  /** Resolves when the connection has taken the message: a client that does not read keeps its jobs open. */
  async #sendAndWait(message: ResponseInit): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#send(message, resolve);
    await promise;
  }

  #send(message: ResponseInit, flushed?: () => void): void {
    this.#stream.send(create(SessionResponseSchema, { message }), flushed);
  }

  #abandon(reason: HpccError): void {
    for (const job of this.#jobs.values()) job.cancel.abort(reason);
    this.#sender.close(reason);
  }
}

type ResponseInit = NonNullable<MessageInitShape<typeof SessionResponseSchema>["message"]>;

function given(): HpccError {
  return new HpccError("job.cancelled", "the client gave it up");
}

function breach(problem: string): HpccError {
  return new HpccError("peer.protocol", problem);
}
