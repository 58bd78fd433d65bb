// A real PostgreSQL for tests, in a folder of its own: trusted through its socket, with passwords on loopback. It refuses to run as
// root, so there it runs as the user that Debian's package makes.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { freePort } from "./free-port.ts";

const DEBIAN = "/usr/lib/postgresql";
const START_MS_MAX = 30_000;
const POLL_MS = 20;
const SUPERUSER = "postgres";
/** Loopback wants passwords; the socket is in a folder that is the test's. */
const HBA = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";

function programs(): string {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).filter((name) => /^\d+$/.test(name)) : [];
  const newest = versions.sort((a, b) => Number(a) - Number(b)).at(-1);
  if (newest === undefined) throw new Error("PostgreSQL is not installed: run scripts/setup.sh");
  return join(DEBIAN, newest, "bin");
}

function owner(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

export class PostgresServer implements AsyncDisposable {
  /** Also where its socket is. */
  readonly folder: string;
  readonly port: number;
  readonly #as = owner();
  #process: ChildProcess | null = null;

  private constructor(folder: string, port: number) {
    this.folder = folder;
    this.port = port;
  }

  /** Makes a new one and starts it. */
  static async start(): Promise<PostgresServer> {
    const server = new PostgresServer(mkdtempSync(join(tmpdir(), "hpcc-pg-")), await freePort());
    const { uid, gid } = server.#as;
    chmodSync(server.folder, 0o755);
    if (uid !== undefined && gid !== undefined) chownSync(server.folder, uid, gid);
    const settings = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", `--username=${SUPERUSER}`];
    const made = spawnSync(join(programs(), "initdb"), [...settings, "-D", server.#data], {
      ...server.#as,
      cwd: server.folder,
      encoding: "utf8",
    });
    if (made.status !== 0) throw new Error(`initdb: ${made.stderr}${made.error ?? ""}`);
    writeFileSync(join(server.#data, "pg_hba.conf"), HBA);
    await server.resume();
    return server;
  }

  get #data(): string {
    return join(this.folder, "data");
  }

  /** A URL through the socket. */
  url(user = SUPERUSER, database = "postgres"): string {
    return `postgresql://${encodeURIComponent(user)}@/${database}?host=${encodeURIComponent(this.folder)}&port=${this.port}`;
  }

  /** One on loopback, without a password. */
  loopbackUrl(user: string, database = "postgres"): string {
    return `postgresql://${user}@127.0.0.1:${this.port}/${database}`;
  }

  async connect(user = SUPERUSER, database = "postgres"): Promise<Client> {
    const client = new Client({ connectionString: this.url(user, database) });
    client.on("error", () => {});
    await client.connect();
    return client;
  }

  /** Starts it again after `stop`. */
  async resume(): Promise<void> {
    const settings = {
      listen_addresses: "127.0.0.1",
      port: this.port,
      unix_socket_directories: this.folder,
      fsync: "off",
      shared_buffers: "32MB",
      max_connections: 30,
      log_min_messages: "fatal",
    };
    const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
    const child = spawn(join(programs(), "postgres"), ["-D", this.#data, ...args], {
      ...this.#as,
      cwd: this.folder,
      stdio: "ignore",
    });
    this.#process = child;
    // It holds up no process that is done, and never outlives one.
    child.unref();
    process.once("exit", () => child.kill("SIGQUIT"));
    for (let waitedMs = 0; waitedMs < START_MS_MAX; waitedMs += POLL_MS) {
      const client = await this.connect().catch(() => null);
      if (client !== null) return client.end();
      await delay(POLL_MS);
    }
    throw new Error("PostgreSQL did not start");
  }

  /** Ends it and all connections, as `pg_ctl stop -m fast` does. */
  async stop(signal: "SIGINT" | "SIGQUIT" = "SIGINT"): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGQUIT");
    rmSync(this.folder, { recursive: true, force: true });
  }
}
