// A registry that does as a test says: it serves what it was given, and may lie, cut, corrupt, stall or refuse.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

/** Answers a request itself and returns true, or leaves it to the registry. */
export type Trick = (request: IncomingMessage, response: ServerResponse) => boolean;

export class HostileRegistry implements AsyncDisposable {
  readonly #server: Server;
  readonly #blobs = new Map<string, Buffer>();
  readonly #manifests = new Map<string, { readonly mediaType: string; readonly bytes: Buffer }>();
  readonly #referrers = new Map<string, Buffer>();
  /** Methods and paths as they came, with the range that was asked for. */
  readonly asked: string[] = [];
  trick: Trick = () => false;

  private constructor() {
    this.#server = createServer((request, response) => {
      const { method = "", url = "", headers } = request;
      this.asked.push([method, url, headers.range].filter((part) => part !== undefined).join(" "));
      if (!this.trick(request, response)) this.#answer(url, headers.range, response);
    });
  }

  static async start(): Promise<HostileRegistry> {
    const registry = new HostileRegistry();
    await new Promise<void>((resolve) => {
      registry.#server.listen(0, "127.0.0.1", resolve);
    });
    return registry;
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Serves an image's layout under a tag. */
  serveLayout(folder: string, tag: string): void {
    const blobs = join(folder, "blobs/sha256");
    for (const hex of readdirSync(blobs)) this.#blobs.set(`sha256:${hex}`, readFileSync(join(blobs, hex)));
    const index = JSON.parse(readFileSync(join(folder, "index.json"), "utf8")) as {
      manifests: { digest: string; mediaType: string }[];
    };
    const { digest, mediaType } = index.manifests[0]!;
    this.serveManifest(tag, this.#blobs.get(digest)!, mediaType);
  }

  /** Serves a document under a tag and its digest. */
  serveManifest(tag: string, bytes: Buffer, mediaType: string): string {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    for (const name of [tag, digest]) this.#manifests.set(name, { mediaType, bytes });
    return digest;
  }

  /** Serves a list of what refers to an image; without one the referrers API is not known. */
  serveReferrers(digest: string, index: Buffer): void {
    this.#referrers.set(digest, index);
  }

  serveBlob(bytes: Buffer): string {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    this.#blobs.set(digest, bytes);
    return digest;
  }

  manifest(name: string): Buffer {
    return this.#manifests.get(name)!.bytes;
  }

  blob(digest: string): Buffer {
    return this.#blobs.get(digest)!;
  }

  #answer(url: string, range: string | undefined, response: ServerResponse): void {
    const [, kind, name = ""] = /\/(manifests|blobs|referrers)\/([^/]+)$/.exec(url) ?? [];
    const manifest = this.#manifests.get(name);
    const blob = this.#blobs.get(name);
    const referrers = kind === "referrers" ? this.#referrers.get(name) : undefined;
    if (referrers !== undefined) {
      response.writeHead(200, { "content-type": "application/vnd.oci.image.index.v1+json" }).end(referrers);
    } else if (kind === "manifests" && manifest !== undefined) {
      response.writeHead(200, { "content-type": manifest.mediaType }).end(manifest.bytes);
    } else if (kind === "blobs" && blob !== undefined) {
      const from = Number(/^bytes=([0-9]+)-$/.exec(range ?? "")?.[1] ?? 0);
      const headers = from > 0 ? { "content-range": `bytes ${from}-${blob.length - 1}/${blob.length}` } : {};
      response.writeHead(from > 0 ? 206 : 200, { ...headers, "content-length": blob.length - from });
      response.end(blob.subarray(from));
    } else
      response
        .writeHead(url === "/v2/" ? 200 : 404, { "content-type": "application/json" })
        .end(JSON.stringify({ errors: [{ code: "NOT_FOUND", message: "not \u001b[31mhere" }] }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}
