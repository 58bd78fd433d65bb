// Schedulers that lie: no client tells a job to anybody but a worker of its own trust domain that proves who it is.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { HpccError } from "../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { Identity } from "../../src/core/identity/spiffe.ts";
import { isChosenWorker } from "../../src/daemon/remote/chosen-worker.ts";
import { RemoteCompiler } from "../../src/daemon/remote/remote-compiler.ts";
import { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { WorkerConnections } from "../../src/daemon/remote/worker-connections.ts";
import {
  AssignmentSchema,
  Isolation,
  SchedulerService,
  WatchResponseSchema,
} from "../../src/gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcServer } from "../../src/wire/grpc/server.ts";
import type { TlsMaterial } from "../../src/wire/grpc/tls.ts";
import { inspectTls } from "../../src/wire/grpc/tls-files.ts";
import { TEST_TRUST_DOMAIN, TestAuthority } from "../support/certificates.ts";
import { TEST_IMAGE, TestWorker } from "../support/test-worker.ts";
import { FalseWorker, TROJAN } from "./false-worker.ts";

const NAMES = { certificate: "c", key: "k", ca: "a" };
const NEVER = { signal: new AbortController().signal };
const WORKER_1 = `spiffe://${TEST_TRUST_DOMAIN}/worker/w1`;

interface Lie {
  /** The certificate of who waits for the client. */
  readonly server: (at: TestWorker) => Promise<TlsMaterial>;
  /** What the scheduler says beside the truth. */
  readonly says?: Partial<MessageInitShape<typeof AssignmentSchema>>;
  /** The scheduler's own certificate. */
  readonly scheduler?: string;
}

const as = (path: string) => (at: TestWorker) => at.credentials(path);
const named = (spiffeId: string) => ({ tlsTrust: { spiffeId, caDigest: TEST_IMAGE } });

/** Each would have the client talk to the false worker. */
const LIES: Readonly<Record<string, Lie>> = {
  "the address of another worker": { server: as("worker/w2") },
  "the address of a user": { server: as("tenant/acme/user/mallory") },
  "the address of a scheduler": { server: as("scheduler/s2") },
  "a user as the worker": {
    server: as("tenant/acme/user/mallory"),
    says: named(`spiffe://${TEST_TRUST_DOMAIN}/tenant/acme/user/mallory`),
  },
  "a worker of another trust domain": { server: as("worker/w1"), says: named("spiffe://evil.example/worker/w1") },
  "a worker of its own CA": { server: async () => (await TestAuthority.create()).issue("worker/w1") },
  "a weaker isolation than the client asks for": {
    server: as("worker/w1"),
    says: { isolation: Isolation.NAMESPACE },
  },
  "no isolation": { server: as("worker/w1"), says: { isolation: Isolation.UNSPECIFIED } },
  "port 0": { server: as("worker/w1"), says: { address: "127.0.0.1:0" } },
  "no identity": { server: as("worker/w1"), says: named("") },
};

/** What a client of acme gets, whose only scheduler says what the lie is. `accept` decides on servers in place of the product. */
async function compileBy(t: TestContext, lie: Lie, accept?: (server: Identity) => boolean) {
  const at = await TestWorker.start(t);
  const falseWorker = await FalseWorker.start(t, await lie.server(at));
  const server = new RpcServer({ tls: await at.credentials(lie.scheduler ?? "scheduler/s1"), logger: SILENT_LOGGER });
  const { host, port } = falseWorker.address;
  const truth = { address: `${host}:${port}`, isolation: Isolation.QEMU_TCG, ...named(WORKER_1) };
  const assignment = create(AssignmentSchema, Object.assign(truth, lie.says));
  server.add(SchedulerService, {
    async register() {},
    async *watchPeers() {},
    async *watch(_, { signal }) {
      yield create(WatchResponseSchema, { revision: 1n, assignments: [assignment] });
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const scheduler = await server.listen({ host: "127.0.0.1", port: 0 });
  const credentials = inspectTls(await at.credentials("tenant/acme/user/ann"), Date.now(), NAMES);
  const shared = { credentials: () => credentials, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, random: () => 0 };
  const workers = new WorkerConnections({
    ...shared,
    onResult: () => undefined,
    connect: async (worker, { tls, identity }, signal) =>
      WorkerClient.connect({
        address: worker.address,
        tls,
        accept: accept ?? isChosenWorker(worker, identity),
        version: "0.1.0",
        clock: SYSTEM_CLOCK,
        signal,
      }),
  });
  const query = { image: TEST_IMAGE, isolationMin: "qemu-tcg" } as const;
  const compiler = new RemoteCompiler({ ...shared, schedulers: [scheduler], query, workers });
  t.after(async () => {
    await compiler.close();
    await workers.close();
    await server.close(0);
  });
  const job = await at.job({ files: [{ path: "/hpcc/project/a.c", content: "int a;\n" }] });
  const got = await compiler.compile(job, NEVER).then(
    async ({ outputs }) => readFile(outputs[0]!.file),
    (error: HpccError) => error,
  );
  return { got, jobsTold: falseWorker.jobs };
}

for (const [what, lie] of Object.entries(LIES))
  test(`a scheduler that gives ${what} is believed nothing: no job is told, and the compile is local`, async (t) => {
    const { got, jobsTold } = await compileBy(t, lie);
    assert.ok(got instanceof HpccError, String(got));
    assert.equal(jobsTold, 0);
  });

for (const path of ["worker/w9", "tenant/acme/user/mallory"])
  test(`who has the certificate of ${path} is no scheduler`, async (t) => {
    const { got, jobsTold } = await compileBy(t, { server: as("worker/w1"), scheduler: path });
    assert.deepEqual([got instanceof HpccError, jobsTold], [true, 0]);
  });

test("control: a client that takes any worker whom its CA vouches for gets the trojan of another one", async (t) => {
  const { got } = await compileBy(t, LIES["the address of another worker"]!, () => true);
  assert.deepEqual(got, TROJAN);
});

test("control: an honest scheduler's word leads to the worker, so that the lies above are what is refused", async (t) => {
  assert.equal((await compileBy(t, { server: as("worker/w1") })).jobsTold, 1);
});
