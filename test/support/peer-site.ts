// Workers of one site as far as they exchange results, on loopback with mutual TLS: real stores and peers, and a compiler that writes
// down how often it ran. What a hostile one sends is up to the test.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AppendedRow, AuditLog } from "../../src/audit/audit-log.ts";
import { readOrMakeLogSigner } from "../../src/audit/log-key-file.ts";
import { ascii } from "../../src/base/byte-string.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { Action } from "../../src/core/action/action.ts";
import type { ResultKey } from "../../src/core/action/result-keys.ts";
import { encodeResultManifest, type ResultManifest } from "../../src/core/action/result-manifest.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { parseIdentityName } from "../../src/core/identity/spiffe.ts";
import type { PeerTrust } from "../../src/core/sharing/peer-trust.ts";
import type { Statement } from "../../src/core/sharing/statement.ts";
import { PeerService } from "../../src/gen/hpcc/peer/v1/peer_pb.js";
import type { CachedAction, TenantStore } from "../../src/store/action-cache.ts";
import { DiskStore } from "../../src/store/disk/disk-store.ts";
import { RpcServer, type ServiceHandlers } from "../../src/wire/grpc/server.ts";
import { inspectTls, type OwnCredentials } from "../../src/wire/grpc/tls-files.ts";
import { StatementSigner } from "../../src/wire/peer/signed-statement.ts";
import type { PeerOffer } from "../../src/wire/scheduler/mapping.ts";
import { OWN, openAction } from "../../src/worker/cached-result.ts";
import type { Answer, Job, Layer } from "../../src/worker/layers/layer.ts";
import { openPeers, type PeersOptions, type RunningPeers } from "../../src/worker/peers/peers.ts";
import { WorkerRevocations } from "../../src/worker/revocations.ts";
import { TestAuthority } from "./certificates.ts";
import { IMAGE, testJob, user } from "./layer-jobs.ts";

export const ROW: AppendedRow = { line: "a row", digest: sha256(Buffer.from("a row")), sequence: 1, receipt: null };

const NAMES = { certificate: "c", key: "k", ca: "a" };

export interface MemberOptions extends Partial<Pick<PeersOptions, "answerMs" | "fetchMs" | "logger" | "random">> {
  readonly trust?: PeerTrust;
  /** In place of what the member would answer. */
  readonly hostile?: Partial<ServiceHandlers<typeof PeerService>>;
}

/** The workers that there are. */
export class PeerSite {
  readonly authority: TestAuthority;
  readonly folder: string;
  readonly #members = new Map<string, Member>();
  readonly #told = new Set<() => void>();

  private constructor(authority: TestAuthority, folder: string) {
    this.authority = authority;
    this.folder = folder;
  }

  static async open(scope: { after(end: () => Promise<void>): void }): Promise<PeerSite> {
    const site = new PeerSite(await TestAuthority.create(), await mkdtemp(join(tmpdir(), "hpcc-peers-")));
    scope.after(async () => {
      for (const member of site.#members.values()) await member.close();
      await rm(site.folder, { recursive: true });
    });
    return site;
  }

  async credentials(path: string): Promise<OwnCredentials> {
    return inspectTls(await this.authority.issue(path), Date.now(), NAMES);
  }

  /** A worker that all others know from now on; one that was there before starts anew with its store. */
  async add(name: string, options: MemberOptions = {}): Promise<Member> {
    await this.remove(name);
    const member = await Member.start(this, name, options);
    this.#members.set(name, member);
    this.#tell();
    return member;
  }

  async remove(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    this.#members.delete(name);
    this.#tell();
    await member.close();
  }

  /** As schedulers would, at once. */
  watch(changed: (peers: readonly PeerOffer[]) => void): { close(): Promise<void> } {
    const tell = () => changed([...this.#members.values()].map(({ offer }) => offer));
    this.#told.add(tell);
    tell();
    return {
      close: async () => {
        this.#told.delete(tell);
      },
    };
  }

  #tell(): void {
    for (const tell of this.#told) tell();
  }
}

export class Member {
  readonly name: string;
  readonly offer: PeerOffer;
  readonly peers: RunningPeers;
  readonly disk: DiskStore;
  readonly credentials: OwnCredentials;
  readonly revocations: WorkerRevocations;
  readonly log: AuditLog;
  compiled = 0;
  readonly #server: RpcServer;
  readonly #layer: Layer;

  private constructor(
    parts: Pick<Member, "name" | "offer" | "peers" | "disk" | "credentials" | "revocations" | "log"> & {
      readonly server: RpcServer;
    },
  ) {
    this.name = parts.name;
    this.offer = parts.offer;
    this.peers = parts.peers;
    this.disk = parts.disk;
    this.credentials = parts.credentials;
    this.revocations = parts.revocations;
    this.log = parts.log;
    this.#server = parts.server;
    this.#layer = parts.peers.intercept({ run: (job) => this.#compile(job) });
  }

  static async start(site: PeerSite, name: string, options: MemberOptions): Promise<Member> {
    const { trust = "site", hostile = {}, logger = SILENT_LOGGER } = options;
    const credentials = await site.credentials(`worker/${name}`);
    const { identity, caDigest, tls } = credentials;
    if (identity.kind !== "worker") throw new Error("bug: no worker");
    const clock = SYSTEM_CLOCK;
    const auditFolder = join(site.folder, name, "audit");
    const signer = await readOrMakeLogSigner(join(site.folder, name), `test.example/worker/${name}`);
    const log = await AuditLog.open({ folder: auditFolder, worker: name, clock, logger, signer });
    const revocations = new WorkerRevocations({ log, auditFolder, worker: name, clock, logger });
    const disk = await DiskStore.open({
      root: join(site.folder, name, "store"),
      clock: SYSTEM_CLOCK,
      logger,
      worker: name,
      ...revocations.observer,
    });
    revocations.attach(disk.revocations);
    await disk.revocations.open();
    const peers = await openPeers({
      trust,
      answerMs: options.answerMs ?? 2_000,
      fetchMs: options.fetchMs ?? 5_000,
      credentials: () => credentials,
      watch: (changed) => site.watch(changed),
      folder: join(site.folder, name, "peers"),
      store: (tenant) => disk.tenant(tenant),
      knows: (tenant) => disk.has(tenant),
      feed: revocations,
      sizes: { outputBytes: 1_000_000, stdioBytes: 1_000_000, resultBytes: 2_000_000 },
      clock: SYSTEM_CLOCK,
      logger,
      random: options.random ?? (() => 0),
    });
    const server = new RpcServer({ tls, logger });
    server.add(PeerService, { ...peers.handlers, ...hostile });
    const address = await server.listen({ host: "127.0.0.1", port: 0 });
    const offer: PeerOffer = { address, identity, caDigest, isolation: "qemu-tcg", slots: 1, images: [IMAGE] };
    peers.start();
    return new Member({ name, offer, peers, disk, credentials, revocations, log, server });
  }

  store(tenant = user("ann").tenant): TenantStore {
    return this.peers.store(tenant);
  }

  /** As a worker answers a job: its own cache, then peers, then the compiler; and the row. */
  async run(job: Job): Promise<Answer> {
    const own = { ...job, store: this.store(job.principal.tenant) };
    for (const key of job.keys.candidates) {
      const found = await own.store.actions.get(key.key);
      if (found.kind === "miss") continue;
      const result = await openAction(found.action, own.store.blobs);
      if (result !== null) return { outcome: "hit", key, provenance: OWN, result, afterRow: async () => undefined };
    }
    const answer = await this.#layer.run(own);
    await answer.afterRow(ROW);
    return answer;
  }

  /** What `run` came to, with nothing left open and all told that is to be told. */
  async outcome(job: Job): Promise<string> {
    const { outcome, provenance, result } = await this.run(job);
    await result.close();
    await this.peers.settled();
    return provenance.from === null ? outcome : `${outcome} from ${provenance.from}`;
  }

  /** Puts a result under the job's tenant key, as a compile in a clean VM does. */
  async share(job: Job, changes: Partial<CachedAction> = {}): Promise<CachedAction> {
    const action = { ...(await this.make(job)), ...changes };
    await this.#keep({ ...job, store: this.store(job.principal.tenant) }, job.keys.shared!, action);
    await this.peers.settled();
    return action;
  }

  /** A result whose blobs are in this worker's store. */
  async make(job: Job, object = `an object of ${this.name}`): Promise<CachedAction> {
    const { blobs, actions } = this.store(job.principal.tenant);
    const ref = await blobs.putBytes(Buffer.from(object), "cache", 1_000_000);
    const warning = await blobs.putBytes(Buffer.from("a warning"), "cache", 1_000_000);
    const manifest: ResultManifest = {
      exitCode: 0,
      outputs: [{ index: 0, kind: "object", executable: false, ...ref }],
      stdout: { digest: sha256(new Uint8Array()), size: 0 },
      stderr: warning,
    };
    return {
      result: encodeResultManifest(manifest),
      isolation: "qemu-tcg",
      life: "clean",
      compileUs: 7,
      vm: `${this.name}-vm-1`,
      worker: this.name,
      principal: `spiffe://test.example/tenant/${job.principal.tenant}/user/${job.principal.user}`,
      image: job.action.imageDigest,
      row: ROW.digest,
      madeMs: await actions.stamp(Date.now()),
      confirmedBy: null,
      statement: null,
    };
  }

  /** What this worker would state about an entry, signed by its key; or something else in its name. */
  sign(job: Job, action: CachedAction, changes: Partial<Statement> = {}): Uint8Array {
    const signer = new StatementSigner(this.credentials);
    const { isolation, life, compileUs, vm, principal, image, madeMs, confirmedBy } = action;
    const made = { isolation, life, compileUs, vm, principal, image, madeMs, confirmedBy };
    return signer.sign({
      ...made,
      tenant: job.principal.tenant,
      tier: job.keys.shared!.tier,
      key: job.keys.shared!.key,
      result: sha256(action.result),
      row: ROW.digest,
      worker: signer.worker,
      ...changes,
    });
  }

  async close(): Promise<void> {
    await this.peers.close();
    await this.#server.close(0);
    await this.disk.settled();
    await this.revocations.settled();
    await this.log.close();
  }

  async #compile(job: Job): Promise<Answer> {
    this.compiled += 1;
    const action = await this.make(job);
    const result = await openAction(action, job.store.blobs);
    if (result === null) throw new Error("bug: what was made is not there");
    const key = job.keys.shared ?? job.keys.own;
    return {
      outcome: "compiled",
      key,
      provenance: OWN,
      result,
      afterRow: () => this.#keep(job, key, action),
    };
  }

  async #keep(job: Job, key: ResultKey, action: CachedAction): Promise<void> {
    await job.store.actions.put(key.key, action);
    this.peers.observe({ t: "stored", job, key, action });
  }
}

/** A job of its own key: `at` goes into its command line. */
export function siteJob(at: number, changes: Partial<Job> = {}): Job {
  const plain = testJob();
  const action: Action = { ...plain.action, argv: [...plain.action.argv, ascii(`-DAT=${at}`)] };
  return testJob({ action, ...changes });
}

export function peerName(name: string) {
  return parseIdentityName(name, "a worker");
}
