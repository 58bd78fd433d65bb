// What a session asks of who speaks HTTP/2 with its guest.
import type { Duplex } from "node:stream";
import type { SessionRequest, SessionResponse } from "../../gen/hpcc/agent/v1/agent_pb.js";

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
