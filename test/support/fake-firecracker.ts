// A server in Firecracker's place: its API over HTTP on a Unix socket, with the order of calls that the real one holds to. It has
// no guest; whoever uses it makes one at the moments that it tells.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Socket } from "node:net";

export interface FakeCall {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

type State = "fresh" | "configured" | "running" | "paused" | "loaded";

export interface FakeFirecrackerOptions {
  readonly socketPath: string;
  /** Called when its machine begins to run, after a start or a resume. */
  readonly onRun?: () => void | Promise<void>;
  /** Called when it writes a snapshot. */
  readonly onSnapshot?: () => void | Promise<void>;
  /** Called after a load that failed, which ends the real process. */
  readonly onFailedLoad?: () => void;
  /** Makes calls fail: gives a fault's message, or null. */
  readonly fault?: (call: FakeCall) => string | null;
  /** What its configuration has besides. */
  readonly extraConfig?: Readonly<Record<string, unknown>>;
}

export class FakeFirecracker implements AsyncDisposable {
  readonly calls: FakeCall[] = [];
  /** Connections that were made to its API. */
  connections = 0;
  readonly #options: FakeFirecrackerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #state: State = "fresh";

  private constructor(options: FakeFirecrackerOptions) {
    this.#options = options;
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    this.#server.on("connection", (socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
  }

  static async start(options: FakeFirecrackerOptions): Promise<FakeFirecracker> {
    const fake = new FakeFirecracker(options);
    await new Promise<void>((resolve) => fake.#server.listen(options.socketPath, resolve));
    return fake;
  }

  /** Paths of the calls that changed something, in order. */
  get changes(): string[] {
    return this.calls.filter(({ method }) => method !== "GET").map(({ path }) => path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = "";
    for await (const chunk of request) text += String(chunk);
    const call: FakeCall = {
      method: request.method ?? "",
      path: request.url ?? "",
      body: text === "" ? null : (JSON.parse(text) as unknown),
    };
    this.calls.push(call);
    const fault = this.#options.fault?.(call) ?? (await this.#act(call));
    if (fault !== null) {
      response.writeHead(400, { "Content-Type": "application/json" });
      response.end(JSON.stringify({ fault_message: fault }));
      if (call.path === "/snapshot/load") this.#options.onFailedLoad?.();
      return;
    }
    if (call.method !== "GET") {
      response.writeHead(204).end();
      return;
    }
    response.writeHead(200, { "Content-Type": "application/json" });
    response.end(JSON.stringify(this.#value(call.path)));
  }

  /** Does what a call asks; gives a fault's message when the call does not belong here. */
  async #act({ method, path, body }: FakeCall): Promise<string | null> {
    if (method === "GET") return null;
    const wrong = `The requested operation is not supported in state ${this.#state}: ${method} ${path}`;
    switch (path) {
      case "/actions":
        if (this.#state !== "configured") return wrong;
        this.#state = "running";
        await this.#options.onRun?.();
        return null;
      case "/vm": {
        const paused = (body as { state: string }).state === "Paused";
        if (this.#state !== (paused ? "running" : "loaded")) return wrong;
        this.#state = paused ? "paused" : "running";
        if (!paused) await this.#options.onRun?.();
        return null;
      }
      case "/snapshot/create":
        if (this.#state !== "paused") return wrong;
        await this.#options.onSnapshot?.();
        return null;
      case "/snapshot/load":
        if (this.#state !== "fresh") return wrong;
        this.#state = "loaded";
        return null;
      case "/logger":
      case "/metrics":
      case "/serial":
        return this.#state === "fresh" || this.#state === "configured" ? null : wrong;
      default:
        if (this.#state !== "fresh" && this.#state !== "configured") return wrong;
        this.#state = "configured";
        return null;
    }
  }

  #value(path: string): unknown {
    if (path === "/version") return { firecracker_version: "1.16.1" };
    return {
      balloon: null,
      drives: [{ drive_id: "rootfs", is_read_only: true, path_on_host: "rootfs" }],
      "network-interfaces": [],
      pmem: [],
      vsock: { guest_cid: 3, uds_path: "vsock" },
      "mmds-config": null,
      "memory-hotplug": null,
      ...this.#options.extraConfig,
    };
  }
}
