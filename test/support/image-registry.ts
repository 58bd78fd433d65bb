// A real registry for tests: Debian's docker-registry on loopback, with TLS by a CA of its own and, where asked, passwords.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "./free-port.ts";

export const REGISTRY_USER = "ann";
export const REGISTRY_PASSWORD = "correct horse";
/** bcrypt of the password, as `htpasswd -B` writes it. */
const HTPASSWD = "ann:$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n";
const PROGRAM = "/usr/bin/docker-registry";
const START_MS_MAX = 20_000;
const START_POLL_MS = 50;

export interface ServerCertificate {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
}

/** A CA and a certificate of it for loopback, as files of `folder`. */
export function makeServerCertificate(folder: string): ServerCertificate {
  mkdirSync(folder, { recursive: true });
  const at = (name: string) => join(folder, name);
  const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: folder, stdio: "ignore" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  openssl("req", "-x509", ...key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test CA");
  openssl("req", ...key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost");
  writeFileSync(at("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  const sign =
    "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile names";
  openssl(...sign.split(" "));
  return { ca: at("ca.crt"), certificate: at("server.crt"), key: at("server.key") };
}

/** Built by scripts/setup.sh where there is Go. */
const GO_REGISTRY = join(import.meta.dirname, "../../.cache/go-registry");
export const GO_REGISTRY_MISSING = existsSync(GO_REGISTRY)
  ? false
  : ".cache/go-registry was not built, as there is no Go";

/** The registry of go-containerregistry, which speaks plain HTTP on loopback and keeps everything in memory. */
export async function startGoRegistry(): Promise<{ readonly host: string } & AsyncDisposable> {
  const child = spawn(GO_REGISTRY, [], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  return {
    host: line.toString("utf8").trim(),
    async [Symbol.asyncDispose]() {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

export class ImageRegistry implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #folder: string;
  /** "localhost:25000". */
  readonly host: string;
  readonly tls: ServerCertificate;

  private constructor(child: ChildProcess, folder: string, host: string, tls: ServerCertificate) {
    this.#process = child;
    this.#folder = folder;
    this.host = host;
    this.tls = tls;
  }

  /** Where the registry keeps its blobs, for tests that damage them. */
  get blobFolder(): string {
    return join(this.#folder, "data/docker/registry/v2/blobs/sha256");
  }

  static async start(options: { readonly passwords: boolean }): Promise<ImageRegistry> {
    if (!existsSync(PROGRAM)) throw new Error("docker-registry is not installed: run scripts/setup.sh");
    const folder = mkdtempSync(join(tmpdir(), "hpcc-registry-"));
    const tls = makeServerCertificate(join(folder, "tls"));
    const port = await freePort();
    const htpasswd = join(folder, "htpasswd");
    writeFileSync(htpasswd, HTPASSWD);
    const config = {
      version: "0.1",
      log: { level: "error" },
      storage: { filesystem: { rootdirectory: join(folder, "data") } },
      http: { addr: `127.0.0.1:${port}`, tls: { certificate: tls.certificate, key: tls.key } },
      ...(options.passwords && { auth: { htpasswd: { realm: "test", path: htpasswd } } }),
    };
    // Every JSON document is one of YAML.
    writeFileSync(join(folder, "config.yml"), JSON.stringify(config));
    const child = spawn(PROGRAM, ["serve", join(folder, "config.yml")], { stdio: "ignore", env: { HOME: folder } });
    const registry = new ImageRegistry(child, folder, `localhost:${port}`, tls);
    for (let waitedMs = 0; waitedMs < START_MS_MAX; waitedMs += START_POLL_MS) {
      const answers = await fetch(`http://127.0.0.1:${port}/v2/`).then(
        () => true,
        () => false,
      );
      if (answers) return registry;
      await delay(START_POLL_MS);
    }
    await registry[Symbol.asyncDispose]();
    throw new Error("docker-registry did not start");
  }

  /** Makes a home trust the registry's CA, as Docker and Podman are told. */
  trustIn(home: string): void {
    const folder = join(home, ".config/containers/certs.d", this.host);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "ca.crt"), readFileSync(this.tls.ca));
  }

  /** Leaves a password in a home, as `docker login` does. */
  logIn(home: string, password = REGISTRY_PASSWORD): void {
    const auth = Buffer.from(`${REGISTRY_USER}:${password}`).toString("base64");
    mkdirSync(join(home, ".docker"), { recursive: true });
    writeFileSync(join(home, ".docker/config.json"), JSON.stringify({ auths: { [this.host]: { auth } } }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, "exit");
      this.#process.kill("SIGKILL");
      await ended;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
