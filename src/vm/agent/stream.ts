// The gRPC stream on a dialled connection, spoken by this process.
import type { Duplex } from "node:stream";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { HpccError } from "../../base/errors.ts";
import { AgentService, type SessionRequest, type SessionResponse } from "../../gen/hpcc/agent/v1/agent_pb.js";
import { EXECUTE_BYTES_MAX, MESSAGE_BYTES_MAX } from "./limits.ts";

/**
 * Opens the one stream of a connection: sends the requests, asking for the next when the one before is written, and gives
 * what the guest answers, each no larger than MESSAGE_BYTES_MAX and otherwise unchecked. Ends when the agent ends the stream
 * with status OK. Throws a Breach or a ConnectError for a guest that breaks HTTP/2 or gRPC, `vm.lost` or a ConnectError when the
 * connection ends. The signal ends it.
 */
export type OpenStream = (
  connection: Duplex,
  requests: AsyncIterable<SessionRequest>,
  signal: AbortSignal,
) => AsyncIterable<SessionResponse>;

/** UNTRUSTED: guest. */
export const streamInProcess: OpenStream = (connection, requests, signal) => {
  let dialled = false;
  const transport = createGrpcTransport({
    baseUrl: "http://agent",
    nodeOptions: {
      createConnection: () => {
        if (dialled) throw new HpccError("vm.lost", "the agent's connection is gone");
        dialled = true;
        return connection;
      },
      settings: { enablePush: false },
    },
    readMaxBytes: MESSAGE_BYTES_MAX,
    writeMaxBytes: EXECUTE_BYTES_MAX + 1024,
    // Nothing that a guest compressed is decompressed here.
    acceptCompression: [],
  });
  return createClient(AgentService, transport).session(requests, { signal });
};
