// Both ways in which a session's HTTP/2 is spoken, for tests that must pass with each: a guest is parsed by one process as by the
// other. What ships speaks through the channel's process alone.
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { HpccError } from "../../src/base/errors.ts";
import { AgentService } from "../../src/gen/hpcc/agent/v1/agent_pb.js";
import { streamThroughChannel } from "../../src/vm/agent/channel.ts";
import { EXECUTE_BYTES_MAX, MESSAGE_BYTES_MAX } from "../../src/vm/agent/limits.ts";
import type { OpenStream } from "../../src/vm/agent/stream.ts";

/** The program; `make` builds it with the agent. */
export const CHANNEL_PROGRAM = join(import.meta.dirname, "../../out/lib/hpcc/channel");

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

export const AGENT_STREAMS: readonly (readonly [through: string, openStream: OpenStream])[] = [
  ["in this process", streamInProcess],
  ["through the channel's process", streamThroughChannel(CHANNEL_PROGRAM)],
];
