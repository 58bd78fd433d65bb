// A gRPC server with typed handlers. It knows peers by their certificates and hands each handler who calls and when the
// caller has gone; it knows no service.
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { setTimeout } from "node:timers/promises";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  type MethodDefinition,
  Server,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  type UntypedHandleCall,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { formatHostPort, type HostPort } from "../../core/identity/host-port.ts";
import type { Identity } from "../../core/identity/spiffe.ts";
import { SERVER_OPTIONS } from "./limits.ts";
import { type MessageStream, messageStream } from "./message-stream.ts";
import { deserializer, type Input, type Output, pathOf, serializer } from "./method.ts";
import { statusOfError } from "./status.ts";
import { identityOfPeer, MutualTlsServerCredentials, type TlsMaterial } from "./tls.ts";

/** What a handler learns about its call. */
export interface CallContext {
  /** Who calls, as the certificate says. */
  readonly peer: Identity;
  /** Aborted when the caller has gone or the call is over. */
  readonly signal: AbortSignal;
  /** Names one connection of a peer, "address:port"; for logs. */
  readonly remote: string;
}

/** The handler that fits a method's kind; what it throws becomes the call's status. */
export type MethodHandler<M extends DescMethod> = M["methodKind"] extends "unary"
  ? (request: Input<M>, context: CallContext) => Promise<Output<M>>
  : M["methodKind"] extends "server_streaming"
    ? (request: Input<M>, context: CallContext) => AsyncIterable<Output<M>>
    : M["methodKind"] extends "bidi_streaming"
      ? (stream: MessageStream<Input<M>, Output<M>>, context: CallContext) => Promise<void>
      : never;

/** One handler for each method of a service, by the names of the generated code. */
export type ServiceHandlers<S extends DescService> = {
  readonly [K in keyof S["method"]]: MethodHandler<S["method"][K]>;
};

export interface RpcServerOptions {
  readonly tls: TlsMaterial;
  readonly logger: Logger;
}

type Definition = MethodDefinition<unknown, unknown>;
type Surface =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;

const SHUTDOWN_GRACE_MS = 2_000;
/** What sessions that were drained, and the rest, have for their end. */
const LATE_MS = 1_000;

export class RpcServer {
  readonly #server = new Server(SERVER_OPTIONS);
  readonly #credentials: MutualTlsServerCredentials;
  readonly #logger: Logger;
  #bound: HostPort | null = null;

  constructor(options: RpcServerOptions) {
    this.#credentials = new MutualTlsServerCredentials(options.tls);
    this.#logger = options.logger;
  }

  /** Adds a service; before `listen`. */
  add<S extends DescService>(service: S, handlers: ServiceHandlers<S>): void {
    const definition: Record<string, Definition> = {};
    const implementation: UntypedServiceImplementation = {};
    for (const [name, method] of Object.entries(service.method)) {
      definition[name] = definitionOf(method);
      implementation[name] = this.#adapt(method, (handlers as Record<string, unknown>)[name]);
    }
    this.#server.addService(definition, implementation);
  }

  /** Listens; port 0 takes a free one. Resolves to the address bound. */
  async listen(address: HostPort): Promise<HostPort> {
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(formatHostPort(address), this.#credentials, (error, bound) => {
        if (error) reject(cannotListen(address, error));
        else resolve(bound);
      });
    });
    this.#bound = { host: address.host, port };
    return this.#bound;
  }

  /** Uses other credentials for connections from now on. */
  updateTls(tls: TlsMaterial): void {
    this.#credentials.update(tls);
  }

  /** Takes no new calls, gives open ones a moment, then ends them. */
  async close(graceMs = SHUTDOWN_GRACE_MS): Promise<void> {
    // forceShutdown() of grpc-js ends no connection when channelz is off; drain() does.
    if (this.#bound) this.#server.drain(formatHostPort(this.#bound), graceMs);
    this.#bound = null;
    const shut = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    // It waits for connections that never became a session, too: whoever only connects would keep a program from its end.
    const late = new AbortController();
    await Promise.race([shut, setTimeout(graceMs + LATE_MS, undefined, { signal: late.signal })]).finally(() =>
      late.abort(),
    );
  }

  #adapt(method: DescMethod, handler: unknown): UntypedHandleCall {
    switch (method.methodKind) {
      case "unary":
        return ((call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<unknown>) => {
          const { signal, over } = lifetime(call);
          const run = async () => (handler as UnaryHandler)(call.request, contextOf(call, signal));
          run()
            .then(
              (response) => callback(null, response),
              (error: unknown) => callback(this.#status(method, error)),
            )
            .finally(over);
        }) as UntypedHandleCall;
      case "server_streaming":
        return ((call: ServerWritableStream<unknown, unknown>) => {
          const { signal, over } = lifetime(call);
          const run = async () => pour((handler as StreamHandler)(call.request, contextOf(call, signal)), call, signal);
          this.#finish(method, call, run(), over);
        }) as UntypedHandleCall;
      case "bidi_streaming":
        return ((call: ServerDuplexStream<unknown, unknown>) => {
          const { signal, over } = lifetime(call);
          const run = async () => {
            const stream = messageStream<unknown, unknown>(call as unknown as Duplex, signal, callerGone);
            await (handler as BidiHandler)(stream, contextOf(call, signal));
          };
          this.#finish(method, call, run(), over);
        }) as UntypedHandleCall;
      case "client_streaming":
        break;
    }
    throw new Error(`bug: no adapter for ${method.methodKind} methods`);
  }

  #finish(
    method: DescMethod,
    call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
    done: Promise<void>,
    over: () => void,
  ): void {
    done
      .then(
        () => call.end(),
        (error: unknown) => call.emit("error", this.#status(method, error)),
      )
      .finally(over);
  }

  #status(method: DescMethod, error: unknown): ReturnType<typeof statusOfError> {
    if (!(error instanceof HpccError))
      this.#logger.error("rpc.handler.bug", {
        method: pathOf(method),
        error: String((error as Error)?.stack ?? error),
      });
    return statusOfError(error);
  }
}

type UnaryHandler = (request: unknown, context: CallContext) => Promise<unknown>;
type StreamHandler = (request: unknown, context: CallContext) => AsyncIterable<unknown>;
type BidiHandler = (stream: MessageStream<unknown, unknown>, context: CallContext) => Promise<void>;

function definitionOf(method: DescMethod): Definition {
  return {
    path: pathOf(method),
    requestStream: method.methodKind === "bidi_streaming" || method.methodKind === "client_streaming",
    responseStream: method.methodKind === "bidi_streaming" || method.methodKind === "server_streaming",
    requestSerialize: serializer(method.input) as Definition["requestSerialize"],
    requestDeserialize: deserializer(method.input),
    responseSerialize: serializer(method.output) as Definition["responseSerialize"],
    responseDeserialize: deserializer(method.output),
  };
}

function contextOf(call: Surface, signal: AbortSignal): CallContext {
  return { peer: identityOfPeer(call.getAuthContext().sslPeerCertificate), signal, remote: call.getPeer() };
}

function lifetime(call: Surface): { readonly signal: AbortSignal; readonly over: () => void } {
  const controller = new AbortController();
  const over = () => controller.abort(callerGone());
  (call as NodeJS.EventEmitter).once("cancelled", over);
  return { signal: controller.signal, over };
}

function callerGone(): HpccError {
  return new HpccError("job.cancelled", "the caller has gone");
}

/** Writes what a handler yields, at the caller's pace. The handler must watch its signal: nobody can wake it up. */
async function pour(
  responses: AsyncIterable<unknown>,
  call: ServerWritableStream<unknown, unknown>,
  signal: AbortSignal,
): Promise<void> {
  for await (const response of responses) {
    if (signal.aborted) return;
    if (!call.write(response)) await once(call, "drain", { signal }).catch(() => {});
  }
}

/** Why an address cannot be bound, without what the library says around it. */
function cannotListen(address: HostPort, error: Error): HpccError {
  const why = /\b(EADDRINUSE|EADDRNOTAVAIL|EACCES)\b/.exec(error.message)?.[1];
  const hints: Readonly<Record<string, string>> = {
    EADDRINUSE: "Another program listens there: end it, or set another `listen`.",
    EADDRNOTAVAIL: "No interface of this machine has that address: correct `listen`.",
    EACCES: "This user may not listen on that port: set another `listen`.",
  };
  const hint = why === undefined ? "Correct `listen`." : hints[why]!;
  return new HpccError("peer.unavailable", `cannot listen on ${formatHostPort(address)}: ${why ?? error.message}`, {
    hint,
  });
}
