// A real server in an agent's place: it listens on a Unix socket, speaks CONNECT as a vsock device does, and serves AgentService
// over HTTP/2. What it answers is the test's: a well-behaved guest is the default, hostile ones are named for what they do.

import { mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttp2Server, type Http2Server } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import {
  AgentService,
  type Execute,
  type SessionRequest,
  type SessionResponse,
  SessionResponseSchema,
} from "../../src/gen/hpcc/agent/v1/agent_pb.js";

export type Answer = SessionResponse["message"];

/** What a guest makes of the requests that come; it ends the stream by returning. */
export type Behaviour = (requests: AsyncIterator<SessionRequest>) => AsyncIterable<Answer>;

export const FAKE_CREDIT_BYTES = 64 * 1024;

export class FakeAgent implements AsyncDisposable {
  readonly socketPath: string;
  /** Connections that were dialled. */
  dialled = 0;
  /** Connections to come that are closed at once, as while an agent clears away. */
  refusals = 0;
  readonly #folder: string;
  readonly #server: Server;
  readonly #http2: Http2Server;
  readonly #sockets = new Set<Socket>();

  private constructor(folder: string, behaviour: Behaviour, tellsTime: boolean) {
    this.#folder = folder;
    this.socketPath = join(folder, "vsock");
    this.#http2 = createHttp2Server(
      connectNodeAdapter({
        routes: (router) =>
          router.service(AgentService, {
            async *session(requests) {
              const behave = tellsTime ? tellingTheTime : (told: AsyncIterator<SessionRequest>) => behaviour(told);
              for await (const message of behave(requests[Symbol.asyncIterator](), behaviour))
                yield create(SessionResponseSchema, { message });
            },
          }),
      }),
    );
    this.#http2.on("sessionError", () => undefined);
    this.#server = createServer((socket) => this.#connected(socket));
  }

  /** The behaviour sees no question for the time, unless it is to answer them itself. */
  static async start(behaviour: Behaviour, { tellsTime = true } = {}): Promise<FakeAgent> {
    const agent = new FakeAgent(await mkdtemp(join(tmpdir(), "hpcc-agent-")), behaviour, tellsTime);
    await new Promise<void>((resolve) => agent.#server.listen(agent.socketPath, resolve));
    return agent;
  }

  /** Cuts all connections, as the end of a machine does. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#folder, { recursive: true, force: true });
  }

  #connected(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => undefined);
    socket.once("data", (line: Buffer) => {
      if (!/^CONNECT \d+\n$/.test(line.toString("latin1"))) {
        socket.destroy();
        return;
      }
      this.dialled += 1;
      socket.write("OK 1073741824\n");
      if (this.refusals > 0) {
        this.refusals -= 1;
        socket.destroy();
        return;
      }
      this.#http2.emit("connection", socket);
    });
  }
}

/** A behaviour beside which every question for the time is answered, also while it does not ask for requests. */
async function* tellingTheTime(requests: AsyncIterator<SessionRequest>, behaviour: Behaviour): AsyncIterable<Answer> {
  const times: Answer[] = [];
  let told = Promise.withResolvers<void>();
  const nextOther = async (): Promise<IteratorResult<SessionRequest>> => {
    for (;;) {
      const next = await requests.next();
      if (next.done || next.value.message.case !== "clock") return next;
      const wallTimeNs = BigInt(Date.now()) * 1_000_000n;
      times.push({ case: "clock", value: { $typeName: "hpcc.agent.v1.ClockReading", wallTimeNs } });
      told.resolve();
    }
  };
  const ahead: { next?: Promise<IteratorResult<SessionRequest>> } = {};
  const answers = behaviour({
    next: () => {
      const next = ahead.next ?? nextOther();
      delete ahead.next;
      return next;
    },
  })[Symbol.asyncIterator]();
  let started = false;
  for (;;) {
    const answer = answers.next();
    let done = null;
    do {
      done = await Promise.race([answer, told.promise.then(() => null)]);
      if (done) break;
      told = Promise.withResolvers<void>();
      yield* times.splice(0);
    } while (!done);
    if (done.done) return;
    yield done.value;
    if (!started) {
      // Nothing but questions for the time is taken from a behaviour that asks for nothing.
      started = true;
      ahead.next = nextOther();
      ahead.next.catch(() => undefined);
    }
  }
}

/** The next request; throws when the worker ended the stream. */
export async function nextRequest(requests: AsyncIterator<SessionRequest>): Promise<SessionRequest["message"]> {
  const next = await requests.next();
  if (next.done) throw new Error("the worker ended the stream");
  return next.value.message;
}

/** What a clearing left. */
export interface ScrubFields {
  readonly sequence: number;
  readonly processesLeft?: number;
  readonly mountsLeft?: number;
  readonly ipcLeft?: number;
}

/** Answers Start as an agent does, with a report of the last clearing if there was one. */
export async function ready(requests: AsyncIterator<SessionRequest>, scrub?: ScrubFields): Promise<Answer> {
  const start = await nextRequest(requests);
  if (start.case !== "start") throw new Error(`the first message is ${String(start.case)}`);
  return {
    case: "ready",
    value: {
      $typeName: "hpcc.agent.v1.Ready",
      protocolVersion: start.value.protocolVersion,
      nonce: start.value.nonce,
      agentVersion: "fake",
      kernelRelease: "none",
      uptimeMs: 1n,
      initialCreditBytes: FAKE_CREDIT_BYTES,
      ...(scrub && {
        lastScrub: {
          $typeName: "hpcc.agent.v1.ScrubReport",
          processesLeft: scrub.processesLeft ?? 0,
          mountsLeft: scrub.mountsLeft ?? 0,
          ipcLeft: scrub.ipcLeft ?? 0,
          durationUs: 1000n,
          sequence: BigInt(scrub.sequence),
        },
      }),
    },
  };
}

/** Waits for Scrub. */
export async function takeScrub(requests: AsyncIterator<SessionRequest>): Promise<void> {
  const message = await nextRequest(requests);
  if (message.case !== "scrub") throw new Error(`expected a scrub, not ${String(message.case)}`);
}

/** Waits for an Execute and all of its input; gives both. Other executions' messages must not come meanwhile. */
export async function takeExecution(
  requests: AsyncIterator<SessionRequest>,
): Promise<{ readonly execute: Execute; readonly inputs: readonly Buffer[] }> {
  const first = await nextRequest(requests);
  if (first.case !== "execute") throw new Error(`expected an execution, not ${String(first.case)}`);
  const inputs = first.value.inputs.map(() => Buffer.alloc(0));
  let bytesLeft = first.value.inputs.reduce((sum, input) => sum + Number(input.frameSize), 0);
  while (bytesLeft > 0) {
    const message = await nextRequest(requests);
    if (message.case !== "input") throw new Error(`expected input, not ${String(message.case)}`);
    const { inputIndex, data } = message.value;
    inputs[inputIndex] = Buffer.concat([inputs[inputIndex] ?? Buffer.alloc(0), data]);
    bytesLeft -= data.length;
  }
  return { execute: first.value, inputs };
}

export interface ExitedFields {
  readonly exitCode?: number;
  readonly signal?: number;
  readonly stdoutSize?: number;
  readonly stderrSize?: number;
  /** Sizes; null for an output that is absent. */
  readonly outputs?: readonly (number | null)[];
}

export function exited(executionId: bigint, fields: ExitedFields = {}): Answer {
  return {
    case: "exited",
    value: {
      $typeName: "hpcc.agent.v1.Exited",
      executionId,
      exitCode: fields.exitCode ?? 0,
      signal: fields.signal ?? 0,
      wallUs: 5n,
      cpuUs: 4n,
      memoryPeakBytes: 3n,
      stdoutSize: BigInt(fields.stdoutSize ?? 0),
      stderrSize: BigInt(fields.stderrSize ?? 0),
      outputs: (fields.outputs ?? []).map((size) => ({
        $typeName: "hpcc.agent.v1.OutputState",
        present: size !== null,
        size: BigInt(size ?? 0),
        executable: false,
      })),
    },
  };
}

export function output(executionId: bigint, streamIndex: number, data: Uint8Array): Answer {
  return { case: "output", value: { $typeName: "hpcc.agent.v1.OutputChunk", executionId, streamIndex, data } };
}
