// A registry that serves a drawn image, and whose answers are drawn too: statuses, heads that clients believe, bodies that are cut,
// changed or too long.
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { type Draw, mutated } from "./draw.ts";
import type { DrawnImage } from "./draw-image.ts";

const STATUSES = [200, 200, 206, 301, 302, 307, 400, 401, 401, 403, 404, 418, 429, 500, 503, 599, 999];
const DIGEST = `sha256:${"a".repeat(64)}`;

export class DrawnRegistry implements AsyncDisposable {
  readonly #server: Server;
  #serve: { readonly draw: Draw; readonly image: DrawnImage; readonly odds: number } | null = null;

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.on("clientError", (_error, socket) => socket.destroy());
  }

  static async start(): Promise<DrawnRegistry> {
    const registry = new DrawnRegistry();
    await new Promise<void>((resolve) => {
      registry.#server.listen(0, "127.0.0.1", resolve);
    });
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  serve(draw: Draw, image: DrawnImage, odds: number): void {
    this.#serve = { draw, image, odds };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { draw, image, odds } = this.#serve!;
    const { url = "" } = request;
    if (draw.once(odds)) {
      this.#wild(draw, response);
      return;
    }
    if (url.startsWith("/token")) {
      const token = draw.once(odds) ? draw.of(["", 0, null, "\u0000", "x".repeat(70_000), {}]) : "t";
      const body = Buffer.from(JSON.stringify({ token, access_token: token, expires_in: 300 }));
      send(response, 200, {}, draw.once(odds) ? mutated(draw, body) : body);
      return;
    }
    const name = /\/(?:manifests|blobs)\/([^/]+)$/.exec(url)?.[1];
    const bytes = name === "12" || name === undefined ? image.index : image.blobs.get(name);
    if (bytes === undefined) send(response, 404, {}, Buffer.from("{}"));
    else if (url.includes("/manifests/")) {
      const type = name === "12" ? "application/vnd.oci.image.index.v1+json" : image.manifestType;
      send(response, 200, { "content-type": type, link: "</v2/x?n=1>; rel=next" }, bytes);
    } else this.#blob(draw, bytes, { request, response });
  }

  #blob(
    draw: Draw,
    bytes: Buffer,
    { request, response }: { request: IncomingMessage; response: ServerResponse },
  ): void {
    const from = Number(/^bytes=([0-9]+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    if (draw.once(20)) {
      // Cut off in the middle.
      response.writeHead(from > 0 ? 206 : 200, {
        "content-length": Math.max(0, bytes.length - from),
        ...(from > 0 && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
      });
      response.write(bytes.subarray(from, from + draw.below(bytes.length)), () => response.destroy());
    } else if (from > 0)
      send(
        response,
        206,
        { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` },
        bytes.subarray(from),
      );
    else send(response, 200, {}, bytes);
  }

  /** Anything at all. */
  #wild(draw: Draw, response: ServerResponse): void {
    const { host } = this;
    const realm = draw.of([
      `http://${host}/token`,
      `http://${host}/token?a=b#c`,
      "",
      "file:///etc/passwd",
      "http://[",
      "https://127.0.0.1:1/",
    ]);
    const heads: OutgoingHttpHeaders = {};
    const say = (name: string, values: readonly (string | number)[]) => {
      if (draw.once(3)) heads[name] = draw.of(values);
    };
    say("www-authenticate", [
      `Bearer realm="${realm}",service="s",scope="repository:x:pull"`,
      `bearer realm="${realm}"`,
      'Basic realm="x"',
      "Bearer",
      "Digest a=b",
      `Bearer ${"realm=".repeat(500)}`,
      `Bearer ${'a="b",'.repeat(2000)}`,
    ]);
    say("location", [
      "/",
      "/v2/",
      `http://${host}/v2/x`,
      "//",
      "http://127.0.0.1:1/",
      "file:///etc/passwd",
      "http://[::",
      "?",
      "\\",
    ]);
    say("content-range", ["bytes 0-1/2", "bytes 9-", "bytes */0", `bytes ${"9".repeat(40)}-1/1`, "x"]);
    say("content-type", ["application/vnd.oci.image.index.v1+json", "text/html", "", ";;;"]);
    say("docker-content-digest", [DIGEST, "sha256:", "md5:x", ""]);
    say("retry-after", ["0", "-1", "x", "1e-9"]);
    say("content-encoding", ["gzip", "identity", "br"]);
    say("link", [`<${"x".repeat(3000)}>; rel="next"`, "<", "<>;;;;"]);
    const { image } = this.#serve!;
    const bodies = [
      Buffer.alloc(0),
      image.index,
      ...image.blobs.values(),
      Buffer.from('{"errors":[{"code":"A","message":"\\u001b[31m"}]}'),
    ];
    const body = draw.once(2) ? mutated(draw, draw.of(bodies)) : draw.of(bodies);
    if (draw.once(10)) {
      response.socket?.end(
        mutated(
          draw,
          Buffer.from(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body.toString("latin1")}`, "latin1"),
        ),
      );
      return;
    }
    send(response, draw.of(STATUSES), heads, body, draw.once(6) ? draw.below(5000) : body.length);
  }
}

function send(
  response: ServerResponse,
  status: number,
  heads: OutgoingHttpHeaders,
  body: Buffer,
  length = body.length,
): void {
  response.writeHead(status, { ...heads, "content-length": length });
  response.end(body.subarray(0, length), () => {
    if (length > body.length) response.destroy();
  });
}
