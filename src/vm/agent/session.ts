// The one stream of a machine: executions multiplexed on a dialled connection, everything that comes checked. It owns the
// connection; whoever owns the machine acts on how the session ended.

import type { Duplex } from "node:stream";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../base/clock.ts";
import { type ErrorCode, HpccError } from "../../base/errors.ts";
import {
  type Ready,
  type SessionRequest,
  SessionRequestSchema,
  type SessionResponse,
} from "../../gen/hpcc/agent/v1/agent_pb.js";
import type { ExecuteOptions, ExecutionRequest, ExecutionResult } from "../execution.ts";
import type { AgentSession } from "../runtime.ts";
import { Execution } from "./execution.ts";
import { inputMessages, makeExecute } from "./input-messages.ts";
import {
  type AgentDeadlines,
  CLOCK_OFF_MS_MAX,
  CLOCK_READINGS_MAX,
  CREDIT_BYTES_MAX,
  PROTOCOL_VERSION,
  TEXT_LENGTH_MAX,
} from "./limits.ts";
import { Outbox, type OutboxSource } from "./outbox.ts";
import { MemoryBudget } from "./received.ts";
import { Breach, checkScrubReport, guestText } from "./reply.ts";
import type { OpenStream } from "./stream.ts";

/** Memory that results of one session hold together before all go to files. */
const RESULT_MEMORY_BYTES = 64 * 1024 * 1024;
const NONCE_BYTES = 32;

export interface SessionOptions {
  readonly clock: Clock;
  readonly deadlines: AgentDeadlines;
  /** Where larger outputs are kept. */
  readonly folder: string;
  /** Random bytes: a nonce, and entropy for the guest. */
  readonly randomBytes: (count: number) => Uint8Array;
  /** Who speaks HTTP/2 with the guest: a process that can do nothing else. */
  readonly openStream: OpenStream;
}

/** How a session ended: it was closed, the machine is gone, or its guest broke the contract. */
export type SessionEnd =
  | { readonly t: "closed" }
  | { readonly t: "lost"; readonly detail: string }
  | { readonly t: "breach"; readonly detail: string };

/** What the agent said of itself; bounded and printable. */
export interface AgentReady {
  readonly agentVersion: string;
  readonly kernelRelease: string;
  readonly uptimeMs: number;
  /** How often it has cleared everything away since its boot; the last time nothing was left. */
  readonly clearings: bigint;
}

export interface OpenSession extends AgentSession {
  readonly ready: AgentReady;
  readonly alive: boolean;
  /** Settles once, never rejects. */
  readonly ended: Promise<SessionEnd>;
  /**
   * Has the guest end the stream, after which it clears everything away; only while nothing executes. Settles when the stream
   * has ended, `ended` then being `closed`. What was left is said on the next stream: see `scrubGuest`. Rejects with
   * `vm.breach` when the stream does not end in time, `vm.lost` when the connection ends otherwise.
   */
  scrub(): Promise<void>;
  /** Ends it and the connection; executions that run fail with `vm.lost`. */
  close(): void;
}

interface Running {
  readonly execution: Execution;
  /** The guest has heard of it, or is about to. */
  begun: boolean;
}

/** Opens the stream on a dialled connection; on failure or abort the connection is gone. */
export async function openSession(
  connection: Duplex,
  options: SessionOptions,
  signal: AbortSignal,
): Promise<OpenSession> {
  const session = new StreamSession(connection, options);
  const abort = (): void => session.close();
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    return await session.start();
  } catch (error) {
    session.close();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

class StreamSession implements OpenSession {
  ready: AgentReady = { agentVersion: "", kernelRelease: "", uptimeMs: 0, clearings: 0n };
  readonly ended: Promise<SessionEnd>;
  readonly #connection: Duplex;
  readonly #options: SessionOptions;
  readonly #outbox: Outbox;
  readonly #abort = new AbortController();
  readonly #running = new Map<bigint, Running>();
  readonly #budget = new MemoryBudget(RESULT_MEMORY_BYTES);
  #nextId = 1n;
  #creditBytes = 0;
  #end: SessionEnd | null = null;
  #scrub: "none" | "asked" | "ended" = "none";
  #resolveEnded!: (end: SessionEnd) => void;

  constructor(connection: Duplex, options: SessionOptions) {
    this.#connection = connection;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve;
    });
    this.#outbox = new Outbox({
      clock: options.clock,
      stallMs: options.deadlines.inputStallMs,
      stalled: () => this.#finish({ t: "breach", detail: "the guest takes no more input" }),
    });
  }

  get alive(): boolean {
    return this.#end === null;
  }

  /** Sends Start and waits for Ready. */
  async start(): Promise<this> {
    const responses = this.#open()[Symbol.asyncIterator]();
    const nonce = this.#options.randomBytes(NONCE_BYTES);
    const { clock } = this.#options;
    const startedMs = clock.monotonicMs();
    this.#send({
      case: "start",
      value: {
        $typeName: "hpcc.agent.v1.Start",
        protocolVersion: PROTOCOL_VERSION,
        nonce,
        entropy: this.#options.randomBytes(32),
        wallTimeNs: BigInt(clock.wallMs()) * 1_000_000n,
      },
    });
    try {
      const first = await responses.next();
      if (first.done) throw new Breach("the agent ended the stream before it was ready");
      this.#acceptReady(first.value, nonce);
      // The clock was set at some time between the two.
      if (clock.monotonicMs() - startedMs > CLOCK_OFF_MS_MAX) await this.#correctClock(responses);
    } catch (error) {
      this.#finish(endOf(error));
      if (error instanceof HpccError && error.code === "tool.missing") throw error;
      const end = this.#end ?? endOf(error);
      throw this.#errorOf(end);
    }
    void this.#receive(responses);
    return this;
  }

  async execute(request: ExecutionRequest, options: ExecuteOptions): Promise<ExecutionResult> {
    if (options.signal.aborted) throw new HpccError("job.cancelled", "the compile was cancelled");
    if (this.#end) throw this.#errorOf(this.#end);
    if (this.#scrub !== "none") throw new HpccError("vm.lost", "the microVM is being scrubbed");
    const executionId = this.#nextId++;
    const execute = makeExecute(executionId, request);
    const execution = new Execution(request, options, {
      clock: this.#options.clock,
      deadlines: this.#options.deadlines,
      budget: this.#budget,
      folder: this.#options.folder,
      creditBytes: this.#creditBytes,
      sendCredit: (bytes) =>
        this.#send({ case: "credit", value: { $typeName: "hpcc.agent.v1.Credit", executionId, bytes } }),
      sendCancel: () => {
        this.#outbox.remove(source);
        if (!running.begun) return false;
        this.#send({ case: "cancel", value: { $typeName: "hpcc.agent.v1.Cancel", executionId } });
        return true;
      },
      breach: (detail) => this.#finish({ t: "breach", detail }),
      settled: () => {
        this.#outbox.remove(source);
        this.#running.delete(executionId);
      },
    });
    const source: OutboxSource = {
      messages: inputMessages(execute, request.inputs),
      taken: (last) => {
        running.begun = true;
        if (last) execution.inputSent();
      },
      failed: (error) => execution.cancel(error instanceof Error ? error : new Error(String(error))),
    };
    const running: Running = { execution, begun: false };
    this.#running.set(executionId, running);
    const cancel = (): void => execution.cancel(new HpccError("job.cancelled", "the compile was cancelled"));
    options.signal.addEventListener("abort", cancel);
    try {
      this.#outbox.add(source);
      return await execution.result;
    } finally {
      options.signal.removeEventListener("abort", cancel);
    }
  }

  async scrub(): Promise<void> {
    if (this.#end) throw this.#errorOf(this.#end);
    if (this.#running.size > 0 || this.#scrub !== "none") throw new Error("bug: a scrub while the session is in use");
    this.#scrub = "asked";
    const deadline = this.#options.clock.after(this.#options.deadlines.scrubMs, () =>
      this.#finish({ t: "breach", detail: "the guest did not end its stream when it was to be scrubbed" }),
    );
    this.#send({ case: "scrub", value: { $typeName: "hpcc.agent.v1.Scrub" } });
    const end = await this.ended;
    deadline.cancel();
    if (end.t !== "closed" || !this.#scrubbed()) throw this.#errorOf(end);
  }

  close(): void {
    this.#finish({ t: "closed" });
  }

  #open(): AsyncIterable<SessionResponse> {
    return this.#options.openStream(this.#connection, this.#outbox.stream(), this.#abort.signal);
  }

  async #receive(responses: AsyncIterator<SessionResponse>): Promise<void> {
    try {
      for (;;) {
        const next = await responses.next();
        if (next.done) {
          if (this.#scrub !== "asked") throw new HpccError("vm.lost", "the agent ended the stream");
          this.#scrub = "ended";
          this.#finish({ t: "closed" });
          return;
        }
        await this.#dispatch(next.value);
        if (this.#end) return;
      }
    } catch (error) {
      this.#finish(endOf(error));
    }
  }

  /** UNTRUSTED: guest. */
  async #dispatch({ message }: SessionResponse): Promise<void> {
    if (message.case === undefined || message.case === "ready" || message.case === "clock")
      throw new Breach(message.case ? `a ${message.case} that nobody asked for` : "a message that says nothing");
    const { executionId } = message.value;
    const running = this.#running.get(executionId);
    if (!running?.begun) throw new Breach(`a message for execution ${executionId}, which does not run`);
    switch (message.case) {
      case "exited":
        running.execution.exited(message.value);
        break;
      case "output":
        await running.execution.output(message.value);
        break;
      case "error":
        running.execution.error(message.value);
    }
  }

  /** UNTRUSTED: guest. */
  #acceptReady({ message }: SessionResponse, nonce: Uint8Array): void {
    if (message.case !== "ready") throw new Breach("its first message is not ready");
    const ready: Ready = message.value;
    if (ready.protocolVersion !== PROTOCOL_VERSION)
      throw new Breach(`the agent speaks version ${ready.protocolVersion}, not ${PROTOCOL_VERSION}`);
    if (Buffer.compare(ready.nonce, nonce) !== 0) throw new Breach("ready has another nonce");
    if (ready.initialCreditBytes === 0 || ready.initialCreditBytes > CREDIT_BYTES_MAX)
      throw new Breach(`an initial credit of ${ready.initialCreditBytes} bytes`);
    if (ready.agentVersion.length > TEXT_LENGTH_MAX || ready.kernelRelease.length > TEXT_LENGTH_MAX)
      throw new Breach("a version that is too long");
    const clearings = checkScrubReport(ready.lastScrub);
    this.#creditBytes = ready.initialCreditBytes;
    this.ready = {
      agentVersion: guestText(ready.agentVersion),
      kernelRelease: guestText(ready.kernelRelease),
      uptimeMs: Number(ready.uptimeMs),
      clearings,
    };
  }

  /** Steps the guest's clock by what it is off, as the reading with the shortest round trip says (Cristian's algorithm). */
  async #correctClock(responses: AsyncIterator<SessionResponse>): Promise<void> {
    const { clock } = this.#options;
    let best = { roundTripMs: Number.POSITIVE_INFINITY, offNs: 0n };
    for (let readings = 0; readings < CLOCK_READINGS_MAX && best.roundTripMs > CLOCK_OFF_MS_MAX; readings += 1) {
      const sentMs = clock.monotonicMs();
      const guestNs = await this.#stepClock(responses, 0n);
      const roundTripMs = clock.monotonicMs() - sentMs;
      if (roundTripMs >= best.roundTripMs) continue;
      const underWayNs = BigInt(Math.round((roundTripMs / 2) * 1e6));
      best = { roundTripMs, offNs: guestNs + underWayNs - BigInt(clock.wallMs()) * 1_000_000n };
    }
    await this.#stepClock(responses, -best.offNs);
  }

  /** UNTRUSTED: guest, which can be wrong about its own time only. Gives its time in nanoseconds since 1970. */
  async #stepClock(responses: AsyncIterator<SessionResponse>, stepNs: bigint): Promise<bigint> {
    this.#send({ case: "clock", value: { $typeName: "hpcc.agent.v1.Clock", stepNs } });
    const answer = await responses.next();
    if (answer.done) throw new Breach("the agent ended the stream instead of telling the time");
    const { message } = answer.value;
    if (message.case !== "clock") throw new Breach(`${message.case ?? "a message that says nothing"}, not the time`);
    if (message.value.wallTimeNs < 0n) throw new Breach("a time before 1970");
    return message.value.wallTimeNs;
  }

  #scrubbed(): boolean {
    return this.#scrub === "ended";
  }

  #send(message: SessionRequest["message"]): void {
    this.#outbox.control(create(SessionRequestSchema, { message }));
  }

  #finish(end: SessionEnd): void {
    if (this.#end) return;
    this.#end = end;
    this.#outbox.end();
    this.#abort.abort();
    this.#connection.destroy();
    const error = this.#errorOf(end);
    for (const { execution } of this.#running.values()) execution.lost(error);
    this.#resolveEnded(end);
  }

  #errorOf(end: SessionEnd): HpccError {
    switch (end.t) {
      case "closed":
        return new HpccError("vm.lost", "the microVM was destroyed");
      case "lost":
        return new HpccError("vm.lost", end.detail);
      case "breach":
        return new HpccError("vm.breach", `the guest broke its contract: ${end.detail}`);
    }
    throw new Error("bug: unknown end of a session");
  }
}

/**
 * A message that cannot be decoded is the guest's breach, and so is an agent that refuses the version spoken here: it would again;
 * a connection that ends is a machine lost.
 */
const BREACH_CODES = new Set([
  Code.ResourceExhausted,
  Code.InvalidArgument,
  Code.FailedPrecondition,
  Code.Internal,
  Code.DataLoss,
]);

function endOf(error: unknown): SessionEnd {
  if (error instanceof Breach) return { t: "breach", detail: error.message };
  if (error instanceof HpccError) {
    const code: ErrorCode = error.code;
    return { t: code === "vm.breach" ? "breach" : "lost", detail: error.message };
  }
  const connectError = ConnectError.from(error);
  const detail = guestText(connectError.rawMessage);
  return BREACH_CODES.has(connectError.code) ? { t: "breach", detail } : { t: "lost", detail };
}
