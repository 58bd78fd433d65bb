// A gRPC client with typed calls. It dials one address and proves the server's identity by its certificate's URI.

import { isIP } from "node:net";
import type { Duplex } from "node:stream";
import { Client, Metadata, type ServiceError } from "@grpc/grpc-js";
import { HpccError } from "../../base/errors.ts";
import { formatHostPort, type HostPort } from "../../core/identity/host-port.ts";
import type { Identity } from "../../core/identity/spiffe.ts";
import { dialTarget } from "./address.ts";
import { CLIENT_OPTIONS, UNARY_TIMEOUT_MS } from "./limits.ts";
import { type MessageStream, messageStream } from "./message-stream.ts";
import { deserializer, type Input, type Method, type Output, pathOf, serializer } from "./method.ts";
import { errorOfStatus } from "./status.ts";
import { clientCredentials, type TlsMaterial } from "./tls.ts";

export interface RpcClientOptions {
  readonly address: HostPort;
  readonly tls: TlsMaterial;
  /** Whether this is the server that is wanted, once its chain is proven. */
  readonly accept: (server: Identity) => boolean;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** For unary calls, UNARY_TIMEOUT_MS by default; for streams none. */
  readonly timeoutMs?: number;
}

/** Node refuses an IP address as a TLS server name; certificates are not checked against it anyway. */
const SERVER_NAME_OF_ADDRESSES = "hpcc.invalid";

export class RpcClient {
  readonly #client: Client;
  readonly #peer: string;

  constructor({ address, tls, accept }: RpcClientOptions) {
    this.#peer = formatHostPort(address);
    this.#client = new Client(dialTarget(address), clientCredentials(tls, accept), {
      ...CLIENT_OPTIONS,
      ...(isIP(address.host) ? { "grpc.ssl_target_name_override": SERVER_NAME_OF_ADDRESSES } : {}),
    });
  }

  /** One request, one response. */
  async unary<M extends Method<"unary">>(method: M, request: Input<M>, options: CallOptions = {}): Promise<Output<M>> {
    const { promise, resolve, reject } = Promise.withResolvers<Output<M>>();
    throwIfAborted(options.signal);
    const call = this.#client.makeUnaryRequest(
      pathOf(method),
      serializer(method.input) as (message: Input<M>) => Buffer,
      deserializer(method.output) as (bytes: Buffer) => Output<M>,
      request,
      new Metadata(),
      { deadline: Date.now() + (options.timeoutMs ?? UNARY_TIMEOUT_MS) },
      (error: ServiceError | null, response?: Output<M>) => {
        if (error || response === undefined) reject(this.#error(error ?? new Error("no response"), options.signal));
        else resolve(response);
      },
    );
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    try {
      return await promise;
    } finally {
      options.signal?.removeEventListener("abort", cancel);
    }
  }

  /** One request, many responses; leaving the loop early ends the call. */
  async *serverStream<M extends Method<"server_streaming">>(
    method: M,
    request: Input<M>,
    options: CallOptions = {},
  ): AsyncGenerator<Output<M>, void, undefined> {
    throwIfAborted(options.signal);
    const call = this.#client.makeServerStreamRequest(
      pathOf(method),
      serializer(method.input) as (message: Input<M>) => Buffer,
      deserializer(method.output) as (bytes: Buffer) => Output<M>,
      request,
      new Metadata(),
      deadlineOf(options),
    );
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message as Output<M>;
    } catch (error) {
      throw this.#error(error as Error, options.signal);
    } finally {
      options.signal?.removeEventListener("abort", cancel);
      call.on("error", () => {});
      call.cancel();
    }
  }

  /** Many requests, many responses. Ends when the signal is aborted. */
  bidi<M extends Method<"bidi_streaming">>(method: M, options: CallOptions = {}): MessageStream<Output<M>, Input<M>> {
    throwIfAborted(options.signal);
    const call = this.#client.makeBidiStreamRequest(
      pathOf(method),
      serializer(method.input) as (message: Input<M>) => Buffer,
      deserializer(method.output) as (bytes: Buffer) => Output<M>,
      new Metadata(),
      deadlineOf(options),
    );
    const closed = new AbortController();
    const cancel = () => call.cancel();
    options.signal?.addEventListener("abort", cancel, { once: true });
    const over = () => {
      options.signal?.removeEventListener("abort", cancel);
      closed.abort();
    };
    // Whoever reads `incoming` gets the error; without a reader it must not end the process.
    call.on("error", () => {});
    call.on("status", over);
    call.on("close", over);
    return messageStream<Output<M>, Input<M>>(call as unknown as Duplex, closed.signal, (error) =>
      this.#error(error, options.signal),
    );
  }

  close(): void {
    this.#client.close();
  }

  #error(error: Error, signal: AbortSignal | undefined): HpccError {
    if (signal?.aborted) return cancelled();
    return errorOfStatus(error, this.#peer);
  }
}

function deadlineOf(options: CallOptions): { deadline?: number } {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

function cancelled(): HpccError {
  return new HpccError("job.cancelled", "the call was given up");
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw cancelled();
}
