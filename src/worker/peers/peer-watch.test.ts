import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TestAuthority } from "../../../test/support/certificates.ts";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { spiffeId } from "../../core/identity/spiffe.ts";
import {
  Isolation,
  PeerSchema,
  SchedulerService,
  WatchPeersRequestSchema,
  type WatchPeersResponse,
  WatchPeersResponseSchema,
} from "../../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { startScheduler } from "../../scheduler/scheduler.ts";
import { RpcClient } from "../../wire/grpc/client.ts";
import { inspectTls, type OwnCredentials } from "../../wire/grpc/tls-files.ts";
import { type PeerOffer, parseWatchPeersResponse } from "../../wire/scheduler/mapping.ts";
import { startRegistration } from "../registration.ts";
import { watchPeers } from "./peer-watch.ts";

const IMAGE: Digest = sha256(Buffer.from("image"));
const OTHER: Digest = sha256(Buffer.from("other"));

describe("a worker's watch of its peers", () => {
  const ends: (() => unknown)[] = [];
  after(async () => {
    for (const end of ends.toReversed()) await end();
  });
  const authority = TestAuthority.create();
  const credentials = async (path: string): Promise<OwnCredentials> =>
    inspectTls(await (await authority).issue(path), Date.now(), { certificate: "c", key: "k", ca: "a" });

  async function scheduler(clock: ManualClock) {
    const made = await startScheduler(
      {
        listen: { host: "127.0.0.1", port: 0 },
        heartbeatIntervalMs: 200,
        expiryMs: 1000,
        workersMax: 10,
        watchersMax: 10,
        watchersPerUserMax: 10,
      },
      { credentials: await credentials("scheduler/s1"), logger: SILENT_LOGGER, clock },
    );
    ends.push(() => made.close());
    return made;
  }

  function register(own: OwnCredentials, schedulers: readonly { host: string; port: number }[], port: number) {
    const { identity, caDigest } = own;
    assert.ok(identity.kind === "worker");
    const address = { host: "127.0.0.1", port };
    const made = startRegistration({
      schedulers,
      credentials: () => own,
      offer: () => ({
        address,
        identity,
        caDigest,
        images: [IMAGE],
        isolation: "qemu-kvm",
        slots: 3,
        version: "0.1.0",
      }),
      load: () => ({ freeSlots: 1, queued: 0 }),
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
      random: () => 0,
    });
    ends.push(() => made.close());
    return made;
  }

  test("finds them through any of several schedulers, with all that is needed to dial and to place keys", async () => {
    const clock = new ManualClock();
    const [first, second] = await Promise.all([scheduler(clock), scheduler(clock)]);
    const [w1, w2, w3] = await Promise.all(["w1", "w2", "w3"].map((name) => credentials(`worker/${name}`)));
    register(w1!, [first.address, second.address], 1001);
    register(w2!, [first.address], 1002);
    const leaving = register(w3!, [second.address], 1003);
    const seen: { peers: readonly PeerOffer[]; check: () => void } = { peers: [], check: () => {} };
    const until = async (names: string) => {
      const move = setInterval(() => clock.advance(10), 1);
      await new Promise<void>((resolve) => {
        seen.check = () => {
          const now = seen.peers.map(({ identity }) => (identity.kind === "worker" ? identity.name : ""));
          if (now.toSorted((a, b) => a.localeCompare(b)).join() === names) resolve();
        };
        seen.check();
      });
      clearInterval(move);
    };
    const watch = watchPeers({
      schedulers: [first.address, second.address],
      credentials: () => w1!,
      images: () => [OTHER, IMAGE],
      changed: (peers) => {
        seen.peers = peers;
        seen.check();
      },
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
      random: () => 0,
    });
    ends.push(() => watch.close());
    await until("w2,w3");
    assert.deepEqual(
      seen.peers.find(({ identity }) => spiffeId(identity) === spiffeId(w2!.identity)),
      {
        address: { host: "127.0.0.1", port: 1002 },
        identity: w2!.identity,
        caDigest: w2!.caDigest,
        isolation: "qemu-kvm",
        slots: 3,
        images: [IMAGE],
      },
    );
    await leaving.close();
    await until("w2");
  });

  test("is for workers alone", async () => {
    const { address } = await scheduler(new ManualClock());
    const request = create(WatchPeersRequestSchema, { imageDigests: [IMAGE] });
    const ask = async (path: string, message = request) => {
      const { tls } = await credentials(path);
      const client = new RpcClient({ address, tls, accept: () => true });
      ends.push(() => client.close());
      return client.serverStream(SchedulerService.method.watchPeers, message).next();
    };
    const fails = (code: string) => (error: unknown) => error instanceof HpccError && error.code === code;
    await assert.rejects(ask("tenant/acme/user/ann"), fails("identity.forbidden"));
    const twice = create(WatchPeersRequestSchema, { imageDigests: [IMAGE, IMAGE] });
    await assert.rejects(ask("worker/w1", twice), fails("peer.protocol"));
    assert.equal((await ask("worker/w1")).done, false);
  });

  test("believes no answer that does not fit the question", async () => {
    const own = await credentials("worker/w1");
    const good = () =>
      create(PeerSchema, {
        address: "127.0.0.1:9",
        tlsTrust: { spiffeId: "spiffe://test.example/worker/w2", caDigest: IMAGE },
        isolation: Isolation.QEMU_KVM,
        slots: 1,
        sharedImages: [0],
      });
    const answer = (spoil: (peer: ReturnType<typeof good>) => void): WatchPeersResponse => {
      const peer = good();
      spoil(peer);
      return create(WatchPeersResponseSchema, { revision: 1n, peers: [peer] });
    };
    assert.equal(
      parseWatchPeersResponse(
        answer(() => {}),
        [IMAGE],
        own.identity,
      ).length,
      1,
    );
    const spoilers: ((peer: ReturnType<typeof good>) => void)[] = [
      (peer) => (peer.tlsTrust!.spiffeId = "spiffe://test.example/worker/w1"),
      (peer) => (peer.tlsTrust!.spiffeId = "spiffe://other.example/worker/w2"),
      (peer) => (peer.tlsTrust!.spiffeId = "spiffe://test.example/tenant/acme/user/ann"),
      (peer) => (peer.address = "unix:/run/x"),
      (peer) => (peer.sharedImages = []),
      (peer) => (peer.sharedImages = [1]),
      (peer) => (peer.sharedImages = [0, 0]),
      (peer) => (peer.slots = 0),
    ];
    for (const spoil of spoilers)
      assert.throws(() => parseWatchPeersResponse(answer(spoil), [IMAGE], own.identity), HpccError, String(spoil));
    const twice = create(WatchPeersResponseSchema, { revision: 1n, peers: [good(), good()] });
    assert.throws(() => parseWatchPeersResponse(twice, [IMAGE], own.identity), HpccError);
  });
});
