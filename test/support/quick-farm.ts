// A whole hpcc in this process but for the launcher: scheduler, a worker whose guests are sandboxes, and a user's daemon, all from the
// sources. For tests of what calls come to, thousands of them if need be; the farm of farm.ts shows the installed programs and VMs.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readLog } from "../../src/audit/read-log.ts";
import type { AuditRecord } from "../../src/audit/segment.ts";
import { type Logger, SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { loadClientConfig } from "../../src/config/client.ts";
import { type Directories } from "../../src/config/directories.ts";
import { type Digest, parseDigest } from "../../src/core/digest/digest.ts";
import { formatHostPort } from "../../src/core/identity/host-port.ts";
import { parseIdentityName } from "../../src/core/identity/spiffe.ts";
import { fixedPolicies } from "../../src/core/tenant-policy.ts";
import { startDaemon } from "../../src/daemon/control/daemon.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import { rootfsPath } from "../../src/image/rootfs.ts";
import { startScheduler } from "../../src/scheduler/scheduler.ts";
import type { VmEventSink, VmPool } from "../../src/vm/pool.ts";
import { inspectTls } from "../../src/wire/grpc/tls-files.ts";
import { startRegistration } from "../../src/worker/registration.ts";
import { stateFolders } from "../../src/worker/state-folders.ts";
import { type RunningWorker, startWorker, type WorkerDeps } from "../../src/worker/worker.ts";
import { TEST_TRUST_DOMAIN, TestAuthority } from "./certificates.ts";
import { SandboxPool } from "./sandbox-pool.ts";

const NAMES = { certificate: "certificate", key: "key", ca: "ca" };

export interface QuickFarmOptions {
  /** Where images are: their layouts and unpacked root file systems. */
  readonly imageFolder: string;
  readonly images: readonly string[];
  readonly logger?: Logger;
  readonly fallback?: "image" | "none";
  /** False: the user never asks a worker. */
  readonly remote?: boolean;
  /** Whether results of workers are kept on the client, too; else each call asks the worker. */
  readonly local?: boolean;
  /** Compiles at a time, as told to the scheduler. */
  readonly slots?: number;
  /** What the worker's tenants may do; by default whatever the defaults allow. */
  readonly policies?: WorkerDeps["policies"];
  /** Second compiles at a time when the worker is idle; none when absent. */
  readonly confirmationsMax?: number;
  /** In place of sandboxes. */
  readonly createPool?: (events: VmEventSink) => VmPool;
}

/** Compiles at a time where a farm does not say. */
const SLOTS = 4;
const LIMITS = {
  blobBytesMax: 256 * 1024 * 1024,
  sourceBytesMax: 512 * 1024 * 1024,
  execution: {
    wallMs: 60_000,
    memoryBytes: 1024 * 1024 * 1024,
    pids: 64,
    outputBytes: 256 * 1024 * 1024,
    stdioBytes: 16 * 1024 * 1024,
  },
};

interface WorkerOfFarm {
  readonly authority: TestAuthority;
  /** Its state. */
  readonly folder: string;
  readonly images: readonly Digest[];
  readonly createPool: (events: VmEventSink) => VmPool;
}

export interface AddedWorker {
  /** `host:port`, as options of commands take it. */
  readonly address: string;
}

export class QuickFarm {
  readonly folder = mkdtempSync(join(tmpdir(), "hq-"));
  /** Environment of the user's calls. */
  readonly env: Readonly<Record<string, string>>;
  pool: SandboxPool | null = null;
  readonly #ends: (() => Promise<unknown>)[] = [];
  #joining: { readonly authority: TestAuthority; readonly schedulerPort: number } | null = null;
  #worker: RunningWorker | null = null;
  readonly #options: QuickFarmOptions;

  private constructor(options: QuickFarmOptions) {
    this.#options = options;
    this.env = userEnv(this.folder, options.imageFolder);
  }

  static async start(options: QuickFarmOptions): Promise<QuickFarm> {
    const farm = new QuickFarm(options);
    try {
      await farm.#start();
      return farm;
    } catch (error) {
      await farm.close();
      throw error;
    }
  }

  /** What the worker tells schedulers. */
  get load(): ReturnType<RunningWorker["load"]> {
    if (this.#worker === null) throw new Error("bug: the farm has not started");
    return this.#worker.load();
  }

  /** Of the worker. */
  get stats(): ReturnType<RunningWorker["stats"]> {
    if (this.#worker === null) throw new Error("bug: the farm has not started");
    return this.#worker.stats();
  }

  /** Of the first user. */
  get directories(): Directories {
    const { folder } = this;
    return {
      runtime: join(folder, "run"),
      state: join(folder, "state"),
      cache: join(folder, "cache"),
      images: this.#options.imageFolder,
      userConfig: join(folder, "config.toml"),
      systemConfig: join(folder, "none.toml"),
    };
  }

  rootfs(image: string): string {
    return rootfsPath(this.#options.imageFolder, { digest: image as Digest });
  }

  /** All records of the worker's audit log so far. */
  async rows(): Promise<AuditRecord[]> {
    const records: AuditRecord[] = [];
    for await (const { record } of readLog(stateFolders(join(this.folder, "worker")).audit)) records.push(record);
    return records;
  }

  /** A further user of the same tenant with a daemon of his own; gives the environment of his calls. */
  async addUser(name: string): Promise<Readonly<Record<string, string>>> {
    const home = join(this.folder, `user-${name}`);
    mkdirSync(home);
    await this.#startUser(name, home);
    return userEnv(home, this.#options.imageFolder);
  }

  /** A further user whose daemon the launcher starts; gives the environment of his calls. */
  async addAccount(name: string): Promise<Readonly<Record<string, string>>> {
    const home = join(this.folder, `user-${name}`);
    mkdirSync(home);
    await this.#writeUser(name, home);
    return userEnv(home, this.#options.imageFolder);
  }

  /** A further worker, to be named by its address: no scheduler knows it. */
  async addWorker(name: string, images: readonly string[] = this.#options.images): Promise<AddedWorker> {
    if (this.#joining === null) throw new Error("bug: the farm has not started");
    const { worker } = await this.#startWorker(name, {
      authority: this.#joining.authority,
      folder: join(this.folder, `worker-${name}`),
      images: images.map((image) => parseDigest(image, "image")),
      createPool: (events) => new SandboxPool(events),
    });
    return { address: formatHostPort(worker.address) };
  }

  async close(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    const { folder } = this;
    const { imageFolder, logger = SILENT_LOGGER, slots = SLOTS } = this.#options;
    const images = this.#options.images.map((image) => parseDigest(image, "image"));
    const store = new ImageStore(imageFolder);
    for (const image of images) await store.rootfs(image);
    const authority = await TestAuthority.create();
    const clock = SYSTEM_CLOCK;
    const scheduler = await startScheduler(
      {
        listen: { host: "127.0.0.1", port: 0 },
        heartbeatIntervalMs: 500,
        expiryMs: 5000,
        workersMax: 8,
        watchersMax: 128,
        watchersPerUserMax: 8,
      },
      { credentials: inspectTls(await authority.issue("scheduler/s1"), Date.now(), NAMES), logger, clock },
    );
    this.#ends.push(() => scheduler.close());
    const { worker, credentials } = await this.#startWorker("w1", {
      authority,
      folder: join(folder, "worker"),
      images,
      createPool: (events) => {
        if (this.#options.createPool) return this.#options.createPool(events);
        this.pool = new SandboxPool(events);
        return this.pool;
      },
    });
    const { identity } = credentials;
    if (identity.kind !== "worker") throw new Error("bug: no worker's certificate");
    const registration = startRegistration({
      schedulers: [scheduler.address],
      credentials: () => credentials,
      offer: () => ({
        identity,
        caDigest: credentials.caDigest,
        address: worker.address,
        images,
        isolation: "qemu-tcg",
        slots,
        version: "0.1.0",
      }),
      load: () => worker.load(),
      clock,
      logger,
    });
    this.#ends.push(() => registration.close());
    this.#worker = worker;
    this.#joining = { authority, schedulerPort: scheduler.address.port };
    await this.#startUser("ann", folder);
  }

  /** A worker with a state folder of its own; no scheduler knows it. */
  async #startWorker(name: string, own: WorkerOfFarm) {
    const { imageFolder, logger = SILENT_LOGGER, slots = SLOTS } = this.#options;
    const { authority, folder, images, createPool } = own;
    const tls = await authority.issue(`worker/${name}`);
    const worker = await startWorker(
      {
        listen: { host: "127.0.0.1", port: 0 },
        name: parseIdentityName(name, "the worker"),
        trustDomain: TEST_TRUST_DOMAIN,
        version: "0.1.0",
        stateFolder: folder,
        isolationMin: "qemu-tcg",
        slots,
        jobsPerStreamMax: 256,
        limits: LIMITS,
        cacheBytesMax: null,
        confirmationsMax: this.#options.confirmationsMax ?? 0,
      },
      {
        clock: SYSTEM_CLOCK,
        logger,
        tls,
        images: {
          digests: images,
          has: (digest) => images.includes(digest),
          rootfs: async (digest) => rootfsPath(imageFolder, { digest }),
        },
        policies: this.#options.policies ?? fixedPolicies(),
        isolation: "qemu-tcg",
        createPool,
      },
    );
    this.#ends.push(() => worker.close(100));
    return { worker, credentials: inspectTls(tls, Date.now(), NAMES) };
  }

  /** The user's identity, configuration and daemon, all in one folder. */
  async #startUser(name: string, home: string): Promise<void> {
    const { imageFolder, logger = SILENT_LOGGER } = this.#options;
    await this.#writeUser(name, home);
    const directories: Directories = {
      runtime: join(home, "run"),
      state: join(home, "state"),
      cache: join(home, "cache"),
      images: imageFolder,
      userConfig: join(home, "config.toml"),
      systemConfig: join(home, "none.toml"),
    };
    const { config } = loadClientConfig({ env: {}, projectRoot: null, directories });
    const daemon = await startDaemon({ config, directories, logger, clock: SYSTEM_CLOCK, version: "0.1.0" });
    this.#ends.push(() => daemon.close());
  }

  async #writeUser(name: string, home: string): Promise<void> {
    const { images, fallback = "image" } = this.#options;
    if (this.#joining === null) throw new Error("bug: the farm has not started");
    const user = await this.#joining.authority.issue(`tenant/acme/user/${name}`);
    for (const [part, bytes] of Object.entries(user))
      writeFileSync(join(home, `${part}.pem`), bytes as Uint8Array, { mode: 0o600 });
    writeFileSync(
      join(home, "config.toml"),
      `schedulers = ["127.0.0.1:${this.#joining.schedulerPort}"]
fallback = "${fallback}"
isolation_min = "qemu-tcg"
remote = ${this.#options.remote ?? true}
[identity]
certificate = "${home}/certificate.pem"
key = "${home}/key.pem"
ca = "${home}/ca.pem"
[images]
allowed = [${images.map((image) => JSON.stringify(image)).join(", ")}]
[local]
enabled = ${this.#options.local ?? false}
[daemon]
idle_ms = 0
`,
    );
    mkdirSync(join(home, "run"), { mode: 0o700 });
  }
}

function userEnv(home: string, imageFolder: string): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "",
    HOME: home,
    LANG: "C.UTF-8",
    HPCC_RUNTIME_DIR: join(home, "run"),
    HPCC_STATE_DIR: join(home, "state"),
    HPCC_CONFIG: join(home, "config.toml"),
    HPCC_IMAGE_DIR: imageFolder,
  };
}
