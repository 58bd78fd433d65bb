// A worker and its clients on loopback with mutual TLS, compiling in local processes.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readLog } from "../../src/audit/read-log.ts";
import { JOB_KINDS } from "../../src/audit/rows/bodies.ts";
import { ascii, type ByteString, byteStringOfText } from "../../src/base/byte-string.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { Action } from "../../src/core/action/action.ts";
import { encodeSourceManifest, type SourceEntry, sourceManifest } from "../../src/core/action/source-manifest.ts";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { parseIdentityName } from "../../src/core/identity/spiffe.ts";
import { fixedPolicies } from "../../src/core/tenant-policy.ts";
import type { RemoteJob } from "../../src/daemon/remote/remote-job.ts";
import { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { compressBytes } from "../../src/store/zstd-codec.ts";
import { stateFolders } from "../../src/worker/state-folders.ts";
import { type RunningWorker, startWorker, type WorkerConfig, type WorkerDeps } from "../../src/worker/worker.ts";
import { TEST_TRUST_DOMAIN, TestAuthority } from "./certificates.ts";
import { LocalPool } from "./local-pool.ts";
import { type LooseRecord, looseRecord } from "./loose-envelope.ts";

export const TEST_IMAGE = sha256(Buffer.from("the image of tests"));

export interface TestFile {
  readonly path: string;
  readonly content: Uint8Array | string;
  readonly executable?: boolean;
}

export interface TestJobOptions {
  readonly files: readonly TestFile[];
  /** Links and folders of the source. */
  readonly entries?: readonly SourceEntry[];
  readonly argv?: readonly string[];
  readonly image?: Digest;
  readonly required?: boolean;
  readonly deadlineMs?: number;
}

/** What runs functions at its end: a test's context. */
export interface TestScope {
  after(end: () => Promise<void>): void;
}

export class TestWorker {
  readonly folder: string;
  readonly worker: RunningWorker;
  readonly pool: LocalPool;
  readonly #authority: TestAuthority;
  readonly #name: string;
  readonly #clients: WorkerClient[] = [];
  /** Blobs that clients were asked for, in order. */
  readonly sent: Digest[] = [];

  private constructor(parts: {
    readonly folder: string;
    readonly worker: RunningWorker;
    readonly pool: LocalPool;
    readonly authority: TestAuthority;
    readonly name: string;
  }) {
    this.folder = parts.folder;
    this.worker = parts.worker;
    this.pool = parts.pool;
    this.#authority = parts.authority;
    this.#name = parts.name;
  }

  /** A worker that ends, with its folder, when the test does. Those of one site have one authority. */
  static async start(
    scope: TestScope,
    overrides: Partial<WorkerConfig> = {},
    deps: Partial<WorkerDeps> = {},
    at?: string,
    authority?: TestAuthority,
  ): Promise<TestWorker> {
    const folder = at ?? (await mkdtemp(join(tmpdir(), "hpcc-worker-")));
    let started: TestWorker | null = null;
    scope.after(async () => {
      await started?.stop();
      await rm(folder, { recursive: true, force: true });
    });
    const issuer = authority ?? (await TestAuthority.create());
    const name = overrides.name ?? parseIdentityName("w1", "the worker");
    let pool: LocalPool | null = null;
    const worker = await startWorker(
      {
        listen: { host: "127.0.0.1", port: 0 },
        name,
        trustDomain: TEST_TRUST_DOMAIN,
        version: "0.1.0",
        stateFolder: join(folder, "state"),
        isolationMin: "qemu-tcg",
        slots: 2,
        jobsPerStreamMax: 64,
        limits: {
          blobBytesMax: 256 * 1024 * 1024,
          sourceBytesMax: 512 * 1024 * 1024,
          execution: {
            wallMs: 60_000,
            memoryBytes: 1024 * 1024 * 1024,
            pids: 64,
            outputBytes: 256 * 1024 * 1024,
            stdioBytes: 16 * 1024 * 1024,
          },
        },
        cacheBytesMax: null,
        ...overrides,
      },
      {
        clock: SYSTEM_CLOCK,
        logger: SILENT_LOGGER,
        tls: await issuer.issue(`worker/${name}`),
        images: {
          digests: [TEST_IMAGE],
          has: (digest) => digest === TEST_IMAGE,
          rootfs: async () => "/nonexistent/image.sqfs",
        },
        policies: fixedPolicies(),
        isolation: "qemu-tcg",
        createPool: (events) => {
          pool = new LocalPool(events);
          return pool;
        },
        ...deps,
      },
    );
    started = new TestWorker({ folder, worker, pool: pool!, authority: issuer, name });
    return started;
  }

  /** A connected client; by default ann of acme. */
  async client(path = "tenant/acme/user/ann"): Promise<WorkerClient> {
    const client = await WorkerClient.connect({
      address: this.worker.address,
      tls: await this.#authority.issue(path),
      accept: (server) => server.kind === "worker" && server.name === this.#name,
      version: "0.1.0",
      clock: SYSTEM_CLOCK,
    });
    this.#clients.push(client);
    return client;
  }

  /** TLS credentials of any identity of the tests' CA. */
  async credentials(path: string) {
    return this.#authority.issue(path);
  }

  /** A job that compiles the first file with the machine's gcc. */
  async job(options: TestJobOptions): Promise<RemoteJob> {
    const contents = new Map<Digest, Uint8Array>();
    const entries = options.files.map(({ path, content, executable }) => {
      const bytes = typeof content === "string" ? Buffer.from(content) : content;
      contents.set(sha256(bytes), bytes);
      const mode = executable === true ? (0o755 as const) : (0o644 as const);
      return { kind: "file" as const, path: byteStringOfText(path), mode, digest: sha256(bytes), size: bytes.length };
    });
    const source = options.files[0]!.path;
    const argv = options.argv ?? ["/usr/bin/gcc", "-c", "-x", "c", source, "-o", "/hpcc/out/object.o"];
    const outputFolder = await mkdtemp(join(this.folder, "job-"));
    return {
      action: testAction(argv.map(byteStringOfText), options),
      manifest: encodeSourceManifest(sourceManifest("text", [...entries, ...(options.entries ?? [])])),
      openBlob: (digest) => {
        this.sent.push(digest);
        return compressBytes(contents.get(digest)!);
      },
      isolationMin: "qemu-tcg",
      deadlineMs: options.deadlineMs ?? 60_000,
      outputFolder,
    };
  }

  /** All audit records but the one of the log's key, by a reader that knows nothing of the worker. */
  async rows(): Promise<LooseRecord[]> {
    const records: LooseRecord[] = [];
    for await (const { record } of readLog(stateFolders(join(this.folder, "state")).audit))
      if (record.envelope.kind !== "log" || record.envelope.event !== "key") records.push(looseRecord(record));
    return records;
  }

  /** Records of jobs alone. */
  async jobRows(): Promise<LooseRecord[]> {
    return (await this.rows()).filter(({ envelope }) => JOB_KINDS.has(envelope.kind));
  }

  /** Ends clients and worker, keeping the folder. */
  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.worker.close(100);
  }
}

function testAction(argv: readonly ByteString[], options: TestJobOptions): Action {
  return {
    imageDigest: options.image ?? TEST_IMAGE,
    argv,
    environment: [ascii("LC_ALL=C"), ascii("PATH=/usr/bin:/bin")],
    cwd: ascii("/hpcc/project"),
    outputs: [{ path: ascii("/hpcc/out/object.o"), required: options.required ?? true, kind: "object" }],
    terminalColumns: null,
    determinism: "default",
  };
}
