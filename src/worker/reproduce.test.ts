// Jobs compiled again: what a client may fetch of them, that no cache is asked or filled, and that a row is enough to make its result again.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TestWorker } from "../../test/support/test-worker.ts";
import { decodeResultManifest } from "../core/action/result-manifest.ts";
import { decodeSourceManifest, filesOf } from "../core/action/source-manifest.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { FetchRequestSchema, WorkerService } from "../gen/hpcc/worker/v1/worker_pb.js";
import { collectJob, type Evidence, findJob } from "../reproduce/evidence.ts";
import { RemoteEvidence } from "../reproduce/remote-evidence.ts";
import { type Runner, type RunResult, reproduce } from "../reproduce/reproduce.ts";
import { RpcClient } from "../wire/grpc/client.ts";
import { inspectTls } from "../wire/grpc/tls-files.ts";
import { openState } from "./inspect/inspection.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };
const NAMES = { certificate: "certificate", key: "key", ca: "ca" };

async function evidenceOf(at: TestWorker, path = "tenant/acme/user/ann"): Promise<RemoteEvidence> {
  const credentials = inspectTls(await at.credentials(path), Date.now(), NAMES);
  return new RemoteEvidence([{ address: at.worker.address, identity: null }], credentials);
}

test("a job that is to be compiled again is, in a clean VM, and nobody finds what it left", async (t) => {
  const at = await TestWorker.start(t);
  const client = await at.client();
  const job = await at.job({ files: [HELLO] });
  const again = await client.compile({ ...job, again: true }, NEVER);
  assert.deepEqual([again.outcome, again.life], ["compiled", "clean"]);
  const first = await client.compile(await at.job({ files: [HELLO] }), NEVER);
  assert.equal(first.outcome, "compiled", "nothing was kept");
  const second = await client.compile({ ...(await at.job({ files: [HELLO] })), again: true }, NEVER);
  assert.equal(second.outcome, "compiled", "nothing was looked up");
  const scopes = (await at.jobRows()).map(
    ({ envelope }) => envelope.kind === "compile" && [envelope.life, envelope.scope],
  );
  assert.deepEqual(scopes, [
    ["clean", null],
    ["session", "principal"],
    ["clean", null],
  ]);
});

test("who had a job run gets all that its row names, and nobody else does", async (t) => {
  const at = await TestWorker.start(t);
  const { rowDigest } = await (await at.client()).compile(await at.job({ files: [HELLO] }), NEVER);
  const evidence = await evidenceOf(at);
  t.after(() => evidence.close());
  const row = await findJob(evidence, rowDigest);
  const job = await collectJob(evidence, row);
  assert.deepEqual(
    filesOf(job.source).map(({ digest }) => digest),
    [sha256(Buffer.from(HELLO.content))],
  );
  const file = filesOf(job.source)[0]!;
  assert.equal(Buffer.from((await evidence.blob(row, file.digest, 100))!).toString(), HELLO.content);
  assert.equal(await evidence.blob(row, file.digest, 3), null, "larger than wanted");
  for (const [who, digest] of [
    ["tenant/acme/user/bob", file.digest],
    ["tenant/other/user/eve", file.digest],
    ["tenant/acme/user/ann", sha256(Buffer.from("another"))],
  ] as const) {
    const client = new RpcClient({ address: at.worker.address, tls: await at.credentials(who), accept: () => true });
    const request = create(FetchRequestSchema, { rowDigest, digest });
    await assert.rejects(client.serverStream(WorkerService.method.fetch, request).next(), { code: "hash.unknown" });
    client.close();
  }
});

/** Answers with what the row's result holds, but for what is changed. */
function echoing(evidence: Evidence, change: Partial<RunResult>): Runner {
  return {
    async run(_job, of) {
      const manifest = decodeResultManifest((await evidence.blob(of, of.envelope.resultDigest, 2 ** 20))!);
      const read = async (digest: Digest, size: number) =>
        size === 0 ? new Uint8Array() : (await evidence.blob(of, digest, size))!;
      return {
        exitCode: manifest.exitCode,
        outputs: await Promise.all(
          manifest.outputs.map(async ({ digest, size, executable }) => ({
            executable,
            bytes: await read(digest, size),
          })),
        ),
        stdout: await read(manifest.stdout.digest, manifest.stdout.size),
        stderr: await read(manifest.stderr.digest, manifest.stderr.size),
        where: "an echo",
        ...change,
      };
    },
  };
}

test("what differs is named, and what is gone says so", async (t) => {
  const at = await TestWorker.start(t);
  const { rowDigest } = await (await at.client()).compile(await at.job({ files: [HELLO] }), NEVER);
  const state = await openState(join(at.folder, "state"));
  t.after(() => state.close());
  const evidence: Evidence = {
    find: (hash) => state.inspector.find(hash, null),
    blob: ({ row }, digest, sizeMax) => state.blob(row.tenant, digest, sizeMax),
  };
  const row = await findJob(evidence, rowDigest);
  const verdict = async (change: Partial<RunResult>, from = evidence) => {
    const outcome = await reproduce(from, row, { runner: echoing(evidence, change), ...NEVER });
    return outcome.verdict === "different" ? outcome.differences.map(({ what }) => what) : outcome.verdict;
  };
  assert.equal(await verdict({}), "equal");
  assert.deepEqual(await verdict({ exitCode: 1 }), ["exit code"]);
  assert.deepEqual(await verdict({ stderr: Buffer.from("a warning") }), ["stderr"]);
  assert.deepEqual(await verdict({ outputs: [{ executable: false, bytes: Buffer.from("x") }] }), [
    "/hpcc/out/object.o",
  ]);
  assert.deepEqual(await verdict({ outputs: [null] }), ["/hpcc/out/object.o"]);
  assert.equal(await verdict({}, { ...evidence, blob: async () => null }), "gone");
  const lying: Evidence = { ...evidence, blob: async () => Buffer.from("other bytes") };
  await assert.rejects(verdict({}, lying), { code: "audit.corrupt" });
  const forged = { ...row, envelope: { ...row.envelope, actionKey: sha256(Buffer.from("another key")) } };
  await assert.rejects(collectJob(evidence, forged), { code: "audit.corrupt", message: /key/ });
  assert.ok(decodeSourceManifest((await collectJob(evidence, row)).encodedSource).entries.length > 0);
});

test("names that an assembler's input was given in that run alone are no difference, and the report says so", async (t) => {
  const at = await TestWorker.start(t);
  const content = 'void f(void) { __asm__("jmp 1f"); }\n';
  const job = await at.job({ files: [{ ...HELLO, content }] });
  const { rowDigest, exitCode } = await (await at.client()).compile(job, NEVER);
  assert.equal(exitCode, 1);
  const evidence = await evidenceOf(at);
  t.after(() => evidence.close());
  const row = await findJob(evidence, rowDigest);
  const { expected } = await collectJob(evidence, row);
  const said = Buffer.from((await evidence.blob(row, expected.stderr.digest, expected.stderr.size))!).toString();
  assert.match(said, /\/tmp\/cc\w{6}\.s: Assembler messages:/);
  const saying = (stderr: string) =>
    reproduce(evidence, row, { runner: echoing(evidence, { stderr: Buffer.from(stderr) }), ...NEVER });
  const other = await saying(said.replaceAll(/\/tmp\/cc\w{6}/g, "/tmp/cc0aB1cD"));
  assert.equal(other.verdict, "equal");
  assert.deepEqual(other.verdict === "equal" && other.unchecked, [
    "names of temporary files in stderr: the compiler draws them",
  ]);
  assert.equal((await saying(said.replace("Error", "Warning"))).verdict, "different");
  const same = await saying(said);
  assert.deepEqual(same.verdict === "equal" && same.unchecked, []);
});
