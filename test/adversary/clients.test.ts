// Clients that break one rule with one message: nothing of theirs becomes another's result or input, nothing of another's theirs, and
// they get no weaker isolation, life or policy than is theirs. Compiles copy the source, so an object shows what it was made of.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import type { DescMessage } from "@bufbuild/protobuf";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { fixedPolicies, type TenantSettings } from "../../src/core/tenant-policy.ts";
import type { RemoteJob } from "../../src/daemon/remote/remote-job.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import {
  FetchRequestSchema,
  InspectRequestSchema,
  SessionRequestSchema,
} from "../../src/gen/hpcc/worker/v1/worker_pb.js";
import type { BlobStore, ByteSource, StoredFrame } from "../../src/store/blob-store.ts";
import type { Interceptor } from "../../src/worker/layers/layer.ts";
import { Possessions } from "../../src/worker/possessions.ts";
import { TestWorker } from "../support/test-worker.ts";
import { forgettingDeterminism, oneBucket } from "./weak-layers.ts";
import { HELLO, jobMessage, type Said, WireClient } from "./wire-client.ts";

const NEVER = { signal: new AbortController().signal };
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

type Lie = (jobId: bigint) => Said[];
const chunk = (jobId: bigint, data: Uint8Array, change: object = {}): Said => ({
  case: "chunk",
  value: { jobId, blobIndex: 0, data, last: true, ...change },
});
const trojan = zstdCompressSync(TROJAN);
const honest = zstdCompressSync(HONEST);
/** What is sent for the blob of a source that bob will name, too. */
const UPLOADS: Readonly<Record<string, Lie>> = {
  "other bytes of the same size": (id) => [chunk(id, trojan)],
  "the true bytes and others after them": (id) => [chunk(id, Buffer.concat([honest, trojan]))],
  "other bytes and the true ones after them": (id) => [chunk(id, Buffer.concat([trojan, honest]))],
  "a frame cut short": (id) => [chunk(id, honest.subarray(0, -1))],
  "no frame": (id) => [chunk(id, Buffer.from(TROJAN))],
  "the true blob as another one": (id) => [chunk(id, honest, { blobIndex: 1 })],
  "the blob twice": (id) => [chunk(id, trojan), chunk(id, honest)],
  "half of it, and then nothing more": (id) => [
    chunk(id, honest.subarray(0, 5), { last: false }),
    { case: "cancel", value: { jobId: id } },
  ],
};

/** Mallory lies about a blob; gives what bob's equal source is compiled to, and how many rows mallory's job left. */
async function afterUpload(t: TestContext, lie: Lie, interceptors: readonly Interceptor[] = []) {
  const at = await TestWorker.start(t, {}, { interceptors: { admitted: interceptors } });
  const mallory = await greeted(t, at);
  mallory.say(jobMessage(await copying(at, HONEST), 1n));
  await mallory.hear("need");
  for (const message of lie(1n)) mallory.say(message);
  await mallory.hear("result", "error").catch(() => null);
  const object = await objectOf(await at.client("tenant/acme/user/bob"), await copying(at, HONEST));
  const rows = await at.jobRows();
  return { object, rows: rows.filter(({ envelope }) => envelope.principal?.endsWith("/mallory")).length };
}

describe("a client that lies about a blob which another user's source names, too", () => {
  for (const [what, lie] of Object.entries(UPLOADS))
    test(what, async (t) => {
      assert.deepEqual(await afterUpload(t, lie), { object: HONEST, rows: 1 });
    });

  test("control: in a store that does not hash what it is given, and with nobody else asked, bob's compile reads the trojan", async (t) => {
    t.mock.method(Possessions.prototype, "has", () => true);
    const lie = UPLOADS["other bytes of the same size"]!;
    assert.equal((await afterUpload(t, lie, [believing()])).object, TROJAN);
  });
});

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
      const parts: Uint8Array[] = [];
      for await (const part of source instanceof Uint8Array ? [source] : source) parts.push(part);
      const frame = Buffer.concat(parts);
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

  test("learns nothing by any digest that a row of another tenant's names, and fetches no blob of another user's", async (t) => {
    const at = await TestWorker.start(t);
    const ann = await at.client();
    const job = await copying(at, "int secret;\n");
    const { rowDigest, resultDigest } = await ann.compile(job, NEVER);
    const mallory = await greeted(t, at);
    const stranger = await greeted(t, at, STRANGER);
    const key = (await at.jobRows())[0]!.envelope.actionKey!;
    const blob = sha256(Buffer.from("int secret;\n"));
    for (const hash of [rowDigest, resultDigest, key, sha256(job.manifest), blob, rowDigest.slice(7, 15)])
      await assert.rejects(stranger.inspect(hash), { code: "hash.unknown" });
    const own = (await ann.compile(await copying(at, "int own;\n"), NEVER)).rowDigest;
    assert.equal((await (await greeted(t, at, "tenant/acme/user/ann")).fetch(rowDigest, blob)).length, 1);
    for (const [wire, row] of [
      [mallory, rowDigest],
      [stranger, rowDigest],
      [await greeted(t, at, "tenant/acme/user/ann"), own],
    ] as const)
      await assert.rejects(wire.fetch(row, blob), { code: "hash.unknown" });
  });
});

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

  test("plants nothing with a job that is compiled again", async (t) => {
    const at = await TestWorker.start(t);
    const wire = await greeted(t, at);
    const message = jobMessage(await copying(at, HONEST), 1n);
    wire.say({ ...message, value: { ...message.value, again: true } });
    await wire.hear("need");
    wire.say(chunk(1n, honest));
    await wire.hear("result");
    assert.equal((await (await at.client(MALLORY)).compile(await copying(at, HONEST), NEVER)).outcome, "compiled");
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
