// Who is followed when peers come and go.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { testIdentity } from "../../../test/support/certificates.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { parseTrustDomain } from "../../core/identity/spiffe.ts";
import { WatchRevocationsRequestSchema } from "../../gen/hpcc/peer/v1/peer_pb.js";
import type { CallContext } from "../../wire/grpc/server.ts";
import type { RevocationFeed } from "../revocations.ts";
import { newCounters } from "./counters.ts";
import type { Peer, PeerDirectory } from "./directory.ts";
import { ReadPlaces } from "./read-places.ts";
import { RevocationExchange } from "./revocation-exchange.ts";

const PEER = { id: "spiffe://test.example/worker/w2", name: "w2" } as Peer;

async function exchangeOf(directory: PeerDirectory, since: RevocationFeed["since"]): Promise<RevocationExchange> {
  return new RevocationExchange({
    feed: { since, apply: async () => assert.fail("nothing is told") },
    knows: async () => true,
    directory,
    places: await ReadPlaces.open(tmpdir(), SILENT_LOGGER),
    trustDomain: parseTrustDomain("test.example"),
    counters: newCounters(),
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    random: () => 0,
  });
}

test("a peer that comes back hears of one that was told after a later one", async () => {
  const late = { sequence: 999_990, tenant: null, revocation: { kind: "vm", value: "vm-1", atMs: 1 } } as const;
  const exchange = await exchangeOf({ peers: [] } as unknown as PeerDirectory, async function* (sequence) {
    if (late.sequence > sequence) yield late;
  });
  const context = { peer: testIdentity("worker/w2"), signal: new AbortController().signal } as CallContext;
  const request = create(WatchRevocationsRequestSchema, { after: 1_000_000n });
  const told: string[] = [];
  for await (const { revocations } of exchange.watch(request, context))
    told.push(...revocations.map(({ value }) => value));
  assert.deepEqual(told, ["vm-1"]);
});

test("a peer that was away for a moment is followed again", async () => {
  let peers: readonly Peer[] = [PEER];
  let opened = Promise.withResolvers<void>();
  let open = 0;
  async function* serverStream(_method: unknown, _request: unknown, { signal }: { signal: AbortSignal }) {
    open += 1;
    opened.resolve();
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    open -= 1;
    yield* [];
  }
  const directory = {
    get peers() {
      return peers;
    },
    get: (id: string) => peers.find((peer) => peer.id === id) ?? null,
    client: () => ({ serverStream }),
  } as unknown as PeerDirectory;
  const exchange = await exchangeOf(directory, async function* () {});
  exchange.follow();
  await opened.promise;
  opened = Promise.withResolvers();
  peers = [];
  exchange.follow();
  peers = [PEER];
  exchange.follow();
  exchange.follow();
  await opened.promise;
  assert.equal(open, 1, "once");
  await exchange.close();
  assert.equal(open, 0);
});
