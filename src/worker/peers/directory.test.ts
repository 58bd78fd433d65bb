import assert from "node:assert/strict";
import { test } from "node:test";
import { TestAuthority, testIdentity } from "../../../test/support/certificates.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { parseTenantId, spiffeId } from "../../core/identity/spiffe.ts";
import { PeerService } from "../../gen/hpcc/peer/v1/peer_pb.js";
import { RpcServer } from "../../wire/grpc/server.ts";
import { fetchFrom } from "../../wire/peer/fetch.ts";
import type { PeerOffer } from "../../wire/scheduler/mapping.ts";
import { PeerDirectory } from "./directory.ts";

const IMAGE = sha256(Buffer.from("image"));
const OTHER = sha256(Buffer.from("other"));

function offer(name: string, changes: Partial<PeerOffer> = {}): PeerOffer {
  const identity = testIdentity(`worker/${name}`);
  assert.ok(identity.kind === "worker");
  const address = { host: "127.0.0.1", port: 9 };
  return { address, identity, caDigest: IMAGE, isolation: "qemu-kvm", slots: 1, images: [IMAGE], ...changes };
}

function directoryOf(name: string, tls = () => assert.fail("nobody is dialled")): PeerDirectory {
  return new PeerDirectory({ self: spiffeId(testIdentity(`worker/${name}`)), tls });
}

function key(at: number): Digest {
  return sha256(Buffer.from(`${at}`));
}

test("each worker names the others that stand for a key among those with the image, and never itself", () => {
  const names = ["w1", "w2", "w3", "w4"];
  const offers = [...names.map((name) => offer(name)), offer("w5", { images: [OTHER] })];
  const directories = names.map((name) => {
    const directory = directoryOf(name);
    directory.update(offers);
    return { name, directory };
  });
  for (let at = 0; at < 50; at += 1) {
    const homes = new Set(
      directories.flatMap(({ directory }) => directory.homes(key(at), IMAGE).map(({ name }) => name)),
    );
    assert.equal(homes.size, 2, "all name the same two");
    assert.ok(!homes.has("w5"));
    for (const { name, directory } of directories) {
      const own = directory.homes(key(at), IMAGE).map((peer) => peer.name);
      assert.deepEqual(new Set(own), new Set([...homes].filter((home) => home !== name)));
    }
  }
});

test("an update tells who is new, also at another address", () => {
  const directory = directoryOf("w1");
  const joined = (offers: readonly PeerOffer[]) => directory.update(offers).map(({ name }) => name);
  assert.deepEqual(joined([offer("w1"), offer("w2")]), ["w2"]);
  assert.deepEqual(joined([offer("w2"), offer("w3")]), ["w3"]);
  assert.deepEqual(joined([offer("w2", { address: { host: "127.0.0.1", port: 10 } })]), ["w2"]);
  assert.equal(directory.get(spiffeId(testIdentity("worker/w3"))), null);
});

test("a peer must show the certificate of the name that it was told by", async (context) => {
  const authority = await TestAuthority.create();
  const server = new RpcServer({ tls: await authority.issue("worker/w3"), logger: SILENT_LOGGER });
  let asked = 0;
  server.add(PeerService, {
    async *fetch() {
      asked += 1;
      yield assert.fail("nobody asks it");
    },
    announce: async () => assert.fail("nothing is announced"),
    async *watchRevocations() {},
  });
  const address = await server.listen({ host: "127.0.0.1", port: 0 });
  const tls = await authority.issue("worker/w1");
  const directory = new PeerDirectory({ self: spiffeId(testIdentity("worker/w1")), tls: () => tls });
  context.after(async () => {
    directory.hangUp();
    await server.close(0);
  });
  const [told] = directory.update([offer("w2", { address })]);
  const question = { tenant: parseTenantId("acme"), key: key(1) };
  const ask = fetchFrom(directory.client(told!), question, new AbortController().signal);
  await assert.rejects(ask, (error) => error instanceof HpccError && error.code === "peer.unavailable");
  assert.equal(asked, 0);
});
