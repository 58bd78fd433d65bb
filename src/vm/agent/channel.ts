// The gRPC stream on a dialled connection, spoken by a process of its own (native/crates/channel) that can do nothing else: a
// guest's HTTP/2 is parsed where no key and no other tenant's bytes are. This process copies the guest's bytes to it
// unread, and gets back messages with a length before each.
import { type ChildProcess, spawn } from "node:child_process";
import { type Duplex, pipeline, type Readable, type Writable } from "node:stream";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { HpccError } from "../../base/errors.ts";
import {
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
  SessionResponseSchema,
} from "../../gen/hpcc/agent/v1/agent_pb.js";
import { MESSAGE_BYTES_MAX } from "./limits.ts";
import { Breach, guestText } from "./reply.ts";
import type { OpenStream } from "./stream.ts";

const PREFIX_BYTES = 5;
const MESSAGE_FLAG = 0;
const LAST_FLAG = 0x80;
/** Longest text of the last frame. */
const LAST_BYTES_MAX = 256;
const STATUSES: ReadonlyMap<string, Code> = new Map(
  Object.values(Code)
    .filter((value): value is Code => typeof value === "number")
    .map((value) => [String(value), value]),
);

/** Streams through processes of the program `hpcc-channel`, one for each connection. */
export function streamThroughChannel(program: string): OpenStream {
  return (connection, requests, signal) => {
    const child = spawn(program, [], { stdio: ["pipe", "pipe", "ignore", "pipe"], env: {}, cwd: "/" });
    child.on("error", (cause) =>
      child.stdout?.destroy(
        new HpccError("tool.missing", `cannot start ${program}; an installation has it beside the agent`, { cause }),
      ),
    );
    const end = (): void => {
      child.kill("SIGKILL");
      connection.destroy();
    };
    signal.addEventListener("abort", end);
    joinUnread(connection, child.stdio[3] as Duplex);
    void sendAll(child, requests);
    return receive(child, () => {
      signal.removeEventListener("abort", end);
      end();
    });
  };
}

/** Copies bytes both ways; the end of one side is the other's. */
function joinUnread(connection: Duplex, guest: Duplex): void {
  if (connection.destroyed || connection.closed) guest.destroy();
  else pipeline(connection, guest, connection, () => undefined);
}

/** Frames a message as gRPC does. */
function framed(message: SessionRequest): Buffer {
  const bytes = toBinary(SessionRequestSchema, message);
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + bytes.length);
  frame[0] = MESSAGE_FLAG;
  frame.writeUInt32BE(bytes.length, 1);
  frame.set(bytes, PREFIX_BYTES);
  return frame;
}

/** Sends until the requests end or the process is gone, which the receiving half tells. */
async function sendAll(child: ChildProcess, requests: AsyncIterable<SessionRequest>): Promise<void> {
  const stdin = child.stdin as Writable;
  stdin.on("error", () => undefined);
  for await (const request of requests) {
    const written = await new Promise<boolean>((resolve) => {
      stdin.write(framed(request), (error) => resolve(!error));
    });
    if (!written) return;
  }
}

async function* receive(child: ChildProcess, release: () => void): AsyncGenerator<SessionResponse> {
  try {
    for await (const { flag, bytes } of readFrames(child.stdout as Readable)) {
      if (flag === LAST_FLAG) {
        finish(bytes.toString("latin1"));
        return;
      }
      yield decode(bytes);
    }
    throw new HpccError("vm.lost", "the process of the guest's channel ended");
  } finally {
    release();
  }
}

interface Frame {
  readonly flag: number;
  readonly bytes: Buffer;
}

/** Cuts what the channel writes into frames. UNTRUSTED: guest (what is in them, and their sizes). */
async function* readFrames(stdout: Readable): AsyncGenerator<Frame> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  let wanted = PREFIX_BYTES;
  for await (const chunk of stdout as AsyncIterable<Buffer>) {
    held.push(chunk);
    heldBytes += chunk.length;
    if (heldBytes < wanted) continue;
    let bytes = held.length === 1 ? chunk : Buffer.concat(held, heldBytes);
    for (;;) {
      wanted = frameBytes(bytes);
      if (bytes.length < wanted) break;
      yield { flag: bytes[0] ?? 0, bytes: bytes.subarray(PREFIX_BYTES, wanted) };
      bytes = bytes.subarray(wanted);
    }
    held = bytes.length === 0 ? [] : [bytes];
    heldBytes = bytes.length;
  }
}

/** Size of the frame that begins the bytes, or of its prefix when that is not whole. */
function frameBytes(bytes: Buffer): number {
  if (bytes.length < PREFIX_BYTES) return PREFIX_BYTES;
  const [flag] = bytes;
  const length = bytes.readUInt32BE(1);
  if (flag !== MESSAGE_FLAG && flag !== LAST_FLAG) throw new Breach(`a message with flag ${flag}`);
  if (length > (flag === MESSAGE_FLAG ? MESSAGE_BYTES_MAX : LAST_BYTES_MAX))
    throw new Breach(`a message of ${length} bytes`);
  return PREFIX_BYTES + length;
}

function decode(bytes: Buffer): SessionResponse {
  try {
    return fromBinary(SessionResponseSchema, bytes);
  } catch {
    throw new Breach("a message that cannot be decoded");
  }
}

/** Reads the last frame; returns when the agent ended the stream well. UNTRUSTED: guest (its text). */
function finish(text: string): void {
  const [, word, rest = ""] = /^(status|lost|breach) (.*)$/.exec(text) ?? [];
  if (word === "lost") throw new HpccError("vm.lost", guestText(rest));
  const [, code, message = ""] = /^(\d{1,3}) (.*)$/.exec(rest) ?? [];
  if (word !== "status" || code === undefined) throw new Breach(guestText(rest));
  if (code === "0") return;
  const status = STATUSES.get(code);
  if (status === undefined) throw new Breach(`the unknown status ${code}`);
  throw new ConnectError(guestText(percentDecoded(message)), status);
}

/** As grpc-message is written (gRPC over HTTP/2, "Percent-Encoded"): what is no escape stands for itself. */
function percentDecoded(text: string): string {
  const bytes = text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString();
}
