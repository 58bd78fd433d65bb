// Who is followed when peers come and go.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { parseTrustDomain } from "../../core/identity/spiffe.ts";
import { newCounters } from "./counters.ts";
import type { Peer, PeerDirectory } from "./directory.ts";
import { ReadPlaces } from "./read-places.ts";
import { RevocationExchange } from "./revocation-exchange.ts";

const PEER = { id: "spiffe://test.example/worker/w2", name: "w2" } as Peer;

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
  const exchange = new RevocationExchange({
    feed: { since: async function* () {}, apply: async () => assert.fail("nothing is told") },
    knows: async () => true,
    directory,
    places: await ReadPlaces.open(tmpdir(), SILENT_LOGGER),
    trustDomain: parseTrustDomain("test.example"),
    counters: newCounters(),
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    random: () => 0,
  });
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
