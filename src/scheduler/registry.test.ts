import assert from "node:assert/strict";
import { test } from "node:test";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { parseSpiffeId } from "../core/identity/spiffe.ts";
import { parseRepositoryPattern } from "../core/image/repository-pattern.ts";
import type { WorkerOffer } from "../wire/scheduler/mapping.ts";
import { PEERS_PUSH_INTERVAL_MS, PUSH_INTERVAL_MS } from "./limits.ts";
import { PeerHub, type PeersAnswer } from "./peer-hub.ts";
import { WorkerRegistry } from "./registry.ts";
import { type WatchAnswer, WatchHub } from "./watch-hub.ts";

const IMAGE: Digest = sha256(Buffer.from("image"));
const OTHER: Digest = sha256(Buffer.from("other"));
const EXPIRY_MS = 7000;
const query = { image: IMAGE, isolationMin: "namespace" } as const;

function offer(name: string, changes: Partial<WorkerOffer> = {}): WorkerOffer {
  const identity = parseSpiffeId(`spiffe://test.example/worker/${name}`);
  assert.ok(identity.kind === "worker");
  return {
    address: { host: "127.0.0.1", port: 9 },
    identity,
    caDigest: IMAGE,
    images: [IMAGE],
    isolation: "qemu-kvm",
    slots: 2,
    version: "0.1.0",
    ...changes,
  };
}

function fixture(limits: { workersMax?: number; watchersMax?: number; watchersPerClientMax?: number } = {}) {
  const clock = new ManualClock();
  const registry: WorkerRegistry = new WorkerRegistry({
    clock,
    logger: SILENT_LOGGER,
    expiryMs: EXPIRY_MS,
    workersMax: limits.workersMax ?? 10,
    changed: (images) => hub.changed(images),
    membership: (id, of) => peers.changed(id, of),
  });
  const hub: WatchHub = new WatchHub({
    clock,
    watchersMax: limits.watchersMax ?? 10,
    watchersPerClientMax: limits.watchersPerClientMax ?? 10,
    find: (wanted, client) => registry.find(wanted, client),
  });
  const peers: PeerHub = new PeerHub({ clock, watchersMax: limits.watchersMax ?? 10 });
  const names = (image: Digest = IMAGE) =>
    registry.find({ ...query, image }, "ann").map(({ id }) => id.split("/").at(-1));
  return { clock, registry, hub, peers, names };
}

const IDLE = { freeSlots: 2, queued: 0, draining: false };

test("a worker lives as long as it beats, and is forgotten after the expiry time", () => {
  const { clock, registry, names } = fixture();
  let expired = 0;
  const handle = registry.register(offer("w1"), () => (expired += 1));
  for (let beat = 0; beat < 20; beat += 1) {
    clock.advance(EXPIRY_MS - 1);
    assert.equal(handle.heartbeat(IDLE), true);
  }
  assert.deepEqual(names(), ["w1"]);
  clock.advance(EXPIRY_MS * 1.25);
  assert.deepEqual([names(), expired, registry.size], [[], 1, 0]);
  assert.equal(handle.heartbeat(IDLE), false, "a late heartbeat brings nobody back");
  assert.equal(clock.pendingTimers, 0);
});

test("a restarted worker replaces its old self, whose end does not remove the new one", () => {
  const { registry, names } = fixture();
  let replaced = 0;
  const old = registry.register(offer("w1"), () => (replaced += 1));
  const present = registry.register(offer("w1", { images: [OTHER] }), () => {});
  assert.equal(replaced, 1);
  old.remove();
  assert.equal(old.heartbeat(IDLE), false);
  assert.deepEqual([names(), names(OTHER)], [[], ["w1"]]);
  present.remove();
  assert.deepEqual(names(OTHER), []);
});

test("a draining worker is offered to nobody", () => {
  const { registry, names } = fixture();
  const handle = registry.register(offer("w1"), () => {});
  handle.heartbeat({ ...IDLE, draining: true });
  assert.deepEqual(names(), []);
  handle.heartbeat(IDLE);
  assert.deepEqual(names(), ["w1"]);
});

test("a worker cannot claim more free slots than it has", () => {
  const { registry } = fixture();
  registry.register(offer("w1"), () => {}).heartbeat({ ...IDLE, freeSlots: 4_000_000 });
  assert.equal(registry.find(query, "ann")[0]?.freeSlots, 2);
});

test("the number of workers is limited", () => {
  const { registry } = fixture({ workersMax: 1 });
  registry.register(offer("w1"), () => {});
  assert.throws(
    () => registry.register(offer("w2"), () => {}),
    (error) => error instanceof HpccError && error.code === "limit.exceeded",
  );
  registry.register(offer("w1"), () => {});
});

interface Reader {
  readonly answers: AsyncGenerator<WatchAnswer, void, undefined>;
  readonly leave: AbortController;
  next(): Promise<(string | undefined)[]>;
}

function reader(hub: WatchHub, client = "ann", image: Digest = IMAGE): Reader {
  const leave = new AbortController();
  const answers = hub.watch({ ...query, image }, client, leave.signal);
  return {
    answers,
    leave,
    async next() {
      const { value } = await answers.next();
      return (value as WatchAnswer).workers.map(({ id }) => id.split("/").at(-1));
    },
  };
}

test("a client has an answer at once, and another when it changes", async () => {
  const { clock, registry, hub } = fixture();
  const ann = reader(hub);
  assert.deepEqual(await ann.next(), []);
  const handle = registry.register(offer("w1"), () => {});
  clock.advance(0);
  assert.deepEqual(await ann.next(), ["w1"]);
  handle.remove();
  const gone = ann.next();
  clock.advance(PUSH_INTERVAL_MS);
  assert.deepEqual(await gone, []);
  ann.leave.abort();
  assert.equal((await ann.answers.next()).done, true);
  assert.equal(hub.size, 0);
});

test("heartbeats and workers of other images push nothing; many changes make one push", async () => {
  const { clock, registry, hub } = fixture();
  const ann = reader(hub);
  await ann.next();
  const handle = registry.register(offer("w1"), () => {});
  clock.advance(0);
  await ann.next();
  registry.register(offer("other", { images: [OTHER] }), () => {});
  for (let beat = 0; beat < 50; beat += 1) handle.heartbeat({ ...IDLE, freeSlots: beat % 3 });
  assert.equal(clock.pendingTimers, 1, "nothing but the sweep is due");
  registry.register(offer("w2"), () => {});
  registry.register(offer("w3"), () => {});
  registry.register(offer("w4"), () => {}).remove();
  clock.advance(PUSH_INTERVAL_MS);
  const { value } = await ann.answers.next();
  assert.equal((value as WatchAnswer).revision, 3n);
  assert.equal((value as WatchAnswer).workers.length, 3);
});

test("a client that does not read has only the latest answer waiting", async () => {
  const { clock, registry, hub } = fixture();
  const ann = reader(hub);
  await ann.next();
  for (let number = 0; number < 5; number += 1) {
    registry.register(offer(`w${number}`), () => {});
    clock.advance(PUSH_INTERVAL_MS);
  }
  assert.equal((await ann.next()).length, 5);
});

test("clients are limited, all and each; one that left makes room", async () => {
  const { hub } = fixture({ watchersMax: 3, watchersPerClientMax: 2 });
  const full = async (client: string) =>
    assert.rejects(
      reader(hub, client).next(),
      (error) => error instanceof HpccError && error.code === "limit.exceeded",
    );
  const first = reader(hub, "ann");
  await first.next();
  await reader(hub, "ann").next();
  await full("ann");
  await reader(hub, "bob").next();
  await full("eve");
  await first.answers.return();
  await reader(hub, "eve").next();
});

async function next(answers: AsyncGenerator<PeersAnswer>): Promise<string[]> {
  const { value, done } = await answers.next();
  if (done === true) return [];
  return value.peers.map(
    ({ tlsTrust, sharedImages }) => `${tlsTrust?.spiffeId.split("/").at(-1)} ${sharedImages.join()}`,
  );
}

test("a worker is told of those that share an image with it, of changed offers and of the end of others, and never of itself", async () => {
  const { clock, registry, peers } = fixture();
  registry.register(offer("w1"), () => {});
  registry.register(offer("stranger", { images: [OTHER] }), () => {});
  const stop = new AbortController();
  const answers = peers.watch([OTHER, IMAGE], "spiffe://test.example/worker/w1", stop.signal);
  assert.deepEqual(await next(answers), ["stranger 0"]);
  const second = registry.register(offer("w2", { images: [IMAGE, OTHER] }), () => {});
  clock.advance(PEERS_PUSH_INTERVAL_MS);
  assert.deepEqual((await next(answers)).sort(), ["stranger 0", "w2 0,1"]);
  registry.register(offer("stranger", { images: [sha256(Buffer.from("third"))] }), () => {});
  clock.advance(PEERS_PUSH_INTERVAL_MS);
  assert.deepEqual(await next(answers), ["w2 0,1"]);
  second.remove();
  clock.advance(PEERS_PUSH_INTERVAL_MS);
  assert.deepEqual(await next(answers), []);
  stop.abort();
  assert.equal((await answers.next()).done, true);
});

test("load is no news for peers, silence is", async () => {
  const { clock, registry, peers } = fixture();
  const handle = registry.register(offer("w2"), () => {});
  const answers = peers.watch([IMAGE], "spiffe://test.example/worker/w1", new AbortController().signal);
  assert.deepEqual(await next(answers), ["w2 0"]);
  handle.heartbeat({ freeSlots: 0, queued: 9, draining: true });
  clock.advance(PEERS_PUSH_INTERVAL_MS);
  const answer = next(answers);
  clock.advance(2 * EXPIRY_MS);
  assert.deepEqual(await answer, []);
});

test("when there are too many peers, all are told of the same ones; and watches are bounded", async () => {
  const { registry, peers } = fixture({ workersMax: 1000, watchersMax: 3 });
  for (let at = 0; at < 600; at += 1) registry.register(offer(`w${at}`), () => {});
  const ask = (worker: string) =>
    peers.watch([IMAGE], `spiffe://test.example/worker/${worker}`, new AbortController().signal);
  const [first, second] = await Promise.all([ask("x1"), ask("x2")].map(next));
  assert.equal(first!.length, 500);
  assert.deepEqual(first, second);
  const known = first![0]!.split(" ")[0]!;
  const own = await next(ask(known));
  assert.equal(own.length, 500, "one more takes its own place");
  assert.deepEqual(own.slice(0, 499), first!.slice(1));
  await assert.rejects(ask("x3").next(), (error) => error instanceof HpccError && error.code === "limit.exceeded");
});

test("one worker has two watches at most", async () => {
  const { peers } = fixture();
  const ask = () => peers.watch([IMAGE], "spiffe://test.example/worker/w1", new AbortController().signal);
  const first = ask();
  await first.next();
  const second = ask();
  await second.next();
  await assert.rejects(ask().next(), (error) => error instanceof HpccError && error.code === "limit.exceeded");
  await first.return();
  await ask().next();
});

test("workers that would fetch an image come after those that have it and are free, and before busy ones", () => {
  const { registry } = fixture();
  const from = { repositories: [parseRepositoryPattern("registry.example.com/team/*")], images: [] };
  const find = (repository?: string) =>
    registry
      .find({ ...query, ...(repository !== undefined && { repository }) }, "ann")
      .map(({ id }) => id.split("/").at(-1));
  registry.register(offer("fetches", from), () => undefined);
  assert.deepEqual([find(), find("registry.example.com/team/gcc")], [[], ["fetches"]]);
  assert.deepEqual(find("registry.example.com/other/gcc"), []);
  const holder = registry.register(offer("has"), () => undefined);
  assert.deepEqual([find(), find("registry.example.com/team/gcc")], [["has"], ["has", "fetches"]]);
  holder.heartbeat({ freeSlots: 0, queued: 2, draining: false });
  assert.deepEqual(find("registry.example.com/team/gcc"), ["fetches", "has"]);
});

test("who watches an image hears of a worker that would fetch it", async () => {
  const { clock, registry, hub } = fixture();
  const over = new AbortController();
  const watch = hub.watch({ ...query, repository: "registry.example.com/team/gcc" }, "ann", over.signal);
  assert.deepEqual((await watch.next()).value?.workers, []);
  const repositories = [parseRepositoryPattern("registry.example.com/team/gcc")];
  const handle = registry.register(offer("w1", { images: [], repositories }), () => undefined);
  clock.advance(PUSH_INTERVAL_MS);
  assert.equal((await watch.next()).value?.workers.length, 1);
  handle.remove();
  clock.advance(PUSH_INTERVAL_MS);
  assert.deepEqual((await watch.next()).value?.workers, []);
  over.abort();
  await watch.next();
  assert.equal(hub.size, 0);
  hub.close();
});
