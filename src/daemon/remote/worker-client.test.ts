// What a client takes from a worker that lies, hangs or breaks the protocol: an error, and no file.
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { TestAuthority } from "../../../test/support/certificates.ts";
import type { TestScope } from "../../../test/support/test-worker.ts";
import { ascii } from "../../base/byte-string.ts";
import { type Clock, ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { encodeResultManifest, resultDigest } from "../../core/action/result-manifest.ts";
import { encodeSourceManifest, type SourceEntry, sourceManifest } from "../../core/action/source-manifest.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { leafHash } from "../../core/merkle/hashes.ts";
import { TileTree } from "../../core/merkle/tile-tree.ts";
import { encodeProof, signCheckpoint, type TlogProof } from "../../core/note/checkpoint.ts";
import { noteSigner } from "../../core/note/signed-note.ts";
import {
  InspectResponseSchema,
  Life,
  Outcome,
  ResultBlobKind,
  type SessionRequest,
  SessionResponseSchema,
  WorkerService,
} from "../../gen/hpcc/worker/v1/worker_pb.js";
import { RpcServer } from "../../wire/grpc/server.ts";
import { HELLO_TIMEOUT_MS, JOB_SILENCE_MS_MAX, PROTOCOL_VERSION } from "../../wire/worker/limits.ts";
import type { RemoteJob } from "./remote-job.ts";
import { WorkerClient } from "./worker-client.ts";

const NEVER = { signal: new AbortController().signal };
const SOURCE = Buffer.from("int x;\n");
const OBJECT = Buffer.from("the object");
const FRAME = zstdCompressSync(OBJECT);
const EMPTY = sha256(new Uint8Array());
const ENTRY: SourceEntry = {
  kind: "file",
  path: ascii("/hpcc/project/a.c"),
  mode: 0o644,
  digest: sha256(SOURCE),
  size: SOURCE.length,
};
const MANIFEST = encodeSourceManifest(sourceManifest("text", [ENTRY]));
/** Image, source, flags, output, tenant, worker, VM, duration and exit. */
const COLUMNS = [EMPTY, sha256(MANIFEST), "[]", sha256(OBJECT), "acme", "w1", "vm-1", "5", "0"];
const ROW = COLUMNS.join("\t");

type Reply = NonNullable<MessageInitShape<typeof SessionResponseSchema>["message"]>;
interface ResultInit {
  jobId: bigint;
  outcome: Outcome;
  resultDigest: string;
  exitCode: number;
  blobs: {
    kind: ResultBlobKind;
    outputIndex?: number;
    digest: string;
    size?: bigint;
    frameSize?: bigint;
    executable?: boolean;
  }[];
  auditRow: string;
  rowDigest: string;
  isolation: number;
  compileUs: bigint;
  life: Life;
  receipt?: { envelope: string; proof: string };
}

const hello = {
  case: "hello",
  value: {
    protocolVersion: PROTOCOL_VERSION,
    workerVersion: "9",
    initialCreditBytes: 1000,
    jobsMax: 2,
    blobSizeMax: 1000n,
  },
} as const satisfies Reply;

function resultOf(jobId: bigint, change: Partial<ResultInit> = {}) {
  const object = { index: 0, kind: "object" as const, executable: false, digest: sha256(OBJECT), size: OBJECT.length };
  const empty = { digest: EMPTY, size: 0 };
  const manifest = { exitCode: change.exitCode ?? 0, outputs: [object], stdout: empty, stderr: empty };
  const blob = {
    kind: ResultBlobKind.OUTPUT,
    digest: object.digest,
    size: BigInt(object.size),
    frameSize: BigInt(FRAME.length),
  };
  const value: ResultInit = {
    jobId,
    outcome: Outcome.COMPILED,
    resultDigest: resultDigest(encodeResultManifest(manifest)),
    exitCode: 0,
    blobs: [blob, { kind: ResultBlobKind.STDOUT, digest: EMPTY }, { kind: ResultBlobKind.STDERR, digest: EMPTY }],
    auditRow: ROW,
    rowDigest: sha256(Buffer.from(ROW)),
    isolation: 2,
    compileUs: 5n,
    life: Life.CLEAN,
    ...change,
  };
  return { case: "result", value } as const;
}

function rowWith(column: number, value: string): Pick<ResultInit, "auditRow" | "rowDigest"> {
  const auditRow = COLUMNS.with(column, value).join("\t");
  return { auditRow, rowDigest: sha256(Buffer.from(auditRow)) };
}

const chunkOf = (jobId: bigint, data: Uint8Array = FRAME, last = true, blobIndex = 0): Reply => ({
  case: "chunk",
  value: { jobId, blobIndex, data, last },
});

/** A receipt of the row in a log where it is the second of three. */
function receiptOf(change: (parts: TlogProof) => TlogProof = (parts) => parts) {
  const envelope = '{"v":2}';
  const tree = new TileTree();
  for (const record of ["a\nb\n", `${ROW}\n${envelope}\n`, "c\nd\n"]) tree.append(leafHash(Buffer.from(record)));
  const checkpoint = signCheckpoint({ size: 3, root: tree.root() }, noteSigner("x/worker/w1", Buffer.alloc(32, 1)));
  return { receipt: { envelope, proof: encodeProof(change({ index: 1, path: tree.inclusion(1), checkpoint })) } };
}

/** A worker that says what it is told to, in answer to each message of its client. */
class ScriptedWorker {
  readonly heard: (string | undefined)[] = [];
  readonly #authority: TestAuthority;
  readonly folder: string;
  #port = 0;

  private constructor(authority: TestAuthority, folder: string) {
    this.#authority = authority;
    this.folder = folder;
  }

  static async start(
    scope: TestScope,
    answer: (message: SessionRequest["message"]) => readonly Reply[] | "end",
  ): Promise<ScriptedWorker> {
    const authority = await TestAuthority.create();
    const server = new RpcServer({ tls: await authority.issue("worker/w1"), logger: SILENT_LOGGER });
    const folder = await mkdtemp(join(tmpdir(), "hpcc-client-"));
    const worker = new ScriptedWorker(authority, folder);
    server.add(WorkerService, {
      async *fetch() {},
      async session(stream) {
        for await (const { message } of stream.incoming) {
          worker.heard.push(message.case);
          const replies = answer(message);
          if (replies === "end") return;
          for (const reply of replies) stream.send(create(SessionResponseSchema, { message: reply }));
        }
      },
      inspect: async () => create(InspectResponseSchema),
    });
    scope.after(async () => {
      await server.close(0);
      await rm(folder, { recursive: true });
    });
    worker.#port = (await server.listen({ host: "127.0.0.1", port: 0 })).port;
    return worker;
  }

  async client(clock: Clock = SYSTEM_CLOCK): Promise<WorkerClient> {
    return WorkerClient.connect({
      address: { host: "127.0.0.1", port: this.#port },
      tls: await this.#authority.issue("tenant/acme/user/ann"),
      accept: () => true,
      version: "0.1.0",
      clock,
    });
  }

  job(): RemoteJob {
    return {
      action: {
        imageDigest: EMPTY,
        argv: [ascii("/usr/bin/cc")],
        environment: [],
        cwd: ascii("/hpcc/project"),
        outputs: [{ path: ascii("/hpcc/out/o"), required: true, kind: "object" }],
        terminalColumns: null,
        determinism: "default",
      },
      manifest: MANIFEST,
      openBlob: () => zstdCompressSync(SOURCE),
      isolationMin: "qemu-tcg",
      deadlineMs: 1000,
      outputFolder: this.folder,
    };
  }
}

/** Greets, and answers each job with what `replies` says. */
function answering(replies: (jobId: bigint) => readonly Reply[] | "end") {
  return (message: SessionRequest["message"]) =>
    message.case === "hello" ? [hello] : message.case === "job" ? replies(message.value.jobId) : [];
}

test("an honest answer is taken", async (t) => {
  const worker = await ScriptedWorker.start(
    t,
    answering((id) => [resultOf(id), chunkOf(id)]),
  );
  const client = await worker.client();
  const result = await client.compile(worker.job(), NEVER);
  assert.deepEqual(await readFile(result.outputs[0]!.file), OBJECT);
  assert.deepEqual(
    [result.outcome, result.isolation, result.life, result.compileUs, result.auditRow],
    ["compiled", "qemu-tcg", "clean", 5, ROW],
  );
  client.close();
});

test("a receipt that proves its row is taken, and is kept with the name of the log that the worker's certificate says", async (t) => {
  const worker = await ScriptedWorker.start(
    t,
    answering((id) => [resultOf(id, receiptOf()), chunkOf(id)]),
  );
  const client = await worker.client();
  const { receipt } = await client.compile(worker.job(), NEVER);
  assert.deepEqual([receipt?.proof, receipt?.from], [receiptOf().receipt.proof, "test.example/worker/w1"]);
  client.close();
});

describe("a lie is refused", () => {
  const blobs = (change: object) => {
    const [object, ...rest] = resultOf(1n).value.blobs;
    return [{ ...object!, ...change }, ...rest];
  };
  const other = zstdCompressSync(Buffer.from("another on"));
  const silent = { digest: EMPTY, size: 0 };
  const nothing = resultDigest(encodeResultManifest({ exitCode: 0, outputs: [], stdout: silent, stderr: silent }));
  const lies: Record<string, (id: bigint) => readonly Reply[]> = {
    "other content": (id) => [resultOf(id), chunkOf(id, other)],
    "no frame": (id) => [resultOf(id), chunkOf(id, Buffer.from("rubbish"))],
    "a frame cut short": (id) => [resultOf(id), chunkOf(id, FRAME.subarray(0, -1))],
    "another blob": (id) => [resultOf(id), chunkOf(id, FRAME, true, 1)],
    "bytes without end": (id) => [
      resultOf(id),
      ...Array.from({ length: 40 }, () => chunkOf(id, Buffer.alloc(900), false)),
    ],
    "a chunk before the result": (id) => [chunkOf(id)],
    "two results": (id) => [resultOf(id), resultOf(id)],
    "no outcome": (id) => [resultOf(id, { outcome: Outcome.UNSPECIFIED })],
    "an exit code of 256": (id) => [resultOf(id, { exitCode: 256 })],
    "another exit code": (id) => [{ case: "result", value: { ...resultOf(id).value, exitCode: 1 } }],
    "no life": (id) => [resultOf(id, { life: Life.UNSPECIFIED })],
    "weaker isolation": (id) => [resultOf(id, { isolation: 1 })],
    "another row's digest": (id) => [resultOf(id, { auditRow: "another row" })],
    "no row": (id) => [resultOf(id, { auditRow: "", rowDigest: EMPTY })],
    "the row of another image": (id) => [resultOf(id, rowWith(0, sha256(OBJECT)))],
    "the row of another source": (id) => [resultOf(id, rowWith(1, sha256(OBJECT)))],
    "the row of another object": (id) => [resultOf(id, rowWith(3, sha256(SOURCE)))],
    "the row of no object": (id) => [resultOf(id, rowWith(3, "-"))],
    "the row of another exit": (id) => [resultOf(id, rowWith(8, "1"))],
    "a row of ten columns": (id) => [resultOf(id, rowWith(4, "acme\tacme"))],
    "a receipt that is none": (id) => [resultOf(id, { receipt: { envelope: "{}", proof: "garbage" } })],
    "a receipt of another row": (id) => [
      resultOf(
        id,
        receiptOf((proof) => ({ ...proof, index: 0 })),
      ),
    ],
    "a receipt without its path": (id) => [
      resultOf(
        id,
        receiptOf((proof) => ({ ...proof, path: [] })),
      ),
    ],
    "a receipt without a checkpoint": (id) => [
      resultOf(
        id,
        receiptOf((proof) => ({ ...proof, checkpoint: "x\n" })),
      ),
    ],
    "another result's digest": (id) => [resultOf(id, { resultDigest: EMPTY })],
    "an output that was not declared": (id) => [resultOf(id, { blobs: blobs({ outputIndex: 1 }) })],
    "an output made executable": (id) => [resultOf(id, { blobs: blobs({ executable: true }) })],
    "an output of another digest": (id) => [resultOf(id, { blobs: blobs({ digest: EMPTY }) })],
    "an output without its frame": (id) => [resultOf(id, { blobs: blobs({ frameSize: 0n }) })],
    "no object": (id) => [resultOf(id, { blobs: blobs({}).slice(1) })],
    "no object, and a row and digest of that": (id) => [
      resultOf(id, { ...rowWith(3, "-"), resultDigest: nothing, blobs: blobs({}).slice(1) }),
    ],
    "no stderr": (id) => [resultOf(id, { blobs: blobs({}).slice(0, 2) })],
    "blobs that it does not lack": (id) => [{ case: "need", value: { jobId: id, digests: [EMPTY] } }],
    "a blob twice": (id) => [{ case: "need", value: { jobId: id, digests: [sha256(SOURCE), sha256(SOURCE)] } }],
    "a job that never began": () => [{ case: "error", value: { jobId: 99n } }],
    "a second hello": () => [hello],
    "an empty message": () => [{ case: undefined }],
    "absurd credit": (id) => [
      { case: "need", value: { jobId: id, digests: [sha256(SOURCE)] } },
      ...Array.from({ length: 3 }, (): Reply => ({ case: "credit", value: { jobId: id, bytes: 2 ** 31 } })),
    ],
  };
  for (const [what, replies] of Object.entries(lies))
    test(what, async (t) => {
      const worker = await ScriptedWorker.start(t, answering(replies));
      const client = await worker.client();
      await assert.rejects(client.compile(worker.job(), NEVER), { code: "peer.protocol" });
      assert.deepEqual(await readdir(worker.folder), []);
      client.close();
    });

  test("a hello that makes no sense", async (t) => {
    const value = hello.value;
    for (const change of [
      { protocolVersion: PROTOCOL_VERSION + 1 },
      { initialCreditBytes: 0 },
      { initialCreditBytes: 2 ** 31 },
      { jobsMax: 0 },
    ]) {
      const worker = await ScriptedWorker.start(t, () => [{ case: "hello", value: { ...value, ...change } }]);
      await assert.rejects(worker.client(), { code: "peer.protocol" });
    }
  });
});

describe("a worker that fails is told from one that refuses", () => {
  test("its error keeps its code and loses its control characters; the stream lives on", async (t) => {
    const replies = (id: bigint): Reply[] =>
      id === 3n
        ? [resultOf(id), chunkOf(id)]
        : [{ case: "error", value: { jobId: id, code: id === 1n ? "vm.lost" : "rubbish", message: "gone\u001b[31m" } }];
    const worker = await ScriptedWorker.start(t, answering(replies));
    const client = await worker.client();
    await assert.rejects(client.compile(worker.job(), NEVER), {
      code: "vm.lost",
      message: "the worker: gone\ufffd[31m",
    });
    await assert.rejects(client.compile(worker.job(), NEVER), { code: "job.failed" });
    assert.equal((await client.compile(worker.job(), NEVER)).exitCode, 0);
    client.close();
  });

  test("the end of its stream ends all jobs, and the client says so", async (t) => {
    const worker = await ScriptedWorker.start(
      t,
      answering(() => "end"),
    );
    const client = await worker.client();
    await assert.rejects(client.compile(worker.job(), NEVER), { code: "peer.unavailable" });
    await assert.rejects(client.compile(worker.job(), NEVER), { code: "peer.unavailable" });
    assert.ok(client.ended.aborted);
  });

  test("its silence before the hello, in a job and within a blob has an end", async (t) => {
    const mute = await ScriptedWorker.start(t, () => []);
    const clock = new ManualClock();
    const connecting = assert.rejects(mute.client(clock), { code: "peer.deadline" });
    await until(() => clock.pendingTimers > 0);
    clock.advance(HELLO_TIMEOUT_MS);
    await connecting;
    for (const replies of [
      () => [],
      (id: bigint) => [resultOf(id)],
      (id: bigint) => [resultOf(id), chunkOf(id, FRAME.subarray(0, 9), false)],
    ]) {
      const worker = await ScriptedWorker.start(t, answering(replies));
      const time = new ManualClock();
      const client = await worker.client(time);
      const job = assert.rejects(client.compile(worker.job(), NEVER), { code: "peer.deadline" });
      await until(() => worker.heard.length === 2);
      for (let i = 0; i < 4; i++) {
        await new Promise((resolve) => setImmediate(resolve));
        time.advance(JOB_SILENCE_MS_MAX);
      }
      await job;
      await until(() => worker.heard.includes("cancel"));
      assert.deepEqual(await readdir(worker.folder), []);
      client.close();
    }
  });

  test("its result that crosses a cancel is not written", async (t) => {
    const worker = await ScriptedWorker.start(t, (message) => {
      if (message.case === "hello") return [hello];
      if (message.case === "cancel") return [resultOf(message.value.jobId), chunkOf(message.value.jobId)];
      if (message.case !== "job" || message.value.jobId === 1n) return [];
      return [{ case: "error", value: { jobId: message.value.jobId, code: "job.failed" } }];
    });
    const client = await worker.client();
    const cancel = new AbortController();
    const job = assert.rejects(client.compile(worker.job(), { signal: cancel.signal }), { code: "job.cancelled" });
    await until(() => worker.heard.includes("job"));
    cancel.abort();
    await job;
    // Answered after the result, on the same stream.
    await assert.rejects(client.compile(worker.job(), NEVER), { code: "job.failed" });
    for (let i = 0; i < 100; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      assert.deepEqual(await readdir(worker.folder), []);
    }
    client.close();
  });

  test("a job above the worker's limit waits for a place, or for its own cancel", async (t) => {
    const open: bigint[] = [];
    const worker = await ScriptedWorker.start(t, (message) => {
      if (message.case === "hello") return [hello];
      if (message.case === "job") open.push(message.value.jobId);
      return message.case === "cancel"
        ? [{ case: "error", value: { jobId: message.value.jobId, code: "job.cancelled" } }]
        : [];
    });
    const client = await worker.client();
    const cancels = Array.from({ length: 4 }, () => new AbortController());
    const jobs = cancels.map(async ({ signal }) =>
      assert.rejects(client.compile(worker.job(), { signal }), { code: "job.cancelled" }),
    );
    await until(() => open.length === 2);
    cancels[2]!.abort();
    await jobs[2];
    cancels[0]!.abort();
    await until(() => open.length === 3);
    assert.deepEqual(open, [1n, 2n, 3n]);
    for (const cancel of cancels) cancel.abort();
    await Promise.all(jobs);
    client.close();
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
