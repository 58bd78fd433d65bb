// A real browser, to look at pages of ours. All that it asks for comes to a server of the test's own, whatever host it names.
import { execFile, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const PROGRAM = "chromium-headless-shell";

export const BROWSER_MISSING =
  spawnSync(PROGRAM, ["--version"]).status === 0 ? false : `${PROGRAM} is not installed; scripts/setup.sh does that`;

const run = promisify(execFile);

export class Browser implements AsyncDisposable {
  readonly #server: Server;
  readonly #port: number;
  readonly #folder = mkdtempSync(join(tmpdir(), "hpcc-browser-"));
  /** What pages have asked for, by method and URL. */
  readonly requests: string[] = [];

  private constructor(server: Server) {
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
    const note = (method: string | undefined, url: string | undefined) => void this.requests.push(`${method} ${url}`);
    server.on("request", (request, response) => {
      note(request.method, request.url);
      response.end();
    });
    server.on("connect", (request, socket) => {
      note(request.method, request.url);
      socket.destroy();
    });
  }

  static async open(): Promise<Browser> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Browser(server);
  }

  /** What stands in the page once its scripts, if there are any, have run for a while. */
  async dom(file: string): Promise<string> {
    return this.#run(file, "--virtual-time-budget=2000", "--dump-dom");
  }

  async pdf(file: string, out: string): Promise<void> {
    await this.#run(file, `--print-to-pdf=${out}`, "--no-pdf-header-footer");
  }

  async picture(file: string, out: string, scheme: "light" | "dark"): Promise<void> {
    const preferred = scheme === "dark" ? 0 : 1;
    const look = [`--blink-settings=preferredColorScheme=${preferred}`, "--window-size=1200,900", "--hide-scrollbars"];
    await this.#run(file, ...look, `--screenshot=${out}`);
  }

  async #run(file: string, ...options: string[]): Promise<string> {
    const all = [
      // Tests run as root in containers, where the browser's own sandbox cannot.
      "--no-sandbox",
      "--disable-gpu",
      "--disable-background-networking",
      `--user-data-dir=${this.#folder}/profile-${Math.random()}`,
      `--proxy-server=http://127.0.0.1:${this.#port}`,
      "--proxy-bypass-list=<-loopback>",
      ...options,
      `file://${file}`,
    ];
    const { stdout } = await run(PROGRAM, all, { timeout: 60_000, maxBuffer: 64 * 1024 * 1024 });
    return stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
