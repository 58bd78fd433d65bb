// Whole workers of one site, that learn of each other from a scheduler: what one compiles is a hit on all, with rows, and is taken
// back on all.
import assert from "node:assert/strict";
import { describe, type TestContext, test } from "node:test";
import { TestAuthority } from "../../../test/support/certificates.ts";
import { TEST_IMAGE, TestWorker } from "../../../test/support/test-worker.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import type { HostPort } from "../../core/identity/host-port.ts";
import { parseIdentityName } from "../../core/identity/spiffe.ts";
import type { PeerTrust } from "../../core/sharing/peer-trust.ts";
import { fixedPolicies, type TenantSettings } from "../../core/tenant-policy.ts";
import { type RunningScheduler, startScheduler } from "../../scheduler/scheduler.ts";
import { inspectTls, type OwnCredentials } from "../../wire/grpc/tls-files.ts";
import { startRegistration } from "../registration.ts";
import { watchPeers } from "./peer-watch.ts";

const CLEAN: TenantSettings = { life: "clean", sharing: "clean" };
const NAMES = { certificate: "c", key: "k", ca: "a" };

interface SiteOptions {
  readonly confirmationsMax?: number;
  readonly settings?: TenantSettings;
  readonly trust?: PeerTrust;
}

/** Workers of one scheduler. */
class Site {
  readonly workers: TestWorker[] = [];
  readonly #context: TestContext;
  readonly #authority: TestAuthority;
  readonly #scheduler: RunningScheduler;
  readonly #ends: (() => Promise<void>)[] = [];

  private constructor(context: TestContext, authority: TestAuthority, scheduler: RunningScheduler) {
    this.#context = context;
    this.#authority = authority;
    this.#scheduler = scheduler;
  }

  static async open(context: TestContext, names: readonly string[], options: SiteOptions = {}): Promise<Site> {
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
    const site = new Site(context, authority, scheduler);
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
    { settings = CLEAN, trust = "site", confirmationsMax = 0 }: SiteOptions,
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
              images: [TEST_IMAGE],
              changed: (peers) => {
                changed(peers);
                if (peers.length >= others) known.resolve();
              },
            }),
        },
      },
      undefined,
      this.#authority,
    );
    this.workers.push(test);
    this.#register(own, test.worker.address, schedulers);
    await known.promise;
    return test;
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

async function compile(worker: TestWorker, user: string, text: string): Promise<string> {
  const client = await worker.client(`tenant/acme/user/${user}`);
  const job = await worker.job({ files: [{ path: "/hpcc/project/a.c", content: text }] });
  return (await client.compile(job, { signal: new AbortController().signal })).outcome;
}

describe("three workers of a site", () => {
  test("what one compiles is a hit on all for all users of the tenant, and each hit's row says whose result it was", async (context) => {
    const site = await Site.open(context, ["w1", "w2", "w3"]);
    const [w1, w2, w3] = site.workers;
    // The first has been told of the others when it asks them in vain.
    while (w1!.worker.stats().peers!.asked === 0)
      assert.equal(await compile(w1!, "ann", `int n${Date.now()};\n`), "compiled");
    const text = "int a;\n";
    assert.equal(await compile(w1!, "ann", text), "compiled");
    const [made] = (await w1!.jobRows()).toReversed();
    assert.equal(await compile(w2!, "bob", text), "hit");
    assert.equal(await compile(w3!, "eve", text), "hit");
    assert.equal(await compile(w3!, "ann", text), "hit");
    for (const worker of [w2!, w3!]) {
      const [first] = (await worker.jobRows()).filter(({ envelope }) => envelope.kind === "hit");
      const { from, compiledRow, scope, resultDigest } = first!.envelope;
      assert.deepEqual([from, compiledRow, scope], ["w1", made!.digest, "tenant"]);
      assert.equal(resultDigest, made!.envelope.resultDigest);
      assert.equal(first!.row.vm, made!.row.vm);
      assert.equal(first!.row.outputDigest, made!.row.outputDigest);
    }
    assert.equal(w3!.worker.stats().peers!.hits, 1, "the second time it has it itself");
  });

  test("a warm VM's result serves the others once a clean VM has confirmed it", async (context) => {
    const settings: TenantSettings = { life: "session", sharing: "confirm" };
    const site = await Site.open(context, ["w1", "w2"], { settings, confirmationsMax: 1 });
    const [w1, w2] = site.workers;
    assert.equal(await compile(w2!, "bob", "int b;\n"), "compiled");
    assert.equal(await compile(w1!, "ann", "int a;\n"), "compiled");
    while (w1!.worker.stats().peers!.signed === 0) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(w1!.worker.stats().confirmed.equal, 1);
    assert.equal(await compile(w2!, "bob", "int a;\n"), "hit");
    const hit = (await w2!.jobRows()).findLast(({ envelope }) => envelope.kind === "hit");
    assert.equal(hit?.envelope.from, "w1");
    assert.notEqual(hit?.envelope.confirmedBy, null);
    assert.notEqual(hit?.envelope.confirmedBy, hit?.row.vm);
  });

  test("private results stay where they are", async (context) => {
    const site = await Site.open(context, ["w1", "w2"], { settings: { life: "clean", sharing: "private" } });
    assert.equal(await compile(site.workers[0]!, "ann", "int a;\n"), "compiled");
    assert.equal(await compile(site.workers[1]!, "ann", "int a;\n"), "compiled");
    assert.equal(site.workers[1]!.worker.stats().peers!.asked, 0);
  });
});
