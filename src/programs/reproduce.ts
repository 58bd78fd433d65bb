// What `hpcc reproduce` works on: rows and sources from workers or from a state folder, runs in a sandbox here or on a worker.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { credentialsOf, currentClientConfig, workersOf } from "../cli/current-config.ts";
import type { ReproduceOptions, Reproducing } from "../cli/reproduce-command.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";
import { parseHostPort } from "../core/identity/host-port.ts";
import { type Identity, sameTrustDomain } from "../core/identity/spiffe.ts";
import { WorkerClient } from "../daemon/remote/worker-client.ts";
import { ImageStore } from "../image/image-store.ts";
import type { Evidence, JobEvidence } from "../reproduce/evidence.ts";
import { type KnownWorker, RemoteEvidence } from "../reproduce/remote-evidence.ts";
import type { RunnableJob, Runner, RunResult } from "../reproduce/reproduce.ts";
import { SandboxRunner } from "../reproduce/sandbox-runner.ts";
import { compressBytes } from "../store/zstd-codec.ts";
import type { OwnCredentials } from "../wire/grpc/tls-files.ts";
import { openState } from "../worker/inspect/inspection.ts";

const DEADLINE_MS = 600_000;
const OUTPUTS_TOTAL_MS = DEADLINE_MS + 60_000;

/** Opens what the options name. */
export async function openReproducing(
  options: ReproduceOptions,
  { env, uid, clock }: { readonly env: Environment; readonly uid: number; readonly clock: Clock },
): Promise<Reproducing> {
  const client = new Client(env, clock);
  const runner = options.here
    ? new SandboxRunner(async (image) => new ImageStore(resolveDirectories(env, uid).images).rootfs(image))
    : new WorkerRunner(client, options.on ?? null, clock);
  if (options.state === undefined) {
    const evidence = new RemoteEvidence(await client.workers(options.worker ?? null), client.credentials);
    return { evidence, runner, rows: null, close: async () => evidence.close() };
  }
  const state = await openState(options.state);
  const evidence: Evidence = {
    find: (hash) => state.inspector.find(hash, null),
    blob: ({ row }, digest, sizeMax) => state.blob(row.tenant, digest, sizeMax),
  };
  return { evidence, runner, rows: () => state.rows(), close: async () => state.close() };
}

/** The user's own configuration, read when it is needed. */
class Client {
  readonly #env: Environment;
  readonly #clock: Clock;

  constructor(env: Environment, clock: Clock) {
    this.#env = env;
    this.#clock = clock;
  }

  get credentials(): OwnCredentials {
    return credentialsOf(currentClientConfig(this.#env).config, this.#clock.wallMs());
  }

  async workers(address: string | null): Promise<readonly KnownWorker[]> {
    if (address !== null) return [{ address: parseHostPort(address), identity: null }];
    return workersOf(currentClientConfig(this.#env).config, this.credentials);
  }
}

/** Sends a job to a worker, which compiles it in a clean microVM, whatever it knows of it. */
class WorkerRunner implements Runner {
  readonly #client: Client;
  readonly #address: string | null;
  readonly #clock: Clock;

  constructor(client: Client, address: string | null, clock: Clock) {
    this.#client = client;
    this.#address = address;
    this.#clock = clock;
  }

  async run(job: RunnableJob, of: JobEvidence, signal: AbortSignal): Promise<RunResult> {
    const worker = await this.#choose(of);
    const { tls, identity } = this.#client.credentials;
    const named = (server: Identity) =>
      worker.identity?.kind !== "worker" || (server.kind === "worker" && worker.identity.name === server.name);
    let name = "";
    const accept = (server: Identity) => {
      if (server.kind !== "worker" || !sameTrustDomain(server, identity) || !named(server)) return false;
      name = server.name;
      return true;
    };
    const client = await WorkerClient.connect({
      address: worker.address,
      tls,
      accept,
      version: VERSION,
      clock: this.#clock,
      signal,
    });
    const folder = await mkdtemp(join(tmpdir(), "hpcc-reproduce-"));
    try {
      if (name === of.row.worker && this.#address === null) throw onlyItsOwn(name);
      return await this.#compile(job, { client, folder, name }, signal);
    } finally {
      client.close();
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** Another worker than the row's, unless one is named. */
  async #choose(of: JobEvidence): Promise<KnownWorker> {
    const workers = await this.#client.workers(this.#address);
    const other = workers.find(({ identity }) => identity?.kind !== "worker" || identity.name !== of.row.worker);
    if (other === undefined) throw onlyItsOwn(of.row.worker);
    return other;
  }

  async #compile(
    { action, encodedSource, source, open }: RunnableJob,
    { client, folder, name }: { readonly client: WorkerClient; readonly folder: string; readonly name: string },
    signal: AbortSignal,
  ): Promise<RunResult> {
    const sizes = new Map(
      source.entries.flatMap((entry) => (entry.kind === "file" ? [[entry.digest, entry.size] as const] : [])),
    );
    const result = await client.compile(
      {
        action,
        manifest: encodedSource,
        openBlob: async (digest) => compressBytes(await open(digest, sizes.get(digest) ?? 0)),
        isolationMin: "qemu-tcg",
        deadlineMs: DEADLINE_MS,
        outputFolder: folder,
        again: true,
      },
      { signal: AbortSignal.any([signal, AbortSignal.timeout(OUTPUTS_TOTAL_MS)]) },
    );
    const outputs = await Promise.all(
      action.outputs.map(async (_, index) => {
        const output = result.outputs.find((one) => one.index === index);
        return output === undefined ? null : { executable: output.executable, bytes: await readFile(output.file) };
      }),
    );
    const vm = result.auditRow.split("\t")[6] ?? "-";
    return {
      exitCode: result.exitCode,
      outputs,
      stdout: result.stdout,
      stderr: result.stderr,
      where: `worker ${name}, microVM ${vm}, ${result.isolation}, ${result.life}`,
    };
  }
}

function onlyItsOwn(name: string): HpccError {
  return new HpccError("peer.unavailable", `only ${name}, which wrote the row, is there to compile it again`, {
    hint: "Start another worker with the image, name one with --on HOST:PORT, or say --here.",
  });
}
