// A worker that has every message at hand and breaks one rule each: what it says is never served.
import assert from "node:assert/strict";
import { createPrivateKey, sign, X509Certificate } from "node:crypto";
import { describe, type TestContext, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { user } from "../../../test/support/layer-jobs.ts";
import { type Member, PeerSite, siteJob } from "../../../test/support/peer-site.ts";
import { HpccError } from "../../base/errors.ts";
import { type Logger, SILENT_LOGGER } from "../../base/log.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import { decodeResultManifest, encodeResultManifest, type ResultManifest } from "../../core/action/result-manifest.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import {
  AnnounceRequestSchema,
  FetchRequestSchema,
  FetchResponseSchema,
  PeerService,
} from "../../gen/hpcc/peer/v1/peer_pb.js";
import type { CachedAction } from "../../store/action-cache.ts";
import { RpcClient } from "../../wire/grpc/client.ts";
import type { CallContext } from "../../wire/grpc/server.ts";
import type { OwnCredentials } from "../../wire/grpc/tls-files.ts";

type Response = NonNullable<MessageInitShape<typeof FetchResponseSchema>["message"]>;
type Answering = (context: CallContext) => AsyncIterable<Response> | Iterable<Response>;

/** An honest worker, a hostile one that answers its questions as it likes, and a third. */
class Stage {
  readonly job = siteJob(1);
  readonly events: string[] = [];
  answering: Answering = () => [];
  asked = 0;
  honest!: Member;
  hostile!: Member;
  third!: OwnCredentials;
  site!: PeerSite;
  /** A result that the hostile worker really has, and its blobs. */
  action!: CachedAction;

  static async open(context: TestContext, limits: { answerMs?: number; fetchMs?: number } = {}): Promise<Stage> {
    const stage = new Stage();
    stage.site = await PeerSite.open(context);
    const logger: Logger = { ...SILENT_LOGGER, error: (event) => void stage.events.push(event) };
    stage.honest = await stage.site.add("w1", { ...limits, logger });
    stage.hostile = await stage.site.add("w2", {
      hostile: {
        fetch: (_, call) => {
          stage.asked += 1;
          return responses(stage.answering(call));
        },
      },
    });
    stage.third = await stage.site.credentials("worker/w3");
    stage.action = await stage.hostile.make(stage.job, "a trojan");
    return stage;
  }

  get manifest(): ResultManifest {
    return decodeResultManifest(this.action.result);
  }

  found(statement = this.hostile.sign(this.job, this.action), resultManifest = this.action.result): Response {
    return { case: "found", value: { statement, resultManifest } };
  }

  /** A manifest that is changed, with a statement that fits it. */
  foundWith(change: Partial<ResultManifest>): Response {
    const result = encodeResultManifest({ ...this.manifest, ...change });
    return this.found(this.hostile.sign(this.job, { ...this.action, result }), result);
  }

  /** What the honest worker makes of it: its own compile, nothing of the trojan kept. */
  async isNotServed(): Promise<void> {
    const { job, honest } = this;
    assert.equal(await honest.outcome(job), "compiled");
    assert.equal(this.asked, 1, "it was asked");
    const { actions } = honest.store();
    const kept = await actions.get(job.keys.shared!.key);
    assert.ok(kept.kind === "hit" && kept.action.worker === "w1");
    assert.equal(honest.peers.counters.hits, 0);
  }

  async isALie(): Promise<void> {
    await this.isNotServed();
    assert.equal(this.honest.peers.counters.lies, 1);
    assert.deepEqual(this.events, ["worker.peers.lied"]);
    assert.equal(await this.honest.outcome(siteJob(2)), "compiled");
    assert.equal(this.asked, 1, "a liar is not asked again");
  }
}

async function* responses(messages: AsyncIterable<Response> | Iterable<Response>) {
  for await (const message of messages) yield create(FetchResponseSchema, { message });
}

function chunk(data: Uint8Array, last = true): Response {
  return { case: "chunk", value: { data, last } };
}

const TROJAN = chunk(zstdCompressSync("a trojan"));
const WARNING = chunk(zstdCompressSync("a warning"));

/** A statement that says one thing and is signed by somebody else's key. */
function signedBy(encoded: Uint8Array, { tls }: OwnCredentials): Uint8Array {
  const signature = sign("sha256", encoded, { key: createPrivateKey(tls.key), dsaEncoding: "ieee-p1363" });
  const certificate = new X509Certificate(tls.certificate).raw;
  return new FieldWriter().bytes(1, encoded).bytes(2, signature).bytes(3, certificate).finish();
}

function encodedOf(signed: Uint8Array): Uint8Array {
  return new FieldReader(signed, "it").bytes(1);
}

test("the answer that all lies below are made of is true, and is served", async (context) => {
  const stage = await Stage.open(context);
  stage.answering = () => [stage.found(), TROJAN, WARNING];
  assert.equal(await stage.honest.outcome(stage.job), "hit from w2");
});

describe("a lie in the statement:", () => {
  const lies: Record<string, (stage: Stage) => Uint8Array> = {
    "another key": (stage) => stage.hostile.sign(stage.job, stage.action, { key: sha256(Buffer.from("other")) }),
    "another tenant": (stage) =>
      stage.hostile.sign(stage.job, stage.action, {
        tenant: parseTenantId("other"),
        principal: "spiffe://test.example/tenant/other/user/ann",
      }),
    "another tier": (stage) => stage.hostile.sign(stage.job, stage.action, { tier: "release" }),
    "another image": (stage) => stage.hostile.sign(stage.job, stage.action, { image: sha256(Buffer.from("other")) }),
    "another result": (stage) => stage.hostile.sign(stage.job, stage.action, { result: sha256(Buffer.from("other")) }),
    "a warm VM": (stage) => stage.hostile.sign(stage.job, stage.action, { life: "session" }),
    "from the future": (stage) => stage.hostile.sign(stage.job, stage.action, { madeMs: Date.now() + 3_600_000 }),
    "from before its certificate": (stage) =>
      stage.hostile.sign(stage.job, stage.action, { madeMs: Date.now() - 3_600_000 }),
    "in the name of another worker": (stage) => {
      const encoded = encodedOf(stage.hostile.sign(stage.job, stage.action));
      const text = Buffer.from(encoded).toString("latin1").replace("/worker/w2", "/worker/w3");
      return signedBy(Buffer.from(text, "latin1"), stage.hostile.credentials);
    },
    "its own, signed by another worker": (stage) =>
      signedBy(encodedOf(stage.hostile.sign(stage.job, stage.action)), stage.third),
    rubbish: () => Buffer.from("rubbish"),
    nothing: () => new Uint8Array(),
  };
  for (const [name, make] of Object.entries(lies))
    test(name, async (context) => {
      const stage = await Stage.open(context);
      stage.answering = () => [stage.found(make(stage)), TROJAN, WARNING];
      await stage.isALie();
    });

  test("signed by a user's key", async (context) => {
    const stage = await Stage.open(context);
    const ann = await stage.site.credentials("tenant/acme/user/ann");
    stage.answering = () => [stage.found(signedBy(encodedOf(stage.hostile.sign(stage.job, stage.action)), ann))];
    await stage.isALie();
  });
});

describe("a lie in the result:", () => {
  const lies: Record<string, (stage: Stage) => Iterable<Response>> = {
    "a failure": (stage) => [stage.foundWith({ exitCode: 1 }), TROJAN, WARNING],
    "no object": (stage) => [stage.foundWith({ outputs: [] }), WARNING],
    "an output that was not asked for": (stage) => [
      stage.foundWith({ outputs: [...stage.manifest.outputs, { ...stage.manifest.outputs[0]!, index: 1 }] }),
      TROJAN,
      WARNING,
    ],
    "an output of another kind": (stage) => [
      stage.foundWith({ outputs: [{ ...stage.manifest.outputs[0]!, kind: "dwo" }] }),
      TROJAN,
      WARNING,
    ],
    "a manifest that cannot be read": (stage) => [stage.found(undefined, Buffer.from("rubbish")), TROJAN, WARNING],
    "another blob": (stage) => [stage.found(), chunk(zstdCompressSync("another")), WARNING],
    "the blobs in another order": (stage) => [stage.found(), WARNING, TROJAN],
    "a blob cut short": (stage) => [stage.found(), chunk(zstdCompressSync("a trojan").subarray(0, -1)), WARNING],
    "a blob of several chunks that does not end": (stage) => [
      stage.found(),
      chunk(zstdCompressSync("a trojan"), false),
      chunk(Buffer.from([1])),
    ],
    "a blob that inflates without end": (stage) => [stage.found(), chunk(zstdCompressSync(Buffer.alloc(1_000_000)))],
    "a chunk too large": (stage) => [stage.found(), chunk(Buffer.alloc(131_073))],
    "an empty chunk": (stage) => [stage.found(), chunk(new Uint8Array())],
    "a second answer": (stage) => [stage.found(), stage.found()],
  };
  for (const [name, answer] of Object.entries(lies))
    test(name, async (context) => {
      const stage = await Stage.open(context);
      stage.answering = () => answer(stage);
      await (name.startsWith("a chunk") || name.startsWith("an empty") || name.startsWith("a second")
        ? stage.isNotServed()
        : stage.isALie());
    });
});

describe("a peer that is slow or broken is a miss, and is left alone:", () => {
  const never: Answering = async function* ({ signal }) {
    await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    yield { case: "notFound", value: {} };
  };
  const faults: Record<string, [Answering, "slow" | "broken"]> = {
    "no answer": [never, "slow"],
    nothing: [() => [], "broken"],
    "a chunk for an answer": [() => [TROJAN], "broken"],
    "too many holders": [
      () => [{ case: "notFound", value: { holders: Array.from({ length: 5 }, () => "x") } }],
      "broken",
    ],
    "an error": [
      () => {
        throw new HpccError("store.io", "its disk is full");
      },
      "broken",
    ],
  };
  for (const [name, [answering, fault]] of Object.entries(faults))
    test(name, async (context) => {
      const stage = await Stage.open(context, { answerMs: 300 });
      stage.answering = answering;
      await stage.isNotServed();
      assert.equal(stage.honest.peers.counters[fault], 1);
      assert.equal(await stage.honest.outcome(siteJob(2)), "compiled");
      assert.equal(stage.asked, 1);
    });

  test("a result that stops on its way", async (context) => {
    const stage = await Stage.open(context, { fetchMs: 300 });
    stage.answering = async function* (call) {
      yield stage.found();
      yield TROJAN;
      yield* never(call);
    };
    await stage.isNotServed();
    assert.equal(stage.honest.peers.counters.slow, 1);
  });

  test("one that is busy is not blamed", async (context) => {
    const stage = await Stage.open(context);
    stage.answering = () => {
      throw new HpccError("limit.exceeded", "busy");
    };
    await stage.isNotServed();
    await stage.honest.outcome(siteJob(2));
    assert.equal(stage.asked, 2);
  });

  test("holders that are none", async (context) => {
    const stage = await Stage.open(context);
    const holders = [
      "",
      "spiffe://test.example/worker/w1",
      "spiffe://test.example/worker/none",
      "spiffe://test.example/worker/w2",
    ];
    stage.answering = () => [{ case: "notFound", value: { holders } }];
    await stage.isNotServed();
  });
});

describe("what a worker answers", () => {
  async function dial(stage: Stage, path: string): Promise<RpcClient> {
    const { tls } = await stage.site.credentials(path);
    const client = new RpcClient({ address: stage.honest.offer.address, tls, accept: () => true });
    return client;
  }
  const fails = (code: string) => (error: unknown) => error instanceof HpccError && error.code === code;

  test("it answers workers alone", async (context) => {
    const stage = await Stage.open(context);
    const client = await dial(stage, "tenant/acme/user/ann");
    context.after(async () => client.close());
    const request = create(FetchRequestSchema, { tenant: "acme", key: stage.job.keys.shared!.key });
    await assert.rejects(client.serverStream(PeerService.method.fetch, request).next(), fails("identity.forbidden"));
    const announce = create(AnnounceRequestSchema, { statements: [] });
    await assert.rejects(client.unary(PeerService.method.announce, announce), fails("identity.forbidden"));
    const watch = client.serverStream(PeerService.method.watchRevocations, {
      $typeName: "hpcc.peer.v1.WatchRevocationsRequest",
      after: 0n,
    });
    await assert.rejects(watch.next(), fails("identity.forbidden"));
  });

  test("it gives no entry without a statement for that tenant and key, and makes no folder for a tenant", async (context) => {
    const stage = await Stage.open(context);
    const client = await dial(stage, "worker/w3");
    context.after(async () => client.close());
    const ask = async (tenant: string, key: string) => {
      const request = create(FetchRequestSchema, { tenant, key });
      const { value } = await client.serverStream(PeerService.method.fetch, request).next();
      return value?.message.case;
    };
    const { honest, job } = stage;
    const own = { ...(await honest.make(job)), statement: null };
    await honest.store().actions.put(job.keys.own.key, own);
    assert.equal(await ask("acme", job.keys.own.key), "notFound", "a principal's");
    const shared = await honest.share(siteJob(5));
    assert.equal(await ask("acme", siteJob(5).keys.shared!.key), "found");
    assert.ok(shared.statement === null);
    // The same entry elsewhere: its statement is about another key.
    const stated = await honest.store().actions.get(siteJob(5).keys.shared!.key);
    assert.ok(stated.kind === "hit");
    await honest.store().actions.put(siteJob(6).keys.shared!.key, stated.action);
    assert.equal(await ask("acme", siteJob(6).keys.shared!.key), "notFound");
    await honest.store(parseTenantId("other")).actions.put(siteJob(5).keys.shared!.key, stated.action);
    assert.equal(await ask("other", siteJob(5).keys.shared!.key), "notFound");
    assert.equal(await ask("nobody", siteJob(5).keys.shared!.key), "notFound");
    assert.equal(await honest.disk.has(parseTenantId("nobody")), false);
    await assert.rejects(ask("../acme", siteJob(5).keys.shared!.key), fails("identity.invalid"));
    await assert.rejects(ask("acme", "sha256:x"), fails("argument.invalid"));
  });

  test("it notes no announcement that nobody has signed, and none stores anything", async (context) => {
    const stage = await Stage.open(context);
    const client = await dial(stage, "worker/w2");
    context.after(async () => client.close());
    const announce = async (statements: Uint8Array[]) =>
      (await client.unary(PeerService.method.announce, create(AnnounceRequestSchema, { statements }))).noted;
    const good = stage.hostile.sign(stage.job, stage.action);
    const bad = Buffer.from(good);
    bad[100]! ^= 1;
    assert.equal(await announce([good, bad, Buffer.from("rubbish")]), 1);
    await assert.rejects(announce(Array.from({ length: 65 }, () => good)), fails("limit.exceeded"));
    const { actions } = stage.honest.store(user("ann").tenant);
    assert.equal((await actions.get(stage.job.keys.shared!.key)).kind, "miss");
  });
});
