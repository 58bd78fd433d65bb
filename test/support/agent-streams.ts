// Both ways in which a session's HTTP/2 is spoken, for tests that must pass with each.
import { join } from "node:path";
import { streamThroughChannel } from "../../src/vm/agent/channel.ts";
import { type OpenStream, streamInProcess } from "../../src/vm/agent/stream.ts";

/** The program; `make` builds it with the agent. */
export const CHANNEL_PROGRAM = join(import.meta.dirname, "../../out/lib/hpcc/channel");

export const AGENT_STREAMS: readonly (readonly [through: string, openStream: OpenStream])[] = [
  ["in this process", streamInProcess],
  ["through the channel's process", streamThroughChannel(CHANNEL_PROGRAM)],
];
