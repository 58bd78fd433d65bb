// A client that says what it is told to: every message of the protocol at hand, none of the product's client in between.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { RemoteJob } from "../../src/daemon/remote/remote-job.ts";
import {
  FetchRequestSchema,
  type FetchResponse,
  InspectRequestSchema,
  type InspectResponse,
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  WorkerService,
} from "../../src/gen/hpcc/worker/v1/worker_pb.js";
import { RpcClient } from "../../src/wire/grpc/client.ts";
import type { MessageStream } from "../../src/wire/grpc/message-stream.ts";
import { actionToMessage, isolationToNumber } from "../../src/wire/worker/action-codec.ts";
import { PROTOCOL_VERSION } from "../../src/wire/worker/limits.ts";
import type { TestWorker } from "../support/test-worker.ts";

export type Said = NonNullable<MessageInitShape<typeof SessionRequestSchema>["message"]>;
export type Heard = SessionResponse["message"];

export const HELLO: Said = { case: "hello", value: { protocolVersion: PROTOCOL_VERSION, clientVersion: "0.1.0" } };

/** A job as the product's client would begin it. */
export function jobMessage(job: RemoteJob, jobId: bigint) {
  const value = {
    jobId,
    action: actionToMessage(job.action),
    sourceManifest: job.manifest,
    deadlineMs: job.deadlineMs,
    isolationMin: isolationToNumber(job.isolationMin),
  };
  return { case: "job", value } as const satisfies Said;
}

export class WireClient {
  readonly #rpc: RpcClient;
  readonly #stream: MessageStream<SessionResponse, SessionRequest>;
  readonly #responses: AsyncIterator<SessionResponse>;

  private constructor(rpc: RpcClient) {
    this.#rpc = rpc;
    this.#stream = rpc.bidi(WorkerService.method.session);
    this.#responses = this.#stream.incoming[Symbol.asyncIterator]();
  }

  /** A stream on which nothing has been said, of whoever the path names. */
  static async connect(at: TestWorker, path: string): Promise<WireClient> {
    return new WireClient(
      new RpcClient({ address: at.worker.address, tls: await at.credentials(path), accept: () => true }),
    );
  }

  say(message: Said): void {
    this.#stream.send(create(SessionRequestSchema, { message }));
  }

  /** The next message of one of these kinds, whatever came before it. Throws what ended the stream. */
  async hear<K extends NonNullable<Heard["case"]>>(...kinds: readonly K[]): Promise<Extract<Heard, { case: K }>> {
    for (;;) {
      const next = await this.#responses.next();
      if (next.done) throw new Error("the worker ended the stream");
      const { message } = next.value;
      if (kinds.some((kind) => kind === message.case)) return message as Extract<Heard, { case: K }>;
    }
  }

  async inspect(hash: string): Promise<InspectResponse> {
    return this.#rpc.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash }));
  }

  /** The parts of a blob. */
  async fetch(rowDigest: string, digest: string): Promise<FetchResponse[]> {
    const parts: FetchResponse[] = [];
    const request = create(FetchRequestSchema, { rowDigest, digest });
    for await (const part of this.#rpc.serverStream(WorkerService.method.fetch, request)) parts.push(part);
    return parts;
  }

  close(): void {
    this.#rpc.close();
  }
}
