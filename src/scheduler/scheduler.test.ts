import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TestAuthority, testIdentity } from "../../test/support/certificates.ts";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { formatHostPort, type HostPort } from "../core/identity/host-port.ts";
import { spiffeId } from "../core/identity/spiffe.ts";
import { SchedulerWatch } from "../daemon/remote/scheduler-watch.ts";
import {
  Isolation,
  RegisterRequestSchema,
  type Registration,
  SchedulerService,
  WatchRequestSchema,
  WatchResponseSchema,
} from "../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcClient } from "../wire/grpc/client.ts";
import { inspectTls, type OwnCredentials } from "../wire/grpc/tls-files.ts";
import { toRegistration, type WorkerChoice, type WorkerOffer } from "../wire/scheduler/mapping.ts";
import { startRegistration } from "../worker/registration.ts";
import { type RunningScheduler, type SchedulerSettings, startScheduler } from "./scheduler.ts";

const IMAGE: Digest = sha256(Buffer.from("image"));
const SETTINGS: SchedulerSettings = {
  listen: { host: "127.0.0.1", port: 0 },
  heartbeatIntervalMs: 200,
  expiryMs: 1000,
  workersMax: 100,
  watchersMax: 100,
  watchersPerUserMax: 10,
};

function fails(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}

describe("scheduler", () => {
  let authority: TestAuthority;
  const clock = new ManualClock();
  const cleanUp: (() => unknown)[] = [];
  let scheduler: RunningScheduler;
  let worker: OwnCredentials;
  let user: OwnCredentials;

  const credentials = async (path: string): Promise<OwnCredentials> =>
    inspectTls(await authority.issue(path), Date.now(), { certificate: "c", key: "k", ca: "a" });
  const start = async (settings: Partial<SchedulerSettings> = {}): Promise<RunningScheduler> => {
    const own = await credentials("scheduler/s1");
    const made = await startScheduler({ ...SETTINGS, ...settings }, { credentials: own, logger: SILENT_LOGGER, clock });
    cleanUp.push(() => made.close());
    return made;
  };
  const dial = (own: OwnCredentials, address: HostPort = scheduler.address): RpcClient => {
    const client = new RpcClient({ address, tls: own.tls, accept: ({ kind }) => kind === "scheduler" });
    cleanUp.push(() => client.close());
    return client;
  };
  const offerOf = (own: OwnCredentials): WorkerOffer => {
    const { identity, caDigest } = own;
    assert.ok(identity.kind === "worker");
    const address = { host: "127.0.0.1", port: 4242 };
    return { address, identity, caDigest, images: [IMAGE], isolation: "qemu-kvm", slots: 4, version: "0.1.0" };
  };
  const watch = (schedulers: readonly HostPort[], own: OwnCredentials = user): SchedulerWatch => {
    const made = new SchedulerWatch({
      schedulers,
      credentials: () => own,
      query: { image: IMAGE, isolationMin: "qemu-kvm" },
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
      random: () => 0,
    });
    cleanUp.push(() => made.close());
    return made;
  };
  const register = (schedulers: readonly HostPort[], own: OwnCredentials) => {
    const made = startRegistration({
      schedulers,
      credentials: () => own,
      offer: () => offerOf(own),
      load: () => ({ freeSlots: 4, queued: 0 }),
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
      random: () => 0,
    });
    cleanUp.push(() => made.close());
    return made;
  };
  /** Waits for an answer of which the predicate holds. The scheduler's clock moves only here. */
  const until = async (watched: SchedulerWatch, holds: (workers: readonly WorkerChoice[]) => boolean) => {
    const { promise, resolve } = Promise.withResolvers<readonly WorkerChoice[]>();
    const check = (workers: readonly WorkerChoice[] | null) => {
      if (workers && holds(workers)) resolve(workers);
    };
    const stop = watched.onChange(check);
    check(watched.workers);
    const move = setInterval(() => clock.advance(10), 1);
    try {
      return await promise;
    } finally {
      clearInterval(move);
      stop();
    }
  };

  before(async () => {
    authority = await TestAuthority.create();
    worker = await credentials("worker/w1");
    user = await credentials("tenant/acme/user/ann");
    scheduler = await start();
  });
  after(async () => {
    for (const each of cleanUp.toReversed()) await each();
  });

  test("a client finds a worker, with address and TLS trust, and learns when it leaves", async () => {
    const watched = watch([scheduler.address]);
    assert.deepEqual(await watched.firstAnswer(), []);
    const registration = register([scheduler.address], worker);
    const [found] = await until(watched, (workers) => workers.length === 1);
    assert.deepEqual(found, {
      address: { host: "127.0.0.1", port: 4242 },
      identity: worker.identity,
      caDigest: worker.caDigest,
      isolation: "qemu-kvm",
    });
    registration.drain();
    await until(watched, (workers) => workers.length === 0);
    // Its disk was full, and is not any more.
    registration.drain(false);
    await until(watched, (workers) => workers.length === 1);
    await registration.close();
    await until(watched, (workers) => workers.length === 0);
    await watched.close();
  });

  test("only workers register, only users watch", async () => {
    const registered = async (own: OwnCredentials, claim: Registration) => {
      const stream = dial(own).bidi(SchedulerService.method.register);
      stream.send(create(RegisterRequestSchema, { message: { case: "registration", value: claim } }));
      for await (const _ of stream.incoming) return;
    };
    const fair = toRegistration(offerOf(worker));
    await assert.rejects(registered(user, fair), fails("identity.forbidden"));
    await assert.rejects(registered(await credentials("worker/w2"), fair), fails("identity.forbidden"));
    const request = create(WatchRequestSchema, { imageDigest: IMAGE, isolationMin: Isolation.QEMU_KVM });
    const asWorker = dial(worker).serverStream(SchedulerService.method.watch, request);
    await assert.rejects(asWorker.next(), fails("identity.forbidden"));
    const scheduling = await credentials("scheduler/s2");
    const asScheduler = dial(scheduling).serverStream(SchedulerService.method.watch, request);
    await assert.rejects(asScheduler.next(), fails("peer.unavailable"));
    await assert.rejects(
      startScheduler(SETTINGS, { credentials: worker, logger: SILENT_LOGGER, clock }),
      fails("identity.forbidden"),
    );
  });

  test("malformed registrations and questions are refused", async () => {
    const own = await credentials("worker/hostile");
    const good = offerOf(own);
    const rows: [string, (registration: Registration) => void][] = [
      ["argument.invalid", (r) => (r.address = "unix:/run/x")],
      ["peer.protocol", (r) => (r.address = "host:0")],
      ["peer.protocol", (r) => (r.imageDigests = ["sha256:short"])],
      [
        "limit.exceeded",
        (r) => (r.imageDigests = Array.from({ length: 1001 }, (_, n) => sha256(Buffer.from(String(n))))),
      ],
      ["peer.protocol", (r) => (r.isolation = Isolation.UNSPECIFIED)],
      ["peer.protocol", (r) => Object.assign(r, { isolation: 99 })],
      ["peer.protocol", (r) => (r.slots = 0)],
      ["peer.protocol", (r) => (r.slots = 5000)],
      ["peer.protocol", (r) => (r.version = "1.0\n")],
      ["identity.invalid", (r) => delete r.tlsTrust],
      ["identity.forbidden", (r) => (r.tlsTrust!.spiffeId = spiffeId(testIdentity("worker/w1")))],
      ["peer.protocol", (r) => (r.tlsTrust!.spiffeId = spiffeId(testIdentity("tenant/a/user/b")))],
      ["peer.protocol", (r) => (r.tlsTrust!.caDigest = "")],
    ];
    for (const [code, spoil] of rows) {
      const registration = toRegistration(good);
      spoil(registration);
      const stream = dial(own).bidi(SchedulerService.method.register);
      stream.send(create(RegisterRequestSchema, { message: { case: "registration", value: registration } }));
      await assert.rejects(stream.incoming[Symbol.asyncIterator]().next(), fails(code), String(spoil));
    }
    const early = dial(own).bidi(SchedulerService.method.register);
    early.send(create(RegisterRequestSchema, { message: { case: "heartbeat", value: {} } }));
    await assert.rejects(early.incoming[Symbol.asyncIterator]().next(), fails("peer.protocol"));
    for (const question of [{ imageDigest: IMAGE }, { imageDigest: "x", isolationMin: Isolation.NAMESPACE }]) {
      const stream = dial(user).serverStream(SchedulerService.method.watch, create(WatchRequestSchema, question));
      await assert.rejects(stream.next(), fails("peer.protocol"));
    }
    assert.equal(scheduler.counts().workers, 0);
  });

  test("a worker that floods with heartbeats loses its stream", async () => {
    const own = await credentials("worker/flood");
    const stream = dial(own).bidi(SchedulerService.method.register);
    stream.send(
      create(RegisterRequestSchema, { message: { case: "registration", value: toRegistration(offerOf(own)) } }),
    );
    const beat = create(RegisterRequestSchema, { message: { case: "heartbeat", value: { freeSlots: 1 } } });
    for (let count = 0; count < 60; count += 1) stream.send(beat);
    const read = async () => {
      for await (const _ of stream.incoming) continue;
    };
    await assert.rejects(read(), fails("limit.exceeded"));
  });

  test("one user's calls are limited in rate", async () => {
    const own = await credentials("tenant/acme/user/hasty");
    const client = dial(own);
    const request = create(WatchRequestSchema, { imageDigest: IMAGE, isolationMin: Isolation.QEMU_KVM });
    let refused = 0;
    for (let call = 0; call < 110; call += 1) {
      const stream = client.serverStream(SchedulerService.method.watch, request);
      await stream.next().catch((error: unknown) => {
        fails("limit.exceeded")(error);
        refused += 1;
      });
      await stream.return();
    }
    assert.equal(refused, 10);
  });

  test("a worker that falls silent is forgotten by the scheduler's clock", async () => {
    const own = await credentials("worker/silent");
    const stream = dial(own).bidi(SchedulerService.method.register);
    stream.send(
      create(RegisterRequestSchema, { message: { case: "registration", value: toRegistration(offerOf(own)) } }),
    );
    const incoming = stream.incoming[Symbol.asyncIterator]();
    assert.equal((await incoming.next()).value?.expiryMs, 1000);
    assert.equal(scheduler.counts().workers, 1);
    clock.advance(1300);
    assert.equal((await incoming.next()).done, true);
    assert.equal(scheduler.counts().workers, 0);
  });

  test("clients fall over to the next scheduler, keep their answer when all are down, and come back", async () => {
    const first = await start();
    const second = await start();
    const own = await credentials("worker/w3");
    const registration = register([first.address, second.address], own);
    const watched = watch([first.address, second.address]);
    await until(watched, (workers) => workers.length === 1);
    await first.close();
    while (second.counts().watchers === 0) await new Promise((resolve) => setImmediate(resolve));
    await until(watched, (workers) => workers.length === 1);
    await second.close();
    const { promise: tried, resolve } = Promise.withResolvers<void>();
    const listener: Server = createServer((socket) => {
      socket.destroy();
      resolve();
    });
    listener.listen(second.address.port, "127.0.0.1");
    await tried;
    assert.equal(watched.workers?.length, 1, "the last answer stays in use");
    listener.close();
    await once(listener, "close");
    await registration.close();
    const again = await start({ listen: second.address });
    assert.equal(formatHostPort(again.address), formatHostPort(second.address));
    // A restarted scheduler knows nothing until workers have registered again.
    await until(watched, (workers) => workers.length === 0);
    const back = register([again.address], own);
    await until(watched, (workers) => workers.length === 1);
    await back.close();
    await watched.close();
  });

  test("a client without any scheduler that answers knows so", async () => {
    const closed = await start();
    await closed.close();
    const watched = watch([closed.address, closed.address]);
    assert.equal(await watched.firstAnswer(), null);
    await watched.close();
  });

  test("a scheduler that is none, or of another domain, is not believed", async () => {
    const { RpcServer } = await import("../wire/grpc/server.ts");
    const impostor = new RpcServer({ tls: worker.tls, logger: SILENT_LOGGER });
    let asked = 0;
    impostor.add(SchedulerService, {
      register: async () => {},
      async *watchPeers() {},
      async *watch() {
        asked += 1;
        yield create(WatchResponseSchema, { revision: 1n });
      },
    });
    const address = await impostor.listen({ host: "127.0.0.1", port: 0 });
    const watched = watch([address]);
    assert.equal(await watched.firstAnswer(), null);
    assert.equal(asked, 0);
    await watched.close();
    await impostor.close(0);
  });
});
