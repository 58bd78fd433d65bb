// The client's end of a worker's stream: jobs multiplexed on one connection. It ends with the connection; whoever owns it
// connects anew. What a worker sends is checked here, and a blob is not an object before its digest is proven.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Clock } from "../../base/clock.ts";
import { HpccError, parseErrorCode } from "../../base/errors.ts";
import type { HostPort } from "../../core/identity/host-port.ts";
import type { Identity } from "../../core/identity/spiffe.ts";
import {
  InspectRequestSchema,
  type InspectResponse,
  type JobError,
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  type WorkerHello,
  WorkerService,
} from "../../gen/hpcc/worker/v1/worker_pb.js";
import { RpcClient } from "../../wire/grpc/client.ts";
import type { MessageStream } from "../../wire/grpc/message-stream.ts";
import type { TlsMaterial } from "../../wire/grpc/tls.ts";
import { FairSender } from "../../wire/worker/fair-sender.ts";
import {
  CREDIT_BYTES_MAX,
  ERROR_MESSAGE_LENGTH_MAX,
  HELLO_TIMEOUT_MS,
  PROTOCOL_VERSION,
} from "../../wire/worker/limits.ts";
import { OpenJob } from "./open-job.ts";
import { type RemoteJob, type RemoteOptions, type RemoteResult, type RemoteWorker, workersWord } from "./remote-job.ts";

export interface WorkerClientOptions {
  readonly address: HostPort;
  readonly tls: TlsMaterial;
  /** Whether this is the worker that is wanted, once its certificate's chain is proven. */
  readonly accept: (server: Identity) => boolean;
  /** Version of the client, "major.minor.patch". */
  readonly version: string;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

type Stream = MessageStream<SessionResponse, SessionRequest>;
type RequestInit = NonNullable<MessageInitShape<typeof SessionRequestSchema>["message"]>;

const JOBS_MAX = 4096;

export class WorkerClient implements RemoteWorker {
  readonly #rpc: RpcClient;
  readonly #stream: Stream;
  readonly #clock: Clock;
  readonly #hello: WorkerHello;
  readonly #logName: string | null;
  readonly #sender: FairSender;
  readonly #jobs = new Map<bigint, OpenJob>();
  readonly #leave: AbortController;
  readonly #ended = new AbortController();
  /** Calls that wait for a free place on the stream. */
  readonly #waiting: (() => void)[] = [];
  #lastJobId = 0n;
  #failure: HpccError | null = null;

  private constructor(parts: {
    readonly rpc: RpcClient;
    readonly stream: Stream;
    readonly hello: WorkerHello;
    readonly leave: AbortController;
    readonly clock: Clock;
    readonly logName: string | null;
  }) {
    this.#rpc = parts.rpc;
    this.#stream = parts.stream;
    this.#clock = parts.clock;
    this.#hello = parts.hello;
    this.#leave = parts.leave;
    this.#logName = parts.logName;
    this.#sender = new FairSender({
      initialCreditBytes: parts.hello.initialCreditBytes,
      send: (chunk, flushed) => this.#send({ case: "chunk", value: chunk }, flushed),
    });
  }

  /** Connects and exchanges hellos. Throws `peer.unavailable`, `peer.protocol`, `identity.forbidden` or `peer.deadline`. */
  static async connect(options: WorkerClientOptions): Promise<WorkerClient> {
    const { address, tls, accept, version, clock, signal } = options;
    let server: Identity | null = null;
    const rpc = new RpcClient({
      address,
      tls,
      accept: (identity) => {
        server = identity;
        return accept(identity);
      },
    });
    const leave = new AbortController();
    let late = false;
    const stop = () => leave.abort();
    const timer = clock.after(HELLO_TIMEOUT_MS, () => {
      late = true;
      leave.abort();
    });
    signal?.addEventListener("abort", stop, { once: true });
    try {
      const stream = rpc.bidi(WorkerService.method.session, { signal: leave.signal });
      const hello = { protocolVersion: PROTOCOL_VERSION, clientVersion: version };
      stream.send(create(SessionRequestSchema, { message: { case: "hello", value: hello } }));
      const messages = stream.incoming[Symbol.asyncIterator]();
      const first = await messages.next();
      const logName = logNameOf(server);
      const parts = { rpc, stream, hello: helloOf(first.done ? null : first.value), leave, clock, logName };
      const client = new WorkerClient(parts);
      void client.#read(messages);
      return client;
    } catch (error) {
      leave.abort();
      rpc.close();
      throw late ? new HpccError("peer.deadline", "the worker did not say hello in time", { cause: error }) : error;
    } finally {
      timer.cancel();
      signal?.removeEventListener("abort", stop);
    }
  }

  /** Aborted, with an HpccError as reason, when the stream has ended; nothing can be compiled any more. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Version of the worker. UNTRUSTED: the worker. */
  get workerVersion(): string {
    return this.#hello.workerVersion.slice(0, 64);
  }

  /** Largest file that the worker takes, in bytes. */
  get blobBytesMax(): number {
    return Number(this.#hello.blobSizeMax);
  }

  async compile(job: RemoteJob, options: RemoteOptions): Promise<RemoteResult> {
    if (options.signal.aborted) throw cancelled();
    // Nothing may come between finding a place and taking it.
    while (this.#failure === null && this.#jobs.size >= this.#jobsMax) await this.#freePlace(options.signal);
    if (this.#failure !== null) throw this.#failure;
    const id = ++this.#lastJobId;
    const open = new OpenJob({
      id,
      job,
      options,
      creditBytes: this.#hello.initialCreditBytes,
      clock: this.#clock,
      logName: this.#logName,
      sender: this.#sender,
      send: (message) => this.#send(message),
    });
    this.#jobs.set(id, open);
    const cancel = () => open.cancel();
    options.signal.addEventListener("abort", cancel, { once: true });
    try {
      return await open.run();
    } finally {
      options.signal.removeEventListener("abort", cancel);
      // Its last messages may still come: the place is free when the worker says that the job is over.
      void open.over.then(() => this.#free(id));
    }
  }

  /** Reads back what the worker's audit log knows of a hash, within the caller's tenant. */
  async inspect(hash: string, signal?: AbortSignal): Promise<InspectResponse> {
    const request = create(InspectRequestSchema, { hash });
    return this.#rpc.unary(WorkerService.method.inspect, request, signal === undefined ? {} : { signal });
  }

  /** Ends the connection; what still runs fails with `peer.unavailable`. */
  close(): void {
    this.#end(new HpccError("peer.unavailable", "the connection to the worker was closed"));
  }

  get #jobsMax(): number {
    return Math.min(JOBS_MAX, this.#hello.jobsMax);
  }

  async #freePlace(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#waiting.push(wake);
    signal.addEventListener("abort", wake, { once: true });
    await promise;
    signal.removeEventListener("abort", wake);
    if (!signal.aborted) return;
    const at = this.#waiting.indexOf(wake);
    if (at >= 0) this.#waiting.splice(at, 1);
    else this.#waiting.shift()?.();
    throw cancelled();
  }

  #free(id: bigint): void {
    this.#jobs.delete(id);
    this.#waiting.shift()?.();
  }

  async #read(messages: AsyncIterator<SessionResponse>): Promise<void> {
    try {
      for (let next = await messages.next(); !next.done; next = await messages.next()) this.#take(next.value.message);
      this.#end(new HpccError("peer.unavailable", "the worker ended the stream"));
    } catch (error) {
      this.#end(
        error instanceof HpccError
          ? error
          : new HpccError("peer.protocol", "the worker sent nonsense", { cause: error }),
      );
    }
  }

  /** UNTRUSTED: the worker. */
  #take(message: SessionResponse["message"]): void {
    if (message.case === undefined || message.case === "hello")
      throw new HpccError("peer.protocol", "the worker sent a message that does not belong here");
    const { jobId } = message.value;
    const job = this.#jobs.get(jobId);
    if (job === undefined) {
      if (jobId > this.#lastJobId) throw new HpccError("peer.protocol", "the worker names a job that never began");
      return;
    }
    job.heard();
    switch (message.case) {
      case "need":
        job.takeNeed(message.value);
        return;
      case "credit":
        this.#sender.addCredit(jobId, message.value.bytes);
        return;
      case "result":
        job.takeResult(message.value);
        return;
      case "chunk":
        job.takeChunk(message.value);
        return;
      case "error":
        job.takeError(errorOf(message.value));
        return;
      case "progress":
        job.takeProgress(message.value);
        return;
    }
  }

  #send(message: RequestInit, flushed?: () => void): void {
    this.#stream.send(create(SessionRequestSchema, { message }), flushed);
  }

  #end(error: HpccError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#sender.close(error);
    for (const job of this.#jobs.values()) job.takeError(error);
    for (const wake of this.#waiting.splice(0)) wake();
    this.#stream.end();
    this.#leave.abort();
    this.#rpc.close();
    this.#ended.abort(error);
  }
}

/** What the audit log of a worker is called. */
function logNameOf(server: Identity | null): string | null {
  return server?.kind === "worker" ? `${server.trustDomain}/worker/${server.name}` : null;
}

/** UNTRUSTED: the worker. */
function helloOf(response: SessionResponse | null): WorkerHello {
  if (response === null) throw new HpccError("peer.unavailable", "the worker ended the stream");
  const { message } = response;
  if (message.case !== "hello") throw new HpccError("peer.protocol", "the worker's first message is no hello");
  const { protocolVersion, initialCreditBytes, jobsMax } = message.value;
  if (protocolVersion !== PROTOCOL_VERSION)
    throw new HpccError("peer.protocol", `the worker speaks version ${protocolVersion}, we ${PROTOCOL_VERSION}`);
  if (initialCreditBytes < 2 || initialCreditBytes > CREDIT_BYTES_MAX || jobsMax < 1)
    throw new HpccError("peer.protocol", "the worker's limits make no sense");
  return message.value;
}

/** UNTRUSTED: the worker. */
function errorOf({ code, message }: JobError): HpccError {
  const text = message
    .slice(0, ERROR_MESSAGE_LENGTH_MAX)
    .replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "\ufffd");
  return workersWord(parseErrorCode(code) ?? "job.failed", text);
}

function cancelled(): HpccError {
  return new HpccError("job.cancelled", "the compile was given up");
}
