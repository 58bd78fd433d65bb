// Schedulers that lie: no client tells a job to anybody but a worker of its own trust domain that proves who it is.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import type { SecureContext } from "node:tls";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ChannelCredentials } from "@grpc/grpc-js";
import { HpccError } from "../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { parseHostPort } from "../../src/core/identity/host-port.ts";
import { parseSpiffeId } from "../../src/core/identity/spiffe.ts";
import { isChosenWorker } from "../../src/daemon/remote/chosen-worker.ts";
import { RemoteCompiler } from "../../src/daemon/remote/remote-compiler.ts";
import { SchedulerWatch } from "../../src/daemon/remote/scheduler-watch.ts";
import { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { WorkerConnections } from "../../src/daemon/remote/worker-connections.ts";
import {
  type Assignment,
  AssignmentSchema,
  Isolation,
  SchedulerService,
  WatchResponseSchema,
} from "../../src/gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcServer } from "../../src/wire/grpc/server.ts";
import type { TlsMaterial } from "../../src/wire/grpc/tls.ts";
import { inspectTls } from "../../src/wire/grpc/tls-files.ts";
import { fromWireIsolation, type WorkerChoice } from "../../src/wire/scheduler/mapping.ts";
import { TEST_TRUST_DOMAIN, TestAuthority } from "../support/certificates.ts";
import { originalMethod } from "../support/original-method.ts";
import { TEST_IMAGE, TestWorker } from "../support/test-worker.ts";
import { FalseWorker, TROJAN } from "./false-worker.ts";

const NAMES = { certificate: "c", key: "k", ca: "a" };
const NEVER = { signal: new AbortController().signal };
const WORKER_1 = `spiffe://${TEST_TRUST_DOMAIN}/worker/w1`;

/** What of a client can be switched off: it checks no server's name, or neither that nor its chain and purpose; it believes a scheduler's words. */
type Defence = "names" | "words" | "chains";

interface Lie {
  /** The certificate of who waits for the client. */
  readonly server: (at: TestWorker) => Promise<TlsMaterial>;
  /** What the scheduler says beside the truth. */
  readonly says?: Partial<MessageInitShape<typeof AssignmentSchema>>;
  /** The scheduler's own certificate. */
  readonly scheduler?: string;
  /** What stops it; without these the trojan comes. */
  readonly stoppedBy: readonly Defence[];
}

const as = (path: string) => (at: TestWorker) => at.credentials(path);
const named = (spiffeId: string) => ({ tlsTrust: { spiffeId, caDigest: TEST_IMAGE } });

/** A worker with the right name of a CA that only it trusts, beside the clients' own. */
async function ofItsOwnCa(at: TestWorker): Promise<TlsMaterial> {
  const own = await (await TestAuthority.create()).issue("worker/w1");
  const clients = await at.credentials("worker/w1");
  return { ...own, ca: Buffer.concat([own.ca, clients.ca]) };
}

/** Each would have the client talk to the false worker. */
const LIES: Readonly<Record<string, Lie>> = {
  "the address of another worker": { server: as("worker/w2"), stoppedBy: ["names"] },
  "the address of a user": { server: as("tenant/acme/user/mallory"), stoppedBy: ["names", "chains"] },
  "the address of a scheduler": { server: as("scheduler/s2"), stoppedBy: ["names"] },
  "a user as the worker": {
    server: as("tenant/acme/user/mallory"),
    says: named(`spiffe://${TEST_TRUST_DOMAIN}/tenant/acme/user/mallory`),
    stoppedBy: ["words", "chains"],
  },
  "a worker of another trust domain": {
    server: as("worker/w1"),
    says: named("spiffe://evil.example/worker/w1"),
    stoppedBy: ["words", "names"],
  },
  "a worker of its own CA": { server: ofItsOwnCa, stoppedBy: ["chains"] },
  "a weaker isolation than the client asks for": {
    server: as("worker/w1"),
    says: { isolation: Isolation.NAMESPACE },
    stoppedBy: ["words"],
  },
  "no isolation": { server: as("worker/w1"), says: { isolation: Isolation.UNSPECIFIED }, stoppedBy: ["words"] },
  "no identity": { server: as("worker/w1"), says: named(""), stoppedBy: ["words", "names"] },
};

/** Nobody can wait there, so there is nothing to switch off. */
const PORT_0: Lie = { server: as("worker/w1"), says: { address: "127.0.0.1:0" }, stoppedBy: [] };

/** Takes each server for the one that was asked for. */
function checkingNoNames(t: TestContext, rejectUnauthorized: boolean): void {
  const original = originalMethod(ChannelCredentials, "createFromSecureContext");
  const weak = { checkServerIdentity: () => undefined, rejectUnauthorized };
  t.mock.method(ChannelCredentials, "createFromSecureContext", (context: SecureContext) =>
    original(ChannelCredentials, context, weak),
  );
}

/** Takes the scheduler's words as they are. */
function believing(t: TestContext, { address, tlsTrust, isolation }: Assignment): void {
  const id = tlsTrust!.spiffeId;
  const identity = (
    id === "" ? { kind: "worker", name: "", trustDomain: "" } : parseSpiffeId(id)
  ) as WorkerChoice["identity"];
  const choice: WorkerChoice = {
    address: parseHostPort(address),
    identity,
    caDigest: TEST_IMAGE,
    isolation: fromWireIsolation(isolation) ?? "namespace",
  };
  t.mock.getter(SchedulerWatch.prototype, "workers", () => [choice]);
}

/** What a client of acme gets, whose only scheduler says what the lie is, and in which these defences are switched off. */
async function compileBy(t: TestContext, lie: Lie, off: readonly Defence[] = []) {
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
  if (off.includes("names") || off.includes("chains")) checkingNoNames(t, !off.includes("chains"));
  if (off.includes("words")) believing(t, assignment);
  const shared = { credentials: () => credentials, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, random: () => 0 };
  const workers = new WorkerConnections({
    ...shared,
    onResult: () => undefined,
    connect: async (worker, { tls, identity }, signal) =>
      WorkerClient.connect({
        address: worker.address,
        tls,
        accept: isChosenWorker(worker, identity),
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

for (const [what, lie] of Object.entries({ ...LIES, "port 0": PORT_0 }))
  test(`a scheduler that gives ${what} is believed nothing: no job is told, and the compile is local`, async (t) => {
    const { got, jobsTold } = await compileBy(t, lie);
    assert.ok(got instanceof HpccError, String(got));
    assert.equal(jobsTold, 0);
  });

const FALSE_SCHEDULERS: readonly (Lie & { readonly scheduler: string })[] = [
  { server: as("worker/w1"), scheduler: "worker/w9", stoppedBy: ["names"] },
  { server: as("worker/w1"), scheduler: "tenant/acme/user/mallory", stoppedBy: ["names", "chains"] },
];
for (const lie of FALSE_SCHEDULERS)
  test(`who has the certificate of ${lie.scheduler} is no scheduler`, async (t) => {
    const { got, jobsTold } = await compileBy(t, lie);
    assert.deepEqual([got instanceof HpccError, jobsTold], [true, 0]);
  });

const NAMED = FALSE_SCHEDULERS.map((lie): [string, Lie] => [`the word of ${lie.scheduler}`, lie]);
for (const [what, lie] of [...Object.entries(LIES), ...NAMED])
  test(`control: ${what} brings the trojan to a client without its check of ${lie.stoppedBy.join(" and ")}`, async (t) => {
    assert.deepEqual((await compileBy(t, lie, lie.stoppedBy)).got, TROJAN);
  });

test("control: an honest scheduler's word leads to the worker, so that the lies above are what is refused", async (t) => {
  assert.equal((await compileBy(t, { server: as("worker/w1"), stoppedBy: [] })).jobsTold, 1);
});
