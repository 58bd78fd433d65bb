// The session against real servers that behave and misbehave. Time stands still unless a test moves it.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, it } from "node:test";
import { AGENT_STREAMS } from "../../../test/support/agent-streams.ts";
import {
  type Answer,
  type Behaviour,
  exited,
  FAKE_CREDIT_BYTES,
  FakeAgent,
  nextRequest,
  output,
  ready,
  takeExecution,
} from "../../../test/support/fake-agent.ts";
import { ascii } from "../../base/byte-string.ts";
import { type Clock, ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { ExecutionErrorCode, type SessionRequest } from "../../gen/hpcc/agent/v1/agent_pb.js";
import type { ExecutionInput, ExecutionRequest, ExecutionResult } from "../execution.ts";
import { dialGuest } from "./dial.ts";
import { AGENT_PORT, CHUNK_BYTES_MAX, DEFAULT_AGENT_DEADLINES } from "./limits.ts";
import { type OpenSession, openSession } from "./session.ts";
import type { OpenStream } from "./stream.ts";

type Requests = AsyncIterator<SessionRequest>;

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-session-"));
});
after(async () => {
  await rm(folder, { recursive: true });
});

const forever = new AbortController().signal;

function request(fields: Partial<ExecutionRequest> = {}): ExecutionRequest {
  return {
    argv: [ascii("/usr/bin/cc")],
    environment: [],
    cwd: ascii("/hpcc/project"),
    inputs: [],
    links: [],
    folders: [],
    outputs: [],
    limits: { wallMs: 1000, memoryBytes: 2 ** 30, pids: 10, outputBytes: 2 ** 24, stdioBytes: 2 ** 20 },
    terminalColumns: 0,
    ...fields,
  };
}

function input(bytes: Uint8Array): ExecutionInput {
  return {
    path: ascii("/hpcc/project/a.i"),
    executable: false,
    sizeBytes: bytes.length,
    frameSizeBytes: bytes.length,
    openFrame: () => [bytes],
  };
}

interface Fixture extends AsyncDisposable {
  readonly agent: FakeAgent;
  readonly session: OpenSession;
  execute(request: ExecutionRequest, signal?: AbortSignal): Promise<ExecutionResult>;
}

async function connectVia(
  openStream: OpenStream,
  behaviour: Behaviour,
  clock: Clock = SYSTEM_CLOCK,
  tellsTime = true,
): Promise<Fixture> {
  const agent = await FakeAgent.start(behaviour, { tellsTime });
  try {
    const socket = await dialGuest({
      socketPath: agent.socketPath,
      port: AGENT_PORT,
      clock: SYSTEM_CLOCK,
      signal: forever,
    });
    const session = await openSession(
      socket,
      { clock, deadlines: DEFAULT_AGENT_DEADLINES, folder, randomBytes, openStream },
      forever,
    );
    return {
      agent,
      session,
      execute: (wanted, signal = forever) => session.execute(wanted, { signal }),
      async [Symbol.asyncDispose]() {
        session.close();
        await agent[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await agent[Symbol.asyncDispose]();
    throw error;
  }
}

type Connect = (behaviour: Behaviour, clock?: Clock, tellsTime?: boolean) => Promise<Fixture>;

/** Ready, one execution taken, then whatever the test says. */
function afterOneExecution(rest: (id: bigint, requests: Requests) => AsyncIterable<Answer>): Behaviour {
  return async function* (requests) {
    yield await ready(requests);
    const { execute } = await takeExecution(requests);
    yield* rest(execute.executionId, requests);
    while (!(await requests.next()).done);
  };
}

/** Says nothing more. */
const silence = (): AsyncIterable<Answer> => Readable.from([]);

function withCode(code: string, pattern: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  };
}

for (const [through, openStream] of AGENT_STREAMS)
  describe(through, () => {
    const connect = (...given: Parameters<Connect>): Promise<Fixture> => connectVia(openStream, ...given);

    describe("a guest that keeps the contract", () => {
      it("has its clock corrected by the quickest of several readings, when its first answer took long", async () => {
        const clock = new ManualClock();
        const nowNs = (): bigint => BigInt(clock.wallMs()) * 1_000_000n;
        let behindNs = 2_345n * 1_000_000n;
        const steps: bigint[] = [];
        /** On the way there and back, in milliseconds. */
        const roundTrips = [
          [30, 10],
          [5, 1],
          [2, 2],
          [40, 20],
        ] as const;
        await using fixture = await connect(
          async function* (requests) {
            const answer = await ready(requests);
            clock.advance(900);
            yield answer;
            for (const [there, back] of roundTrips) {
              const message = await nextRequest(requests);
              assert.ok(message.case === "clock");
              steps.push(message.value.stepNs);
              clock.advance(there);
              behindNs -= message.value.stepNs;
              const wallTimeNs = nowNs() - behindNs;
              clock.advance(back);
              yield { case: "clock", value: { $typeName: "hpcc.agent.v1.ClockReading", wallTimeNs } };
            }
            const { execute } = await takeExecution(requests);
            yield exited(execute.executionId);
            while (!(await requests.next()).done);
          },
          clock,
          false,
        );
        await fixture.execute(request());
        assert.deepEqual(steps, [0n, 0n, 0n, 2_345n * 1_000_000n]);
        assert.equal(behindNs, 0n);
      });

      it("gets the inputs and gives the outputs by index", async () => {
        const source = randomBytes(300_000);
        let seen: readonly Buffer[] = [];
        let tree: readonly string[] = [];
        await using fixture = await connect(async function* (requests) {
          yield await ready(requests);
          const { execute, inputs } = await takeExecution(requests);
          seen = inputs;
          const text = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");
          const links = execute.links.map(({ path, target }) => `${text(path)} -> ${text(target)}`);
          tree = [...links, ...execute.folders.map(text)];
          yield exited(execute.executionId, { exitCode: 3, stderrSize: 4, outputs: [null, 70_000, 0] });
          yield output(execute.executionId, 1, Buffer.from("warn"));
          yield output(execute.executionId, 3, Buffer.alloc(60_000, 7));
          yield output(execute.executionId, 3, Buffer.alloc(10_000, 8));
          await nextRequest(requests).catch(() => undefined);
        });
        const result = await fixture.execute(
          request({
            inputs: [input(source), input(new Uint8Array())],
            outputs: ["/hpcc/a", "/hpcc/b", "/hpcc/c"].map(ascii),
            links: [{ path: ascii("/home/ann/l"), target: ascii("..//\xff") }],
            folders: [ascii("/home/ann/empty")],
          }),
        );
        assert.deepEqual(seen[0], source);
        assert.deepEqual(tree, ["/home/ann/l -> ..//\xff", "/home/ann/empty"]);
        assert.deepEqual(result.exit, { kind: "code", code: 3 });
        assert.equal((await result.stdout.bytes()).length, 0);
        assert.equal(Buffer.from(await result.stderr.bytes()).toString(), "warn");
        assert.equal(result.outputs[0], null);
        assert.deepEqual(
          await result.outputs[1]?.content.bytes(),
          Buffer.concat([Buffer.alloc(60_000, 7), Buffer.alloc(10_000, 8)]),
        );
        assert.equal(result.outputs[2]?.content.sizeBytes, 0);
        assert.equal((await result.outputs[2]?.content.bytes())?.length, 0);
        await result[Symbol.asyncDispose]();
      });

      it("gives a large output within its credit, through a file without a name", async () => {
        const size = 5 * 2 ** 20;
        const content = randomBytes(size);
        await using fixture = await connect(
          afterOneExecution(async function* (id, requests) {
            yield exited(id, { outputs: [size] });
            let credit = FAKE_CREDIT_BYTES;
            for (let offset = 0; offset < size; ) {
              while (credit === 0) {
                const message = await nextRequest(requests);
                assert.equal(message.case, "credit");
                credit += message.value.bytes;
              }
              const length = Math.min(credit, CHUNK_BYTES_MAX, size - offset);
              yield output(id, 2, content.subarray(offset, offset + length));
              offset += length;
              credit -= length;
            }
          }),
        );
        const result = await fixture.execute(request({ outputs: [ascii("/hpcc/a")] }));
        assert.deepEqual(await readdir(folder), []);
        assert.deepEqual(await result.outputs[0]?.content.bytes(), content);
        await result[Symbol.asyncDispose]();
      });

      it("takes the inputs of two executions in turn", async () => {
        const order: bigint[] = [];
        await using fixture = await connect(async function* (requests) {
          yield await ready(requests);
          for (let chunks = 0; chunks < 32; ) {
            const message = await nextRequest(requests);
            if (message.case !== "input") continue;
            order.push(message.value.executionId);
            chunks += 1;
          }
          for (const id of [2n, 1n]) yield exited(id);
          await nextRequest(requests).catch(() => undefined);
        });
        const big = input(Buffer.alloc(16 * CHUNK_BYTES_MAX));
        await Promise.all([1, 2].map(() => fixture.execute(request({ inputs: [big] }))));
        const turns = order.filter((id, index) => index > 0 && id !== order[index - 1]).length;
        assert.ok(turns >= 28, `${turns} changes of turn: ${order.join(" ")}`);
      });

      it("turns an execution's limit into an error and goes on", async () => {
        await using fixture = await connect(async function* (requests) {
          yield await ready(requests);
          const first = await takeExecution(requests);
          yield {
            case: "error",
            value: {
              $typeName: "hpcc.agent.v1.ExecutionError",
              executionId: first.execute.executionId,
              code: ExecutionErrorCode.MEMORY_LIMIT,
              message: "1 GiB\u001b[2J",
            },
          };
          const second = await takeExecution(requests);
          yield exited(second.execute.executionId);
          await nextRequest(requests).catch(() => undefined);
        });
        await assert.rejects(fixture.execute(request()), (error: unknown) => {
          assert.ok(error instanceof HpccError);
          assert.equal(error.code, "limit.exceeded");
          assert.equal(error.details["limit"], "memory");
          assert.match(error.message, /1 GiB\?\[2J/);
          return true;
        });
        assert.deepEqual((await fixture.execute(request())).exit, { kind: "code", code: 0 });
      });

      it("cancels, drops what was under way, and goes on", async () => {
        await using fixture = await connect(async function* (requests) {
          yield await ready(requests);
          const { execute } = await takeExecution(requests);
          const message = await nextRequest(requests);
          assert.equal(message.case, "cancel");
          yield exited(execute.executionId, { stdoutSize: 10 });
          yield output(execute.executionId, 0, Buffer.from("01234"));
          yield {
            case: "error",
            value: {
              $typeName: "hpcc.agent.v1.ExecutionError",
              executionId: execute.executionId,
              code: ExecutionErrorCode.CANCELLED,
              message: "",
            },
          };
          const second = await takeExecution(requests);
          yield exited(second.execute.executionId);
          await nextRequest(requests).catch(() => undefined);
        });
        const cancel = new AbortController();
        const sent = Promise.withResolvers<void>();
        const cancelled = fixture.session.execute(request(), {
          signal: cancel.signal,
          onProgress: () => sent.resolve(),
        });
        await sent.promise;
        cancel.abort();
        await assert.rejects(cancelled, withCode("job.cancelled", /cancelled/));
        await fixture.execute(request());
      });

      it("does not hear of an execution that was cancelled before", async () => {
        await using fixture = await connect(afterOneExecution(silence));
        await assert.rejects(fixture.execute(request(), AbortSignal.abort()), withCode("job.cancelled", /cancelled/));
      });

      it("is told to cancel when a source's frame is shorter than declared", async () => {
        await using fixture = await connect(async function* (requests) {
          yield await ready(requests);
          for (;;) {
            const message = await nextRequest(requests);
            if (message.case !== "cancel") continue;
            yield {
              case: "error",
              value: {
                $typeName: "hpcc.agent.v1.ExecutionError",
                executionId: 1n,
                code: ExecutionErrorCode.CANCELLED,
                message: "",
              },
            };
            break;
          }
          await nextRequest(requests).catch(() => undefined);
        });
        const short = { ...input(Buffer.alloc(10)), frameSizeBytes: 11 };
        await assert.rejects(fixture.execute(request({ inputs: [short] })), withCode("store.corrupt", /11 bytes/));
      });
    });

    describe("a guest that breaks the contract is a breach", () => {
      const cases: readonly {
        name: string;
        message: RegExp;
        outputs?: number;
        behaviour: (id: bigint) => AsyncIterable<Answer>;
      }[] = [
        {
          name: "another job's index",
          message: /execution 77, which does not run/,
          async *behaviour() {
            yield exited(77n);
          },
        },
        {
          name: "more bytes than declared",
          message: /more than the 3 bytes/,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 3 });
            yield output(id, 0, Buffer.from("four"));
          },
        },
        {
          name: "a size over the limit",
          outputs: 1,
          message: /output 0 has 16777217 bytes, over its limit/,
          async *behaviour(id) {
            yield exited(id, { outputs: [2 ** 24 + 1] });
          },
        },
        {
          name: "an output that was not declared",
          outputs: 1,
          message: /2 outputs where 1 were declared/,
          async *behaviour(id) {
            yield exited(id, { outputs: [1, 1] });
          },
        },
        {
          name: "outputs out of order",
          outputs: 1,
          message: /output 2 where 0 was due/,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 3, outputs: [3] });
            yield output(id, 2, Buffer.from("abc"));
          },
        },
        {
          name: "output before the exit",
          message: /output while an execution was running/,
          async *behaviour(id) {
            yield output(id, 0, Buffer.from("abc"));
          },
        },
        {
          name: "empty chunks",
          message: /a chunk of 0 bytes/,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 3 });
            yield output(id, 0, new Uint8Array());
          },
        },
        {
          name: "a flood of tiny chunks",
          message: /too many chunks/,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 20_000 });
            for (let sent = 0; sent < 20_000; sent += 1) yield output(id, 0, new Uint8Array(1));
          },
        },
        {
          name: "more output than credit",
          message: /more output than it had credit for/,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 1_000_000 });
            for (let sent = 0; sent < 1_000_000; sent += 100_000) yield output(id, 0, new Uint8Array(100_000));
          },
        },
        {
          name: "a message over the size limit",
          message: /./,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 500_000 });
            yield output(id, 0, new Uint8Array(500_000));
          },
        },
        {
          name: "two exits",
          message: /an exit while an execution was receiving/,
          async *behaviour(id) {
            yield exited(id, { stdoutSize: 3 });
            yield exited(id, { stdoutSize: 3 });
          },
        },
        {
          name: "an impossible exit code",
          message: /code 256/,
          async *behaviour(id) {
            yield exited(id, { exitCode: 256 });
          },
        },
        {
          name: "a second ready",
          message: /a ready that nobody asked for/,
          async *behaviour() {
            yield {
              case: "ready",
              value: {
                $typeName: "hpcc.agent.v1.Ready",
                protocolVersion: 1,
                nonce: new Uint8Array(),
                agentVersion: "",
                kernelRelease: "",
                uptimeMs: 0n,
                initialCreditBytes: 1,
              },
            };
          },
        },
        {
          name: "a message that says nothing",
          message: /says nothing/,
          async *behaviour() {
            yield { case: undefined };
          },
        },
      ];
      for (const { name, message, outputs = 0, behaviour } of cases)
        it(name, async () => {
          await using fixture = await connect(afterOneExecution(behaviour));
          await assert.rejects(
            fixture.execute(request({ outputs: Array.from({ length: outputs }, () => ascii("/hpcc/o")) })),
            withCode("vm.breach", message),
          );
          assert.equal((await fixture.session.ended).t, "breach");
          await assert.rejects(fixture.execute(request()), withCode("vm.breach", message));
        });

      for (const [name, message, answer] of [
        ["another message instead of the time", /exited, not the time/, exited(1n)],
        [
          "a time before 1970",
          /before 1970/,
          { case: "clock", value: { $typeName: "hpcc.agent.v1.ClockReading", wallTimeNs: -1n } },
        ],
      ] as const)
        it(name, async () => {
          const clock = new ManualClock();
          const connecting = connect(
            async function* (requests) {
              const first = await ready(requests);
              clock.advance(900);
              yield first;
              await nextRequest(requests);
              yield answer;
              while (!(await requests.next()).done);
            },
            clock,
            false,
          );
          await assert.rejects(connecting, withCode("vm.breach", message));
        });

      it("an echo of another nonce", async () => {
        await assert.rejects(
          connect(async function* (requests) {
            const answer = await ready(requests);
            assert.ok(answer.case === "ready");
            yield { case: "ready", value: { ...answer.value, nonce: new Uint8Array(32) } };
          }),
          withCode("vm.breach", /nonce/),
        );
      });
    });

    describe("silence", () => {
      async function waitFor(condition: () => boolean): Promise<void> {
        while (!condition()) await new Promise((resolve) => setImmediate(resolve));
      }

      it("after the time limit of an execution is a breach", async () => {
        const clock = new ManualClock();
        await using fixture = await connect(afterOneExecution(silence), clock);
        const sent = Promise.withResolvers<void>();
        const hung = fixture.session.execute(request(), { signal: forever, onProgress: () => sent.resolve() });
        await sent.promise;
        // The write of the request is done, so only the execution's own deadline is left.
        await waitFor(() => clock.pendingTimers === 1);
        clock.advance(1000 + DEFAULT_AGENT_DEADLINES.exitGraceMs);
        await assert.rejects(hung, withCode("vm.breach", /no answer long after its time limit/));
      });

      it("in the middle of an output is a breach", async () => {
        const clock = new ManualClock();
        await using fixture = await connect(
          afterOneExecution(async function* (id) {
            yield exited(id, { stdoutSize: 3 });
          }),
          clock,
        );
        let exits = 0;
        const hung = fixture.session.execute(request(), {
          signal: forever,
          onProgress: ({ t }) => {
            if (t === "exited") exits += 1;
          },
        });
        await waitFor(() => exits === 1);
        clock.advance(DEFAULT_AGENT_DEADLINES.outputStallMs);
        await assert.rejects(hung, withCode("vm.breach", /do not come/));
      });

      it("instead of the acknowledgement of a cancel is a breach after two seconds", async () => {
        const clock = new ManualClock();
        await using fixture = await connect(afterOneExecution(silence), clock);
        const cancel = new AbortController();
        const sent = Promise.withResolvers<void>();
        const hung = fixture.session.execute(request(), { signal: cancel.signal, onProgress: () => sent.resolve() });
        await sent.promise;
        cancel.abort();
        clock.advance(1_999);
        assert.equal(await Promise.race([fixture.session.ended, Promise.resolve("open")]), "open");
        clock.advance(1);
        await assert.rejects(hung, withCode("vm.breach", /not acknowledged/));
      });

      it("of a guest that takes no input is a breach", async () => {
        const clock = new ManualClock();
        await using fixture = await connect(async function* (requests) {
          yield await ready(requests);
          await new Promise((resolve) => {
            clock.after(1_000_000, () => resolve(null));
          });
        }, clock);
        let taken = 0;
        const endless: ExecutionInput = {
          ...input(Buffer.alloc(1)),
          frameSizeBytes: 2 ** 31,
          *openFrame() {
            for (;;) {
              taken += 1;
              yield Buffer.alloc(CHUNK_BYTES_MAX);
            }
          },
        };
        const hung = fixture.execute(request({ inputs: [endless] }));
        hung.catch(() => undefined);
        let before = -1;
        // The flow control of HTTP/2 lets some chunks through, then none.
        await waitFor(() => taken > 0);
        for (let quiet = 0; quiet < 200; quiet += 1) {
          if (taken !== before) quiet = 0;
          before = taken;
          await new Promise((resolve) => setImmediate(resolve));
        }
        clock.advance(DEFAULT_AGENT_DEADLINES.inputStallMs);
        await assert.rejects(hung, withCode("vm.breach", /takes no more input/));
        assert.ok(taken < 200, `${taken} chunks were read ahead of the guest`);
      });
    });

    describe("the end of a machine", () => {
      it("fails what runs with vm.lost", async () => {
        const running = Promise.withResolvers<void>();
        await using fixture = await connect(
          afterOneExecution(() => {
            running.resolve();
            return silence();
          }),
        );
        const lost = fixture.execute(request());
        await running.promise;
        fixture.agent.cut();
        await assert.rejects(lost, withCode("vm.lost", /./));
        assert.equal((await fixture.session.ended).t, "lost");
      });

      it("by us fails what runs with vm.lost", async () => {
        await using fixture = await connect(afterOneExecution(silence));
        const lost = fixture.execute(request());
        fixture.session.close();
        await assert.rejects(lost, withCode("vm.lost", /destroyed/));
        assert.equal((await fixture.session.ended).t, "closed");
      });

      it("dials once and never again", async () => {
        await using fixture = await connect(afterOneExecution(silence));
        fixture.agent.cut();
        await fixture.session.ended;
        await assert.rejects(fixture.execute(request()), withCode("vm.lost", /./));
        assert.equal(fixture.agent.dialled, 1);
      });
    });
  });
