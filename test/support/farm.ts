// A whole hpcc on this machine, made of the installed programs alone: CA, scheduler, workers with their microVMs, users with their
// daemons. Used by the end-to-end tests and the demo. Everything lies below one folder and ends with `close`.
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assertBuilt } from "../../scripts/build-stamps.ts";
import { freePort } from "./free-port.ts";

export const CHECKOUT = join(import.meta.dirname, "../..");
export const HPCC = join(CHECKOUT, "out/bin/hpcc");
/** Images of tests and demo outlive them: building one takes longer than most tests. */
export const IMAGE_FOLDER = join(CHECKOUT, ".cache/images");

const START_MS = 120_000;
const STOP_MS = 20_000;
const COMMAND_MS = 600_000;
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

export interface CommandResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface CommandOptions {
  readonly cwd?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  readonly input?: string;
  readonly signal?: AbortSignal;
  readonly uid?: number;
  readonly onOutput?: (text: string) => void;
}

/** Runs a program to its end; output is read as latin1 so that no byte is lost. */
export function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new Error("no program");
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd === undefined ? undefined : String(options.cwd),
      env: options.env,
      stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    });
    const output = { stdout: "", stderr: "" };
    const take = (name: "stdout" | "stderr") => (chunk: Buffer) => {
      const text = chunk.toString("latin1");
      if (output[name].length < OUTPUT_BYTES_MAX) output[name] += text;
      options.onOutput?.(text);
    };
    child.stdout?.on("data", take("stdout"));
    child.stderr?.on("data", take("stderr"));
    child.stdin?.end(options.input);
    const kill = () => child.kill("SIGKILL");
    const timer = setTimeout(kill, options.timeoutMs ?? COMMAND_MS);
    options.signal?.addEventListener("abort", kill, { once: true });
    child.on("error", reject);
    child.on("close", (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, ...output, seconds: (performance.now() - started) / 1000 });
    });
  });
}

async function mustRun(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await runCommand(argv, options);
  if (result.code !== 0)
    throw new Error(`${argv.join(" ")} ended with ${result.code ?? result.signal}: ${result.stderr}${result.stdout}`);
  return result.stdout;
}

/** Waits for a condition that other processes bring about; throws with `what` when it never comes. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, ms = START_MS): Promise<void> {
  for (const end = Date.now() + ms; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`${what}: not within ${ms / 1000} s`);
}

/** A long-running program of the farm. */
export class Service {
  readonly #child: ChildProcess;
  readonly log: string;
  /** Where its part of the log begins: one of the same name may have written before. */
  readonly #logStart: number;
  readonly #gone: Promise<void>;
  #ended = false;

  constructor(argv: readonly string[], env: NodeJS.ProcessEnv, log: string) {
    const file = openSync(log, "a", 0o600);
    this.log = log;
    this.#logStart = fstatSync(file).size;
    this.#child = spawn(argv[0]!, argv.slice(1), { env, stdio: ["ignore", file, file], cwd: "/" });
    this.#gone = new Promise((resolve) => {
      this.#child.on("exit", () => {
        this.#ended = true;
        resolve();
      });
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Null while it runs, and when a signal ended it. */
  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  /** Waits until its log holds an event. */
  async logged(event: string): Promise<void> {
    await until(`${event} in ${this.log}`, () => {
      const text = readFileSync(this.log).subarray(this.#logStart).toString();
      if (this.#ended) throw new Error(`the program ended: ${text.slice(-4000)}`);
      return text.includes(`"${event}"`);
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Kills it at once, as a crash would. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#gone;
  }

  async stop(): Promise<void> {
    if (this.#ended) return;
    this.#child.kill("SIGTERM");
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_MS);
    await this.#gone;
    clearTimeout(timer);
  }
}

/** `none`: local compiles are refused; a test that passes has used the worker. */
export type UserFallback = "image" | "host" | "none";

export interface UserOptions {
  readonly tenant?: string;
  /** Whose certificate it is; the user's own name when absent. */
  readonly principal?: string;
  readonly fallback?: UserFallback;
  /** Address of the user's scheduler; the one that was started last when absent. */
  readonly scheduler?: string;
  /** Digests that the user allows. */
  readonly images: readonly string[];
  /** Lines put before the tables of the user's configuration. */
  readonly extraConfig?: string;
  readonly tables?: string;
  /** Whether results of workers are kept on the client, too; else each call asks the worker. */
  readonly local?: boolean;
  /** Uid of a plain user; root when absent. */
  readonly uid?: number;
}

export interface CallStats {
  readonly calls: number;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly reasons: Readonly<Record<string, number>>;
  readonly jobs_sent: number;
  readonly source_bytes: number;
  readonly source_wire_bytes: number;
  readonly result_bytes: number;
  readonly result_wire_bytes: number;
  readonly compile_us: number;
  readonly launcher_fallbacks: Readonly<Record<string, number>>;
}

/** A user with a daemon of his own. */
export class User {
  readonly name: string;
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  readonly uid: number | undefined;

  constructor(name: string, folder: string, env: NodeJS.ProcessEnv, uid: number | undefined) {
    this.name = name;
    this.folder = folder;
    this.env = env;
    this.uid = uid;
  }

  /** Runs a command with this user's hpcc. */
  run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const env = { ...this.env, ...options.env };
    return runCommand(argv, { ...options, env, ...(this.uid === undefined ? {} : { uid: this.uid }) });
  }

  hpcc(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return this.run([HPCC, ...args], options);
  }

  /** The daemon's counts since the last zeroing; to zero them starts the daemon when there is none. */
  async stats(zero = false): Promise<CallStats> {
    if (zero) await this.hpcc(["daemon", "start"]);
    const result = await this.hpcc(["stats", "--json", ...(zero ? ["--zero"] : [])]);
    if (result.code !== 0) throw new Error(`hpcc stats: ${result.stderr}`);
    return JSON.parse(result.stdout) as CallStats;
  }

  async daemonPid(): Promise<number> {
    const result = await this.hpcc(["daemon", "status", "--json"]);
    return (JSON.parse(result.stdout) as { pid: number }).pid;
  }
}

export interface WorkerOptions {
  /** Lines before the tables, and tables, of the worker's configuration. */
  readonly extraConfig?: string;
  readonly tables?: string;
  /** What a policy file says of tenants, if it is to have one; others are served too. */
  readonly policy?: string;
  readonly layouts: readonly string[];
  /** Repositories from which it fetches images itself. */
  readonly repositories?: readonly string[];
  /** Addresses of its schedulers; the one that was started last when absent. */
  readonly schedulers?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Isolations that it may offer; those of QEMU when absent. */
  readonly isolations?: readonly string[];
  /** Where it keeps root file systems; the tests' own folder when absent. */
  readonly imageFolder?: string;
  /** What starts it, with arguments before its own, and the plain user as whom that runs it. */
  readonly starter?: { readonly argv: readonly string[]; readonly uid: number };
}

export interface RunningWorker {
  readonly service: Service;
  readonly config: string;
  readonly state: string;
  readonly address: string;
}

export class Farm {
  readonly folder: string;
  readonly #services: Service[] = [];
  readonly #users: User[] = [];
  schedulerAddress = "";

  /** `folder` must not exist yet; by default a new one below the system's temporary folder. */
  constructor(folder?: string) {
    if (!existsSync(HPCC)) throw new Error(`${HPCC} is missing; run make setup`);
    assertBuilt(CHECKOUT, ["bundle", "native", "guest"]);
    this.folder = folder ?? mkdtempSync(join(tmpdir(), "hf-"));
    mkdirSync(this.folder, { recursive: true });
    chmodSync(this.folder, 0o755);
  }

  /** Environment of programs that belong to no user. */
  get env(): NodeJS.ProcessEnv {
    return { PATH: process.env["PATH"], HOME: this.folder, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  }

  async init(): Promise<void> {
    await mustRun([HPCC, "ca", "init", this.#path("ca"), "--trust-domain", "demo.hpcc"], { env: this.env });
  }

  async #issue(kind: readonly string[], out: string): Promise<string> {
    await mustRun([HPCC, "ca", "issue", "--dir", this.#path("ca"), ...kind, "--out", out], { env: this.env });
    return identityTable(out);
  }

  #path(...parts: readonly string[]): string {
    return join(this.folder, ...parts);
  }

  async startScheduler(name = "scheduler", port?: number): Promise<Service> {
    const address = `127.0.0.1:${port ?? (await freePort())}`;
    const config = this.#path(`${name}.toml`);
    if (!existsSync(config)) {
      const identity = await this.#issue(["--scheduler", name], this.#path(`${name}-id`));
      writeFileSync(config, `listen = "${address}"\n${identity}[heartbeat]\ninterval_ms = 500\nexpiry_ms = 2000\n`);
    }
    this.schedulerAddress = address;
    const service = new Service([HPCC, "scheduler", "--config", config], this.env, this.#path(`${name}.log`));
    this.#services.push(service);
    await service.logged("scheduler.started");
    return service;
  }

  #writePolicy(worker: string, tenants: string): string {
    const file = this.#path(`${worker}-policy.toml`);
    writeFileSync(file, `schema = 1\nversion = 1\nunlisted = "serve"\n${tenants}`);
    return file;
  }

  /** Starts a worker, or one of that name again with the state that it had. */
  async startWorker(name: string, options: WorkerOptions): Promise<RunningWorker> {
    const config = this.#path(`${name}.toml`);
    const state = this.#path(name);
    if (!existsSync(config)) {
      const identity = await this.#issue(["--worker", name], this.#path(`${name}-id`));
      const isolations = options.isolations ?? ["qemu-kvm", "qemu-tcg"];
      const layouts = options.layouts.map((layout) => JSON.stringify(layout)).join(", ");
      writeFileSync(
        config,
        `listen = "127.0.0.1:${await freePort()}"
schedulers = ${JSON.stringify(options.schedulers ?? [this.schedulerAddress])}
state_dir = "${state}"
${options.policy === undefined ? "" : `policy = "${this.#writePolicy(name, options.policy)}"`}
${options.extraConfig ?? ""}
${identity}
[images]
layouts = [${layouts}]
repositories = ${JSON.stringify(options.repositories ?? [])}
dir = "${options.imageFolder ?? IMAGE_FOLDER}"
[isolation]
allowed = ${JSON.stringify(isolations)}
${options.tables ?? ""}
`,
      );
    }
    const env = { ...this.env, ...options.env };
    const { argv: before, uid } = options.starter ?? { argv: [], uid: 0 };
    if (uid !== 0) {
      mkdirSync(state, { recursive: true, mode: 0o700 });
      await mustRun(["chown", "-R", `${uid}:${uid}`, state, config, this.#path(`${name}-id`)]);
    }
    const service = new Service([...before, HPCC, "worker", "--config", config], env, this.#path(`${name}.log`));
    this.#services.push(service);
    await service.logged("worker.started");
    const address = /^listen = "(.*)"$/m.exec(readFileSync(config, "utf8"))?.[1] ?? "";
    return { service, config, state, address };
  }

  async addUser(name: string, options: UserOptions): Promise<User> {
    const folder = this.#path("users", name);
    mkdirSync(folder, { recursive: true });
    const identity = await this.#issue(
      ["--tenant", options.tenant ?? "acme", "--user", options.principal ?? name],
      join(folder, "identity"),
    );
    const allowed = options.images.map((digest) => JSON.stringify(digest)).join(", ");
    writeFileSync(
      join(folder, "config.toml"),
      `schedulers = ["${options.scheduler ?? this.schedulerAddress}"]
fallback = "${options.fallback ?? "image"}"
isolation_min = "qemu-tcg"
${options.extraConfig ?? ""}
${identity}
[images]
allowed = [${allowed}]
[local]
enabled = ${options.local ?? false}
${options.tables ?? ""}
`,
    );
    mkdirSync(join(folder, "run"), { mode: 0o700 });
    if (options.uid !== undefined) await mustRun(["chown", "-R", `${options.uid}:${options.uid}`, folder]);
    const env = {
      PATH: process.env["PATH"],
      HOME: folder,
      LANG: "C.UTF-8",
      HPCC_RUNTIME_DIR: join(folder, "run"),
      HPCC_STATE_DIR: join(folder, "state"),
      HPCC_CONFIG: join(folder, "config.toml"),
      HPCC_IMAGE_DIR: IMAGE_FOLDER,
    };
    const user = new User(name, folder, env, options.uid);
    this.#users.push(user);
    return user;
  }

  /** Builds the host's image once for all tests; returns its digest and layout. */
  async image(tag: string, args: readonly string[] = []): Promise<{ digest: string; layout: string }> {
    const layoutOf = (digest: string) => join(IMAGE_FOLDER, "oci", digest.slice("sha256:".length));
    // A root's daemon would make it for root alone, and a plain user's test runs on the same images.
    mkdirSync(join(IMAGE_FOLDER, "rootfs"), { recursive: true });
    chmodSync(join(IMAGE_FOLDER, "rootfs"), 0o755);
    const known = knownImage(args);
    const before = existsSync(known) ? readFileSync(known, "utf8") : "";
    if (before !== "" && existsSync(layoutOf(before))) return { digest: before, layout: layoutOf(before) };
    const argv = [HPCC, "image", "build", "--from-host", "--tag", tag, "--json", ...args];
    const { digest } = JSON.parse(await mustRun(argv, { env: this.env })) as { digest: string };
    writeFileSync(`${known}.${process.pid}`, digest);
    renameSync(`${known}.${process.pid}`, known);
    return { digest, layout: layoutOf(digest) };
  }

  /** Ends everything that was started, and removes the folder. */
  async close(keep = false): Promise<void> {
    for (const user of this.#users) await user.hpcc(["daemon", "stop"]);
    for (const service of this.#services.toReversed()) await service.stop();
    if (!keep) rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Where the digest of an image is kept, as long as the host's packages and hpcc stay the same. */
function knownImage(args: readonly string[]): string {
  const stamps = ["/var/lib/dpkg/status", join(CHECKOUT, "out/lib/hpcc/hpcc.mjs")].map(
    (file) => statSync(file).mtimeMs,
  );
  const key = createHash("sha256")
    .update(JSON.stringify([args, stamps]))
    .digest("hex");
  return join(IMAGE_FOLDER, `built-${key.slice(0, 16)}`);
}

function identityTable(folder: string): string {
  return `[identity]
certificate = "${folder}/cert.pem"
key = "${folder}/key.pem"
ca = "${folder}/ca.pem"
`;
}
