// A witness on HTTP or HTTPS: one path, small requests, short deadlines.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { formatHostPort } from "../../core/identity/host-port.ts";
import { REQUEST_BYTES_MAX } from "./add-checkpoint.ts";
import type { Witness } from "./witness.ts";

export interface WitnessServerOptions {
  readonly witness: Witness;
  readonly listen: { readonly host: string; readonly port: number };
  /** Null for plain HTTP. */
  readonly tls: { readonly certificate: string; readonly key: string } | null;
  readonly logger: Logger;
}

const PATH = "/add-checkpoint";
const REQUEST_MS_MAX = 10_000;
const IDLE_MS_MAX = 60_000;
const CONNECTIONS_MAX = 256;
const HEADER_BYTES_MAX = 8 * 1024;

export class WitnessServer {
  readonly #server: Server;
  readonly #witness: Witness;
  readonly #logger: Logger;

  private constructor({ witness, tls, logger }: WitnessServerOptions) {
    this.#witness = witness;
    this.#logger = logger;
    const options = {
      requestTimeout: REQUEST_MS_MAX,
      headersTimeout: REQUEST_MS_MAX,
      keepAliveTimeout: IDLE_MS_MAX,
      connectionsCheckingInterval: 1000,
      maxHeaderSize: HEADER_BYTES_MAX,
    };
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    this.#server =
      tls === null
        ? createServer(options, serve)
        : createTlsServer({ ...options, cert: tls.certificate, key: tls.key, minVersion: "TLSv1.3" }, serve);
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  static async listen(options: WitnessServerOptions): Promise<WitnessServer> {
    const server = new WitnessServer(options);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.#server.once("error", reject);
    server.#server.listen(options.listen.port, options.listen.host, () => resolve());
    await promise.catch((error: unknown) => {
      const { code, message } = error as NodeJS.ErrnoException;
      const where = formatHostPort(options.listen);
      throw new HpccError("config.invalid", `the witness cannot listen on ${where}: ${code ?? message}`, {
        cause: error,
        hint:
          code === "EADDRINUSE"
            ? "Another program listens there: end it, or set another `listen`."
            : "Set another `listen`.",
      });
    });
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeIdleConnections();
    const late = setTimeout(() => this.#server.closeAllConnections(), REQUEST_MS_MAX);
    await promise;
    clearTimeout(late);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const answer = (status: number, type: string, body: string) => {
      if (response.destroyed) return;
      response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) });
      response.end(body);
    };
    try {
      // Below any prefix: a proxy may have put one before it.
      if (request.url?.endsWith(PATH) !== true) return answer(404, "text/plain", "there is nothing here\n");
      if (request.method !== "POST") return answer(405, "text/plain", "only POST\n");
      const body = await readBody(request);
      if (body === null) {
        response.setHeader("connection", "close");
        return answer(413, "text/plain", "the request is too large\n");
      }
      const { status, type, body: text } = await this.#witness.addCheckpoint(body);
      answer(status, type, text);
    } catch (error) {
      this.#logger.error("witness.request.failed", { error: String(error) });
      answer(500, "text/plain", "the witness cannot keep what it sees\n");
    }
  }
}

/** Null for one that is too large. */
async function readBody(request: IncomingMessage): Promise<string | null> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > REQUEST_BYTES_MAX) return null;
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}
