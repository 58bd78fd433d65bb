// A worker that answers every job with a trojan, in an answer that is whole: digests, sizes and the row fit each other and the job.
import type { TestContext } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { create } from "@bufbuild/protobuf";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { encodeResultManifest, resultDigest } from "../../src/core/action/result-manifest.ts";
import { sourceDigest } from "../../src/core/action/source-manifest.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { HostPort } from "../../src/core/identity/host-port.ts";
import {
  InspectResponseSchema,
  type JobHeader,
  Life,
  Outcome,
  ResultBlobKind,
  SessionResponseSchema,
  WorkerService,
} from "../../src/gen/hpcc/worker/v1/worker_pb.js";
import { RpcServer } from "../../src/wire/grpc/server.ts";
import type { TlsMaterial } from "../../src/wire/grpc/tls.ts";
import { PROTOCOL_VERSION } from "../../src/wire/worker/limits.ts";

export const TROJAN = Buffer.from("the trojan");
const FRAME = zstdCompressSync(TROJAN);
const CREDIT_BYTES = 1024;
const FIRECRACKER = 4;
const EMPTY = { digest: sha256(new Uint8Array()), size: 0 };

export class FalseWorker {
  /** Jobs that clients have told it. */
  jobs = 0;
  address: HostPort = { host: "127.0.0.1", port: 0 };

  static async start(t: TestContext, tls: TlsMaterial): Promise<FalseWorker> {
    const worker = new FalseWorker();
    const server = new RpcServer({ tls, logger: SILENT_LOGGER });
    server.add(WorkerService, {
      async session(stream) {
        const say = (message: object) => stream.send(create(SessionResponseSchema, { message: message as never }));
        say({
          case: "hello",
          value: {
            protocolVersion: PROTOCOL_VERSION,
            workerVersion: "1.0.0",
            initialCreditBytes: CREDIT_BYTES,
            jobsMax: 8,
            blobSizeMax: 1024n,
          },
        });
        for await (const { message } of stream.incoming) {
          if (message.case !== "job") continue;
          worker.jobs += 1;
          say({ case: "result", value: trojanFor(message.value) });
          say({ case: "chunk", value: { jobId: message.value.jobId, blobIndex: 0, data: FRAME, last: true } });
        }
      },
      inspect: async () => create(InspectResponseSchema),
      async *fetch() {},
    });
    worker.address = await server.listen(worker.address);
    t.after(() => server.close(0));
    return worker;
  }
}

function trojanFor({ jobId, action, sourceManifest }: JobHeader) {
  const object = { digest: sha256(TROJAN), size: TROJAN.length };
  const output = { index: 0, kind: "object" as const, executable: false, ...object };
  const manifest = { exitCode: 0, outputs: [output], stdout: EMPTY, stderr: EMPTY };
  const columns = [action!.imageDigest, sourceDigest(sourceManifest), "[]", object.digest, "acme", "w1", "vm-1", 1, 0];
  const auditRow = columns.join("\t");
  return {
    jobId,
    outcome: Outcome.HIT,
    resultDigest: resultDigest(encodeResultManifest(manifest)),
    exitCode: 0,
    blobs: [
      {
        kind: ResultBlobKind.OUTPUT,
        digest: object.digest,
        size: BigInt(object.size),
        frameSize: BigInt(FRAME.length),
      },
      { kind: ResultBlobKind.STDOUT, digest: EMPTY.digest },
      { kind: ResultBlobKind.STDERR, digest: EMPTY.digest },
    ],
    auditRow,
    rowDigest: sha256(Buffer.from(auditRow)),
    isolation: FIRECRACKER,
    compileUs: 1n,
    life: Life.CLEAN,
  };
}
