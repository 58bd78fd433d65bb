// Clients that break one rule with one message: nothing of theirs becomes another's result or input, nothing of another's theirs, and
// they get no weaker isolation, life or policy than is theirs. Compiles copy the source, so an object shows what it was made of.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { DescMessage } from "@bufbuild/protobuf";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { parseTenantId } from "../../src/core/identity/spiffe.ts";
import { fixedPolicies, type TenantSettings } from "../../src/core/tenant-policy.ts";
import type { RemoteJob } from "../../src/daemon/remote/remote-job.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import {
  FetchRequestSchema,
  InspectRequestSchema,
  SessionRequestSchema,
} from "../../src/gen/hpcc/worker/v1/worker_pb.js";
import type { BlobStore, ByteSource, StoredFrame } from "../../src/store/blob-store.ts";
import { DiskStore } from "../../src/store/disk/disk-store.ts";
import { BlobReceiver, type IncomingChunk } from "../../src/wire/worker/blob-receiver.ts";
import { ThreadInspector } from "../../src/worker/inspect/thread-inspector.ts";
import type { Interceptor } from "../../src/worker/layers/layer.ts";
import { Possessions } from "../../src/worker/possessions.ts";
import { originalMethod } from "../support/original-method.ts";
import { TestWorker } from "../support/test-worker.ts";
import { forgettingDeterminism, keepingAgain, oneBucket } from "./weak-layers.ts";
import { HELLO, jobMessage, type Said, WireClient } from "./wire-client.ts";

const NEVER = { signal: new AbortController().signal };
const ANN = "tenant/acme/user/ann";
const MALLORY = "tenant/acme/user/mallory";
const STRANGER = "tenant/other/user/eve";
const HONEST = "int honest;\n";
const TROJAN = "int trojan;\n";

const copying = (at: TestWorker, content: string, name = "a.c"): Promise<RemoteJob> => {
  const path = `/hpcc/project/${name}`;
  return at.job({ files: [{ path, content }], argv: ["/bin/cp", path, "/hpcc/out/object.o"] });
};

async function objectOf(client: WorkerClient, job: RemoteJob): Promise<string> {
  return readFile((await client.compile(job, NEVER)).outputs[0]!.file, "utf8");
}

/** A stream of mallory's, or of whoever else, after the hellos. */
async function greeted(t: TestContext, at: TestWorker, path = MALLORY): Promise<WireClient> {
  const wire = await WireClient.connect(at, path);
  t.after(async () => wire.close());
  wire.say(HELLO);
  await wire.hear("hello");
  return wire;
}

test("a client has no message that carries a result, a key, a life, a policy or another's name", () => {
  const says = (message: DescMessage): string[] =>
    message.fields.flatMap((field) => [field.name, ...(field.message ? says(field.message) : [])]);
  const all = [SessionRequestSchema, InspectRequestSchema, FetchRequestSchema].flatMap(says);
  assert.deepEqual(all, CLIENT_FIELDS);
});

/** All that a client can say; each of these is checked where it is read. */
const CLIENT_FIELDS = `
  hello protocol_version client_version
  job job_id action image_digest argv environment cwd outputs path required kind terminal columns determinism
  source_manifest deadline_ms isolation_min again build_id image_repository image_wait_ms image_contents
  chunk job_id blob_index data last credit job_id bytes cancel job_id
  hash row_digest digest
`
  .trim()
  .split(/\s+/);

const chunk = (jobId: bigint, data: Uint8Array, change: object = {}): Said => ({
  case: "chunk",
  value: { jobId, blobIndex: 0, data, last: true, ...change },
});
const trojan = zstdCompressSync(TROJAN);
const honest = zstdCompressSync(HONEST);

interface Lie {
  /** What mallory sends for the blob of a source that bob will name, too. */
  readonly says: (jobId: bigint) => Said[];
  /** A second file of her job. */
  readonly second?: string;
  /** What comes to bob where the worker believes it: a trojan, or a source that nothing can be made of. */
  readonly brings: "trojan" | "nothing";
}

const UPLOADS: Readonly<Record<string, Lie>> = {
  "other bytes of the same size": { says: (id) => [chunk(id, trojan)], brings: "trojan" },
  "the true bytes and others after them": {
    says: (id) => [chunk(id, Buffer.concat([honest, trojan]))],
    brings: "nothing",
  },
  "other bytes and the true ones after them": {
    says: (id) => [chunk(id, Buffer.concat([trojan, honest]))],
    brings: "trojan",
  },
  "a frame cut short": { says: (id) => [chunk(id, honest.subarray(0, -1))], brings: "nothing" },
  "no frame": { says: (id) => [chunk(id, Buffer.from(TROJAN))], brings: "nothing" },
  "the blob of another file in its turn": {
    says: (id) => [chunk(id, trojan, { blobIndex: 1 }), chunk(id, honest)],
    second: "int second;\n",
    brings: "trojan",
  },
  "the blob twice": { says: (id) => [chunk(id, trojan), chunk(id, honest)], brings: "trojan" },
  "half of it, and then nothing more": {
    says: (id) => [chunk(id, honest.subarray(0, 5), { last: false }), { case: "cancel", value: { jobId: id } }],
    brings: "nothing",
  },
};

/** Mallory lies about a blob; gives what bob's equal source is compiled to, and how many rows mallory's job left. */
async function afterUpload(t: TestContext, { says, second }: Lie, interceptors: readonly Interceptor[] = []) {
  const at = await TestWorker.start(t, {}, { interceptors: { admitted: interceptors } });
  const mallory = await greeted(t, at);
  const files = [{ path: "/hpcc/project/a.c", content: HONEST }];
  if (second !== undefined) files.push({ path: "/hpcc/project/b.c", content: second });
  const job = await at.job({ files, argv: ["/bin/cp", files[0]!.path, "/hpcc/out/object.o"] });
  mallory.say(jobMessage(job, 1n));
  await mallory.hear("need");
  for (const message of says(1n)) mallory.say(message);
  await mallory.hear("result", "error").catch(() => null);
  const bob = await at.client("tenant/acme/user/bob");
  const object = await objectOf(bob, await copying(at, HONEST)).catch(() => null);
  const rows = await at.jobRows();
  return { object, rows: rows.filter(({ envelope }) => envelope.principal?.endsWith("/mallory")).length };
}

describe("a client that lies about a blob which another user's source names, too", () => {
  for (const [what, lie] of Object.entries(UPLOADS)) {
    test(what, async (t) => {
      assert.deepEqual(await afterUpload(t, lie), { object: HONEST, rows: 1 });
    });

    test(`control: ${what}, where the worker hashes nothing and asks nobody else, comes to bob`, async (t) => {
      t.mock.method(Possessions.prototype, "has", () => true);
      takingAllChunks(t);
      const { object } = await afterUpload(t, lie, [believing()]);
      assert.equal(object, lie.brings === "trojan" ? TROJAN : null);
    });
  }
});

/** Chunks are taken for the blob that is due, whichever they name, and what came of a blob is all of it. */
function takingAllChunks(t: TestContext): void {
  const push = originalMethod(BlobReceiver.prototype, "push");
  const due = new WeakMap<BlobReceiver, number>();
  t.mock.method(BlobReceiver.prototype, "push", function (this: BlobReceiver, given: IncomingChunk) {
    const blobIndex = due.get(this) ?? 0;
    if (given.last) due.set(this, blobIndex + 1);
    push(this, { ...given, blobIndex });
  });
  const next = originalMethod(BlobReceiver.prototype, "next");
  t.mock.method(BlobReceiver.prototype, "next", async function* (this: BlobReceiver) {
    const parts = next(this);
    try {
      yield* parts;
    } catch {
      // The client has fallen silent, or has left.
    }
  });
}

/** A store that believes what a client says of its blobs. */
function believing(): Interceptor {
  const believed = new Map<Digest, StoredFrame>();
  const blobsOf = (blobs: BlobStore): BlobStore => ({
    frameSize: async (digest, retention) => believed.get(digest)?.frameSize ?? blobs.frameSize(digest, retention),
    get: async (digest) => {
      const frame = believed.get(digest);
      return frame === undefined ? blobs.get(digest) : { kind: "hit", frame };
    },
    putBytes: async (...given) => blobs.putBytes(...given),
    putFrame: async ({ digest, size }, source: ByteSource) => {
      const frame = source instanceof Uint8Array ? source : await allOf(source);
      const chunks = async function* () {
        yield frame;
      };
      believed.set(digest, { size, frameSize: frame.length, chunks, close: async () => undefined });
    },
  });
  return (next) => ({
    run: async (job) => next.run({ ...job, store: { ...job.store, blobs: blobsOf(job.store.blobs) } }),
  });
}

async function allOf(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

describe("a client that guesses what another user has had compiled", () => {
  /** How a job ends that somebody else has had compiled. */
  async function guessed(t: TestContext, path: string, interceptors: readonly Interceptor[] = []) {
    const policies = fixedPolicies(new Map([["acme", { sharing: "private" }]]));
    const at = await TestWorker.start(t, {}, { policies, interceptors: { admitted: interceptors } });
    await objectOf(await at.client(), await copying(at, HONEST));
    const guesser = await at.client(path);
    return (await guesser.compile(await copying(at, HONEST), NEVER)).outcome;
  }

  test("gets no result of theirs", async (t) => {
    assert.equal(await guessed(t, MALLORY), "compiled");
    assert.equal(await guessed(t, STRANGER), "compiled");
  });

  test("control: with one store and one key for all, they get it", async (t) => {
    assert.equal(await guessed(t, MALLORY, [oneBucket()]), "hit");
    assert.equal(await guessed(t, STRANGER, [oneBucket()]), "hit");
  });

  const SECRET = "int secret;\n";
  const BLOB = sha256(Buffer.from(SECRET));

  /** Ann has had a secret compiled. Gives all digests that its row names, and her other row. */
  async function secretOfAnn(t: TestContext) {
    const at = await TestWorker.start(t);
    const ann = await at.client();
    const job = await copying(at, SECRET);
    const { rowDigest, resultDigest } = await ann.compile(job, NEVER);
    const key = (await at.jobRows())[0]!.envelope.actionKey!;
    const hashes = [rowDigest, resultDigest, key, sha256(job.manifest), BLOB, rowDigest.slice(7, 15)];
    const own = (await ann.compile(await copying(at, "int own;\n"), NEVER)).rowDigest;
    return { at, hashes, rowDigest, own };
  }

  test("learns nothing by any digest that a row of another tenant's names, and fetches no blob of another user's", async (t) => {
    const { at, hashes, rowDigest, own } = await secretOfAnn(t);
    const mallory = await greeted(t, at);
    const stranger = await greeted(t, at, STRANGER);
    for (const hash of hashes) await assert.rejects(stranger.inspect(hash), { code: "hash.unknown" });
    assert.equal((await (await greeted(t, at, ANN)).fetch(rowDigest, BLOB)).length, 1);
    for (const [wire, row] of [
      [mallory, rowDigest],
      [stranger, rowDigest],
      [await greeted(t, at, ANN), own],
    ] as const)
      await assert.rejects(wire.fetch(row, BLOB), { code: "hash.unknown" });
  });

  test("control: by an index that finds for all tenants, a stranger is told of ann's row by each digest", async (t) => {
    const { at, hashes, rowDigest } = await secretOfAnn(t);
    const stranger = await greeted(t, at, STRANGER);
    indexing(t, async (find, hash) => find(hash, null));
    const { rows } = await stranger.inspect(rowDigest);
    assert.equal(sha256(Buffer.from(rows[0]!)), rowDigest);
    for (const hash of hashes) assert.ok((await stranger.inspect(hash)).rows.includes(rows[0]!), hash);
  });

  test("control: by rows that are everybody's, in one store for all, a user and a stranger fetch ann's blob", async (t) => {
    const tenant = originalMethod(DiskStore.prototype, "tenant");
    t.mock.method(DiskStore.prototype, "tenant", function (this: DiskStore) {
      return tenant(this, parseTenantId("acme"));
    });
    const { at, rowDigest } = await secretOfAnn(t);
    for (const path of [MALLORY, STRANGER]) {
      const asking = indexing(t, async (find, hash) => {
        const { envelopes, ...found } = await find(hash, null);
        return { ...found, envelopes: envelopes.map((line) => line.replace(ANN, path)) };
      });
      const parts = await (await greeted(t, at, path)).fetch(rowDigest, BLOB);
      assert.equal(String(zstdDecompressSync(Buffer.concat(parts.map(({ data }) => data)))), SECRET, path);
      asking.restore();
    }
  });

  test("control: by an index that takes one row for another, a blob is fetched that the row does not name", async (t) => {
    const { at, rowDigest, own } = await secretOfAnn(t);
    indexing(t, async (find, hash, tenant) => find(hash === own ? rowDigest : hash, tenant));
    assert.equal((await (await greeted(t, at, ANN)).fetch(own, BLOB)).length, 1);
  });
});

type Find = ThreadInspector["find"];

/** An index of the log that answers as it is told. */
function indexing(t: TestContext, answer: (find: Find, ...asked: Parameters<Find>) => ReturnType<Find>) {
  const find = originalMethod(ThreadInspector.prototype, "find");
  const answering = function (this: ThreadInspector, ...asked: Parameters<Find>) {
    return answer(async (...given) => find(this, ...given), ...asked);
  };
  return t.mock.method(ThreadInspector.prototype, "find", answering).mock;
}

describe("a client that asks for less than its policy demands", () => {
  /** What becomes of a job whose message is changed so, and its last row. */
  async function asked(t: TestContext, settings: TenantSettings, change: object) {
    const at = await TestWorker.start(t, {}, { policies: fixedPolicies(new Map([["acme", settings]])) });
    const wire = await greeted(t, at);
    const message = jobMessage(await copying(at, HONEST), 1n);
    wire.say({ ...message, value: { ...message.value, ...change } });
    const first = await wire.hear("need", "error");
    if (first.case === "need") wire.say(chunk(1n, honest));
    const last = first.case === "need" ? await wire.hear("result", "error") : first;
    const { kind } = (await at.jobRows()).at(-1)!.envelope;
    return last.case === "error" ? `${kind}: ${last.value.code}` : `${kind}: life ${last.value.life}`;
  }
  const WARM = "compile: life 1";
  const CLEAN = "compile: life 2";

  test("is denied a weak isolation, one that does not exist, and an image that is not allowed, each with a row", async (t) => {
    assert.equal(await asked(t, { isolationMin: "qemu-kvm" }, { isolationMin: 1 }), "denied: isolation.weak");
    for (const isolationMin of [0, 99, 2 ** 31])
      assert.equal(await asked(t, {}, { isolationMin }), "denied: argument.invalid");
    assert.match(await asked(t, { images: new Set() }, {}), /^denied: /);
  });

  test("control: where the policy is silent, it gets them", async (t) => {
    assert.equal(await asked(t, { life: "session" }, { isolationMin: 1 }), WARM);
  });

  test("gets a clean VM where the policy says so, whatever it says", async (t) => {
    const settings = { life: "clean" } as const;
    for (const change of [{}, { again: false }, { again: true }, { isolationMin: 1 }])
      assert.equal(await asked(t, settings, change), CLEAN);
  });

  test("gets nothing of what it had compiled under a laxer determinism", async (t) => {
    const outcomes = async (interceptors: readonly Interceptor[]) => {
      const at = await TestWorker.start(t, {}, { interceptors: { admitted: interceptors } });
      const mallory = await at.client(MALLORY);
      const job = await copying(at, HONEST);
      await mallory.compile(job, NEVER);
      const strict = { ...(await copying(at, HONEST)), action: { ...job.action, determinism: "strict" as const } };
      return (await mallory.compile(strict, NEVER)).outcome;
    };
    assert.equal(await outcomes([]), "compiled");
    assert.equal(await outcomes([forgettingDeterminism]), "hit", "control: with a key that leaves it out");
  });

  /** How a job ends that mallory has had compiled again before. */
  async function afterAgain(t: TestContext, interceptors: readonly Interceptor[] = []) {
    const at = await TestWorker.start(t, {}, { interceptors: { admitted: interceptors } });
    const wire = await greeted(t, at);
    const message = jobMessage(await copying(at, HONEST), 1n);
    wire.say({ ...message, value: { ...message.value, again: true } });
    await wire.hear("need");
    wire.say(chunk(1n, honest));
    await wire.hear("result");
    return (await (await at.client(MALLORY)).compile(await copying(at, HONEST), NEVER)).outcome;
  }

  test("plants nothing with a job that is compiled again", async (t) => {
    assert.equal(await afterAgain(t), "compiled");
  });

  test("control: where such a job is kept as any other is, it is found", async (t) => {
    assert.equal(await afterAgain(t, [keepingAgain]), "hit");
  });
});

describe("another user's source, of which mallory knows the digest,", () => {
  const stolen = async (at: TestWorker): Promise<string> => {
    await objectOf(await at.client(), await copying(at, HONEST));
    const job = await copying(at, HONEST, "copy.c");
    const openBlob = () => {
      throw new Error("mallory has no such file");
    };
    return objectOf(await at.client(MALLORY), { ...job, openBlob });
  };

  test("is asked of her, and does not come out of a job that only names it", async (t) => {
    await assert.rejects(stolen(await TestWorker.start(t)));
  });

  test("control: without the proof of possession she reads it", async (t) => {
    t.mock.method(Possessions.prototype, "has", () => true);
    assert.equal(await stolen(await TestWorker.start(t)), HONEST);
  });
});
