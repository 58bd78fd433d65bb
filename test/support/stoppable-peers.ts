// A scheduler and a worker in one process of their own, so that a test can stop and continue them as SIGSTOP does: the kernel goes on
// taking connections, and nobody answers. The worker takes every job and ends it with its word.
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { create } from "@bufbuild/protobuf";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { type HostPort } from "../../src/core/identity/host-port.ts";
import { SchedulerService, WatchResponseSchema } from "../../src/gen/hpcc/scheduler/v1/scheduler_pb.js";
import { InspectResponseSchema, SessionResponseSchema, WorkerService } from "../../src/gen/hpcc/worker/v1/worker_pb.js";
import { RpcServer } from "../../src/wire/grpc/server.ts";
import type { TlsMaterial } from "../../src/wire/grpc/tls.ts";
import { inspectTls } from "../../src/wire/grpc/tls-files.ts";
import { toAssignment } from "../../src/wire/scheduler/mapping.ts";
import { PROTOCOL_VERSION } from "../../src/wire/worker/limits.ts";
import { TestAuthority } from "./certificates.ts";

/** With what the worker ends every job. */
export const STOPPABLE_WORKERS_CODE = "limit.exceeded";
const CREDIT_BYTES = 1024;

type Pem = Readonly<Record<keyof TlsMaterial, string>>;

interface Start {
  readonly worker: Pem;
  readonly scheduler: Pem;
}

export class StoppablePeers {
  readonly #child: ChildProcess;
  readonly authority: TestAuthority;
  readonly scheduler: HostPort;

  private constructor(child: ChildProcess, authority: TestAuthority, scheduler: HostPort) {
    this.#child = child;
    this.authority = authority;
    this.scheduler = scheduler;
  }

  static async start(): Promise<StoppablePeers> {
    const authority = await TestAuthority.create();
    const child = fork(import.meta.filename, { stdio: ["ignore", "inherit", "inherit", "ipc"], execArgv: [] });
    const pem = async (path: string): Promise<Pem> => {
      const { certificate, key, ca } = await authority.issue(path);
      return { certificate: certificate.toString(), key: key.toString(), ca: ca.toString() };
    };
    child.send({ worker: await pem("worker/w1"), scheduler: await pem("scheduler/s1") } satisfies Start);
    const [scheduler] = (await once(child, "message")) as [HostPort];
    return new StoppablePeers(child, authority, scheduler);
  }

  stop(): void {
    this.#child.kill("SIGSTOP");
  }

  goOn(): void {
    this.#child.kill("SIGCONT");
  }

  async close(): Promise<void> {
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }
}

function tlsOf({ certificate, key, ca }: Pem): TlsMaterial {
  return { certificate: Buffer.from(certificate), key: Buffer.from(key), ca: Buffer.from(ca) };
}

async function serve(start: Start): Promise<HostPort> {
  const here = { host: "127.0.0.1", port: 0 };
  const worker = new RpcServer({ tls: tlsOf(start.worker), logger: SILENT_LOGGER });
  worker.add(WorkerService, {
    async *fetch() {},
    async session(stream) {
      const hello = {
        protocolVersion: PROTOCOL_VERSION,
        workerVersion: "1",
        initialCreditBytes: CREDIT_BYTES,
        jobsMax: 64,
        blobSizeMax: 1024n,
      };
      stream.send(create(SessionResponseSchema, { message: { case: "hello", value: hello } }));
      for await (const { message } of stream.incoming) {
        if (message.case !== "job") continue;
        const error = { jobId: message.value.jobId, code: STOPPABLE_WORKERS_CODE, message: "no" };
        stream.send(create(SessionResponseSchema, { message: { case: "error", value: error } }));
      }
    },
    inspect: async () => create(InspectResponseSchema),
  });
  const address = await worker.listen(here);
  const names = { certificate: "c", key: "k", ca: "a" };
  const { identity, caDigest } = inspectTls(tlsOf(start.worker), Date.now(), names);
  if (identity.kind !== "worker") throw new Error("bug: not a worker's certificate");
  const offer = { address, identity, caDigest, images: [], slots: 1, version: "0.1.0" };
  const scheduler = new RpcServer({ tls: tlsOf(start.scheduler), logger: SILENT_LOGGER });
  scheduler.add(SchedulerService, {
    async register() {},
    async *watchPeers() {},
    async *watch(_, { signal }) {
      yield create(WatchResponseSchema, { assignments: [toAssignment({ ...offer, isolation: "qemu-tcg" })] });
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  return scheduler.listen(here);
}

if (import.meta.main) process.once("message", (start: Start) => void serve(start).then((at) => process.send?.(at)));
