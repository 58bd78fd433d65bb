// Which worker gets a job when one fails: behind a scheduler that names two, connections that say what a test wants.
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { TestAuthority } from "../../../test/support/certificates.ts";
import { ManualClock } from "../../base/clock.ts";
import { type ErrorCode, HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { SchedulerService, WatchResponseSchema } from "../../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcServer } from "../../wire/grpc/server.ts";
import { inspectTls } from "../../wire/grpc/tls-files.ts";
import { toAssignment } from "../../wire/scheduler/mapping.ts";
import { RemoteCompiler } from "./remote-compiler.ts";
import { type RemoteJob, type RemoteResult, workersWord } from "./remote-job.ts";
import { WorkerConnections } from "./worker-connections.ts";

const IMAGE = sha256(Buffer.from("image"));
const DONE = { outcome: "compiled" } as RemoteResult;
const NEVER = { signal: new AbortController().signal };
/** Longer than a worker that failed is left alone. */
const LATER_MS = 60_000;

type Behaviour = () => RemoteResult | HpccError;

/** A compiler whose two workers behave so; notes who was asked. */
async function compilerOf(t: TestContext, behaviours: Readonly<Record<"w1" | "w2", Behaviour>>) {
  const authority = await TestAuthority.create();
  const names = { certificate: "c", key: "k", ca: "a" };
  const credentials = async (path: string) => inspectTls(await authority.issue(path), Date.now(), names);
  const scheduler = new RpcServer({ tls: await authority.issue("scheduler/s"), logger: SILENT_LOGGER });
  const assignments = await Promise.all(
    (["w1", "w2"] as const).map(async (name, index) => {
      const { identity, caDigest } = await credentials(`worker/${name}`);
      assert.ok(identity.kind === "worker");
      const address = { host: "127.0.0.1", port: index + 1 };
      const offer = { address, identity, caDigest, images: [IMAGE], slots: 1, version: "0.1.0" };
      return toAssignment({ ...offer, isolation: "qemu-tcg" });
    }),
  );
  scheduler.add(SchedulerService, {
    async register() {},
    async *watchPeers() {},
    async *watch(_, { signal }) {
      yield create(WatchResponseSchema, { assignments: assignments });
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const address = await scheduler.listen({ host: "127.0.0.1", port: 0 });
  const user = await credentials("tenant/acme/user/ann");
  const asked: string[] = [];
  const clock = new ManualClock();
  const shared = { credentials: () => user, clock, logger: SILENT_LOGGER, random: () => 0 };
  const workers = new WorkerConnections({
    ...shared,
    connect: async ({ identity }) => ({
      ended: new AbortController().signal,
      async compile() {
        asked.push(identity.name);
        const answer = behaviours[identity.name as "w1" | "w2"]();
        if (answer instanceof HpccError) throw answer;
        return answer;
      },
      inspect: () => Promise.reject(new Error("bug: nobody asks")),
      close: () => undefined,
    }),
  });
  const query = { image: IMAGE, isolationMin: "qemu-tcg" } as const;
  const compiler = new RemoteCompiler({ ...shared, schedulers: [address], query, workers });
  const folder = await mkdtemp(join(tmpdir(), "hpcc-remote-"));
  t.after(async () => {
    await compiler.close();
    await workers.close();
    await scheduler.close(0);
    await rm(folder, { recursive: true });
  });
  const compile = async () => {
    const job = { outputFolder: await mkdtemp(join(folder, "job-")) } as RemoteJob;
    return compiler.compile(job, NEVER);
  };
  return { asked, clock, folder, compile, available: () => compiler.available(NEVER.signal) };
}

const works: Behaviour = () => DONE;
const says =
  (code: ErrorCode): Behaviour =>
  () =>
    workersWord(code, "no");

for (const code of ["store.io", "audit.io", "vm.boot", "image.missing"] as const)
  test(`a worker with a fault of its own (${code}) is left for the next one, and alone for a while`, async (t) => {
    const at = await compilerOf(t, { w1: says(code), w2: works });
    assert.equal(await at.compile(), DONE);
    assert.equal(await at.compile(), DONE);
    assert.deepEqual(at.asked, ["w1", "w2", "w2"]);
    at.clock.advance(LATER_MS);
    assert.equal(await at.compile(), DONE);
    assert.deepEqual(at.asked.slice(3), ["w1", "w2"]);
  });

test("a job that is over a limit is not tried elsewhere", async (t) => {
  const at = await compilerOf(t, { w1: says("limit.exceeded"), w2: works });
  await assert.rejects(at.compile(), { code: "limit.exceeded" });
  assert.deepEqual(at.asked, ["w1"]);
});

test("a lost VM costs its worker nothing: it is asked again at once", async (t) => {
  let lost = 1;
  const w1: Behaviour = () => (lost-- > 0 ? workersWord("vm.lost", "it was killed") : DONE);
  const at = await compilerOf(t, { w1, w2: works });
  assert.equal(await at.compile(), DONE);
  assert.deepEqual(at.asked, ["w1", "w1"]);
  const [job] = await readdir(at.folder);
  assert.deepEqual(await readdir(join(at.folder, job!)), ["attempt-1"], "what the first one left is not in the way");
});

test("a full disk on this side is no fault of a worker", async (t) => {
  const at = await compilerOf(t, { w1: () => new HpccError("store.io", "no space left on device"), w2: works });
  await assert.rejects(at.compile(), { code: "store.io" });
  await assert.rejects(at.compile(), { code: "store.io" });
  assert.deepEqual(at.asked, ["w1", "w1"]);
});

test("when all workers have faults the last one's words are told, and the next call learns that there is none", async (t) => {
  const at = await compilerOf(t, { w1: says("store.io"), w2: says("audit.io") });
  assert.equal(await at.available(), true);
  await assert.rejects(at.compile(), { code: "audit.io" });
  assert.equal(await at.available(), false, "known before a job is prepared");
  await assert.rejects(at.compile(), { code: "peer.unavailable" });
  assert.deepEqual(at.asked, ["w1", "w2"]);
});
