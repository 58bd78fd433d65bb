import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import tls from "node:tls";
import { create } from "@bufbuild/protobuf";
import { TestAuthority, testIdentity } from "../../../test/support/certificates.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import type { HostPort } from "../../core/identity/host-port.ts";
import { spiffeId } from "../../core/identity/spiffe.ts";
import { SchedulerService, WatchRequestSchema, WatchResponseSchema } from "../../gen/hpcc/scheduler/v1/scheduler_pb.js";
import {
  InspectRequestSchema,
  InspectResponseSchema,
  SessionRequestSchema,
  SessionResponseSchema,
  WorkerService,
} from "../../gen/hpcc/worker/v1/worker_pb.js";
import { RpcClient } from "./client.ts";
import { MESSAGE_SIZE_BYTES_MAX } from "./limits.ts";
import { type CallContext, RpcServer } from "./server.ts";
import { identityOfSubjectAltName, type TlsMaterial } from "./tls.ts";

function fails(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code, error.message);
    return true;
  };
}

async function collect<T>(messages: AsyncIterable<T>, each: (message: T) => void = () => {}): Promise<T[]> {
  const all: T[] = [];
  for await (const message of messages) {
    all.push(message);
    each(message);
  }
  return all;
}

describe("gRPC over mutual TLS", () => {
  let authority: TestAuthority;
  let user: TlsMaterial;
  let server: RpcServer;
  let address: HostPort;
  const contexts: CallContext[] = [];
  const clients: RpcClient[] = [];
  let watchEnded = Promise.withResolvers<void>();
  let sessionEnded = Promise.withResolvers<unknown>();
  let sentBySession = 0;
  let sessionSignal: AbortSignal | null = null;

  const client = (tlsMaterial: TlsMaterial, path = "worker/w1") => {
    const made = new RpcClient({
      address,
      tls: tlsMaterial,
      accept: (identity) => spiffeId(identity) === spiffeId(testIdentity(path)),
    });
    clients.push(made);
    return made;
  };

  before(async () => {
    authority = await TestAuthority.create();
    user = await authority.issue("tenant/acme/user/ann");
    server = new RpcServer({ tls: await authority.issue("worker/w1"), logger: SILENT_LOGGER });
    server.add(WorkerService, {
      async *fetch() {},
      inspect: async (request, context) => {
        contexts.push(context);
        if (request.hash === "unknown") throw new HpccError("hash.unknown", "no row of yours \u001b[31m");
        if (request.hash === "bug") throw new Error("secret of the worker");
        if (request.hash === "hang") await once(context.signal, "abort");
        return create(InspectResponseSchema, { digest: spiffeId(context.peer), kind: request.hash });
      },
      session: async (stream, context) => {
        sessionSignal = context.signal;
        try {
          for await (const request of stream.incoming) {
            if (request.message.case === "cancel") throw new HpccError("limit.exceeded", "too many");
            if (request.message.case === "credit") {
              while (!context.signal.aborted && sentBySession < request.message.value.bytes) {
                sentBySession += 1;
                const chunk = { blobIndex: sentBySession, data: new Uint8Array(65_536) };
                const room = stream.send(create(SessionResponseSchema, { message: { case: "chunk", value: chunk } }));
                if (!room) await stream.drained();
              }
            }
            if (request.message.case === "hello")
              stream.send(create(SessionResponseSchema, { message: { case: "hello", value: { jobsMax: 7 } } }));
          }
          sessionEnded.resolve("end");
        } catch (error) {
          sessionEnded.resolve(error);
          throw error;
        }
      },
    });
    server.add(SchedulerService, {
      register: async () => {},
      async *watchPeers() {},
      async *watch(request, context) {
        try {
          yield create(WatchResponseSchema, { revision: 1n });
          if (request.imageDigest === "fail") throw new HpccError("image.forbidden", "no");
          if (request.imageDigest === "once") return;
          await once(context.signal, "abort");
        } finally {
          watchEnded.resolve();
        }
      },
    });
    address = await server.listen({ host: "127.0.0.1", port: 0 });
  });
  after(async () => {
    for (const made of clients) made.close();
    await server.close(0);
  });

  test("a handler learns the caller's identity from the certificate", async () => {
    const response = await client(user).unary(
      WorkerService.method.inspect,
      create(InspectRequestSchema, { hash: "x" }),
    );
    assert.equal(response.digest, "spiffe://test.example/tenant/acme/user/ann");
  });

  test("an error keeps its code, a bug tells nothing", async () => {
    const rpc = client(user);
    const inspect = (hash: string) => rpc.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash }));
    await assert.rejects(inspect("unknown"), (error) => fails("hash.unknown")(error) && !/\u001b/.test(String(error)));
    await assert.rejects(inspect("bug"), (error) => !(error as Error).message.includes("secret"));
  });

  test("a signal and a time limit end a call on both sides", async () => {
    const rpc = client(user);
    const request = create(InspectRequestSchema, { hash: "hang" });
    const leave = new AbortController();
    contexts.length = 0;
    const call = rpc.unary(WorkerService.method.inspect, request, { signal: leave.signal });
    const arrived = rpc.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash: "x" }));
    await arrived;
    leave.abort();
    await assert.rejects(call, fails("job.cancelled"));
    const hung = contexts[0]!.signal;
    if (!hung.aborted) await once(hung, "abort");
    await assert.rejects(rpc.unary(WorkerService.method.inspect, request, { timeoutMs: 50 }), fails("peer.deadline"));
    await assert.rejects(
      rpc.unary(WorkerService.method.inspect, request, { signal: AbortSignal.abort() }),
      fails("job.cancelled"),
    );
  });

  test("a message over the limit is refused", async () => {
    const rpc = client(user);
    const hash = "x".repeat(MESSAGE_SIZE_BYTES_MAX);
    await assert.rejects(
      rpc.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash })),
      fails("limit.exceeded"),
    );
  });

  test("a server stream ends, fails, and is left by either side", async () => {
    const rpc = client(user);
    const watch = (imageDigest: string, signal?: AbortSignal) =>
      rpc.serverStream(
        SchedulerService.method.watch,
        create(WatchRequestSchema, { imageDigest }),
        signal ? { signal } : {},
      );
    assert.equal((await collect(watch("once"))).length, 1);
    await assert.rejects(collect(watch("fail")), fails("image.forbidden"));
    watchEnded = Promise.withResolvers();
    for await (const response of watch("leave")) {
      assert.equal(response.revision, 1n);
      break;
    }
    await watchEnded.promise;
    const leave = new AbortController();
    const reading = collect(watch("abort", leave.signal), () => leave.abort());
    await assert.rejects(reading, fails("job.cancelled"));
  });

  test("a bidirectional stream ends well, fails with its code, and is cancelled", async () => {
    const rpc = client(user);
    const hello = create(SessionRequestSchema, { message: { case: "hello", value: { protocolVersion: 1 } } });
    const cancel = create(SessionRequestSchema, { message: { case: "cancel", value: { jobId: 1n } } });
    sessionEnded = Promise.withResolvers();
    const good = rpc.bidi(WorkerService.method.session);
    good.send(hello);
    for await (const response of good.incoming) {
      assert.equal(response.message.case, "hello");
      good.end();
    }
    assert.equal(await sessionEnded.promise, "end");
    if (!good.closed.aborted) await once(good.closed, "abort");

    const bad = rpc.bidi(WorkerService.method.session);
    bad.send(hello);
    bad.send(cancel);
    await assert.rejects(collect(bad.incoming), fails("limit.exceeded"));

    sessionEnded = Promise.withResolvers();
    const leave = new AbortController();
    const left = rpc.bidi(WorkerService.method.session, { signal: leave.signal });
    left.send(hello);
    await assert.rejects(
      collect(left.incoming, () => leave.abort()),
      fails("job.cancelled"),
    );
    await sessionEnded.promise;
    const gone = sessionSignal!;
    if (!gone.aborted) await once(gone, "abort");
  });

  test("a reader that does not read holds the sender back", async () => {
    const rpc = client(user);
    const leave = new AbortController();
    const stream = rpc.bidi(WorkerService.method.session, { signal: leave.signal });
    sentBySession = 0;
    sessionEnded = Promise.withResolvers();
    const wanted = 1600;
    const credit = create(SessionRequestSchema, { message: { case: "credit", value: { jobId: 1n, bytes: wanted } } });
    stream.send(credit);
    let received = 0;
    for await (const response of stream.incoming) {
      assert.equal(response.message.case, "chunk");
      received += 1;
      // The sender is never further ahead than what windows and buffers hold.
      assert.ok(sentBySession - received < 800, `${sentBySession} sent, ${received} read`);
      if (received === wanted) break;
      if (received % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    leave.abort();
    await sessionEnded.promise;
  });

  test("another server than the one asked for is refused in the handshake", async () => {
    const rpc = client(user, "worker/w2");
    const call = rpc.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash: "x" }));
    await assert.rejects(call, (error) => fails("peer.unavailable")(error) && /not the server/.test(String(error)));
  });

  test("strangers, and servers of strangers, are refused", async () => {
    const stranger = await (await TestAuthority.create()).issue("tenant/acme/user/ann");
    const request = create(InspectRequestSchema, { hash: "x" });
    await assert.rejects(client(stranger).unary(WorkerService.method.inspect, request), fails("peer.unavailable"));
    const half = { ...stranger, ca: user.ca };
    await assert.rejects(client(half).unary(WorkerService.method.inspect, request), fails("peer.unavailable"));
  });

  test("no client certificate, TLS 1.2 and plain text get nowhere", async () => {
    const attempt = async (options: tls.ConnectionOptions) => {
      const socket = tls.connect({
        ...address,
        ca: user.ca,
        checkServerIdentity: () => undefined,
        ALPNProtocols: ["h2"],
        ...options,
      });
      await once(socket, "secureConnect");
      await once(socket, "data").then(() => Promise.reject(new Error("the server spoke")));
    };
    await assert.rejects(attempt({}), (error) => !/spoke/.test(String(error)));
    await assert.rejects(attempt({ cert: user.certificate, key: user.key, maxVersion: "TLSv1.2" }), /alert|protocol/i);
    const plain = connect(address.port, address.host);
    plain.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await once(plain, "close");
  });

  test("a user's certificate cannot serve", async () => {
    const impostor = new RpcServer({ tls: user, logger: SILENT_LOGGER });
    const where = await impostor.listen({ host: "127.0.0.1", port: 0 });
    const rpc = new RpcClient({ address: where, tls: user, accept: () => true });
    const request = create(InspectRequestSchema, { hash: "x" });
    await assert.rejects(
      rpc.unary(WorkerService.method.inspect, request),
      (error) => fails("peer.unavailable")(error) && /purpose/.test(String(error)),
    );
    rpc.close();
    await impostor.close(0);
  });

  test("a server ends though somebody is connected who never says a word", async () => {
    const silent = new RpcServer({ tls: user, logger: SILENT_LOGGER });
    const { host, port } = await silent.listen({ host: "127.0.0.1", port: 0 });
    const socket = connect(port, host);
    socket.on("error", () => {});
    try {
      await once(socket, "connect");
      await silent.close(0);
    } finally {
      socket.destroy();
    }
  });

  test("a port in use is told", async () => {
    const second = new RpcServer({ tls: user, logger: SILENT_LOGGER });
    await assert.rejects(second.listen(address), /cannot listen on [^ ]+: EADDRINUSE$/);
    await second.close(0);
  });
});

test("only one unquoted URI makes an identity", () => {
  const uri = "URI:spiffe://x/worker/w";
  assert.equal(spiffeId(identityOfSubjectAltName(`DNS:a, ${uri}`)), "spiffe://x/worker/w");
  for (const names of [
    undefined,
    "",
    "DNS:a",
    `${uri}, ${uri}`,
    `DNS:"a, ${uri}, b"`,
    `${uri}, URI:https://x`,
    "URI:spiffe://x/worker/w,DNS:a",
  ])
    assert.throws(() => identityOfSubjectAltName(names), HpccError, names ?? "undefined");
});
