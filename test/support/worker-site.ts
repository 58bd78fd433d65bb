// Whole workers of one site, that learn of each other from a scheduler.
import type { TestContext } from "node:test";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { HostPort } from "../../src/core/identity/host-port.ts";
import { parseIdentityName } from "../../src/core/identity/spiffe.ts";
import type { PeerTrust } from "../../src/core/sharing/peer-trust.ts";
import { fixedPolicies, type TenantSettings } from "../../src/core/tenant-policy.ts";
import { type RunningScheduler, startScheduler } from "../../src/scheduler/scheduler.ts";
import { inspectTls, type OwnCredentials } from "../../src/wire/grpc/tls-files.ts";
import { watchPeers } from "../../src/worker/peers/peer-watch.ts";
import { startRegistration } from "../../src/worker/registration.ts";
import type { WorkerDeps } from "../../src/worker/worker.ts";
import { TestAuthority } from "./certificates.ts";
import { TEST_IMAGE, TestWorker } from "./test-worker.ts";

const CLEAN: TenantSettings = { life: "clean", sharing: "clean" };
const NAMES = { certificate: "c", key: "k", ca: "a" };

export interface SiteOptions {
  readonly confirmationsMax?: number;
  readonly settings?: TenantSettings;
  readonly trust?: PeerTrust;
  /** Further parts of each worker, by its name. */
  readonly deps?: (name: string) => Partial<WorkerDeps>;
}

/** Workers of one scheduler. */
export class WorkerSite {
  readonly workers: TestWorker[] = [];
  readonly #context: TestContext;
  readonly #authority: TestAuthority;
  readonly #scheduler: RunningScheduler;
  readonly #ends: (() => Promise<void>)[] = [];
  /** How many others each has been told of. */
  readonly #told = new Map<string, number>();

  private constructor(context: TestContext, authority: TestAuthority, scheduler: RunningScheduler) {
    this.#context = context;
    this.#authority = authority;
    this.#scheduler = scheduler;
  }

  static async open(context: TestContext, names: readonly string[], options: SiteOptions = {}): Promise<WorkerSite> {
    const authority = await TestAuthority.create();
    const credentials = inspectTls(await authority.issue("scheduler/s1"), Date.now(), NAMES);
    const scheduler = await startScheduler(
      {
        listen: { host: "127.0.0.1", port: 0 },
        heartbeatIntervalMs: 500,
        expiryMs: 60_000,
        workersMax: 8,
        watchersMax: 8,
        watchersPerUserMax: 8,
      },
      { credentials, logger: SILENT_LOGGER, clock: SYSTEM_CLOCK },
    );
    const site = new WorkerSite(context, authority, scheduler);
    context.after(async () => {
      for (const end of site.#ends.toReversed()) await end();
      await scheduler.close();
    });
    for (const name of names) await site.add(name, options);
    // Everybody knows everybody when each has a stream of revocations from each.
    return site;
  }

  async add(
    name: string,
    { settings = CLEAN, trust = "site", confirmationsMax = 0, deps }: SiteOptions,
  ): Promise<TestWorker> {
    const own = inspectTls(await this.#authority.issue(`worker/${name}`), Date.now(), NAMES);
    const common = { clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, credentials: () => own };
    const schedulers = [this.#scheduler.address];
    const known = Promise.withResolvers<void>();
    const others = this.workers.length;
    const test = await TestWorker.start(
      this.#context,
      { name: parseIdentityName(name, "a worker"), confirmationsMax },
      {
        tls: own.tls,
        policies: fixedPolicies(new Map([["acme", settings]])),
        peers: {
          trust,
          answerMs: 5_000,
          fetchMs: 5_000,
          credentials: () => own,
          watch: (changed) =>
            watchPeers({
              ...common,
              schedulers,
              images: () => [TEST_IMAGE],
              changed: (peers) => {
                changed(peers);
                this.#told.set(name, peers.length);
                if (peers.length >= others) known.resolve();
              },
            }),
        },
        ...deps?.(name),
      },
      undefined,
      this.#authority,
    );
    this.workers.push(test);
    this.#register(own, test.worker.address, schedulers);
    await known.promise;
    return test;
  }

  /** Resolves when each has been told of all others. */
  async acquainted(): Promise<void> {
    const others = this.workers.length - 1;
    const all = () => [...this.#told.values()].filter((told) => told === others).length === this.workers.length;
    while (!all()) await new Promise((turn) => setImmediate(turn));
  }

  #register(own: OwnCredentials, address: HostPort, schedulers: readonly HostPort[]): void {
    const { identity, caDigest } = own;
    if (identity.kind !== "worker") throw new Error("bug: no worker");
    const registration = startRegistration({
      schedulers,
      credentials: () => own,
      offer: () => ({
        identity,
        caDigest,
        address,
        images: [TEST_IMAGE],
        isolation: "qemu-tcg",
        slots: 2,
        version: "0.1.0",
      }),
      load: () => ({ freeSlots: 2, queued: 0 }),
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
    });
    this.#ends.push(() => registration.close());
  }
}
