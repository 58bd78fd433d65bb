// Scrubbing against real servers: agents that do it, and hostile ones that do not. Time stands still where a deadline is tried.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { AGENT_STREAMS } from "../../../test/support/agent-streams.ts";
import {
  type Answer,
  type Behaviour,
  exited,
  FakeAgent,
  nextRequest,
  ready,
  type ScrubFields,
  takeExecution,
  takeScrub,
} from "../../../test/support/fake-agent.ts";
import { ascii } from "../../base/byte-string.ts";
import { type Clock, ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import type { SessionRequest } from "../../gen/hpcc/agent/v1/agent_pb.js";
import type { ExecutionRequest } from "../execution.ts";
import { dialGuest } from "./dial.ts";
import { AGENT_PORT, DEFAULT_AGENT_DEADLINES } from "./limits.ts";
import { dialSession, scrubGuest } from "./scrub.ts";
import type { OpenSession, SessionOptions } from "./session.ts";
import type { OpenStream } from "./stream.ts";

type Requests = AsyncIterator<SessionRequest>;

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-scrub-"));
});
after(async () => {
  await rm(folder, { recursive: true });
});

const forever = new AbortController().signal;

const REQUEST: ExecutionRequest = {
  argv: [ascii("/usr/bin/cc")],
  environment: [],
  cwd: ascii("/hpcc/project"),
  inputs: [],
  links: [],
  folders: [],
  outputs: [],
  limits: { wallMs: 1000, memoryBytes: 2 ** 30, pids: 10, outputBytes: 2 ** 24, stdioBytes: 2 ** 20 },
  terminalColumns: 0,
};

interface Fixture extends AsyncDisposable {
  readonly agent: FakeAgent;
  readonly session: OpenSession;
  dial(signal: AbortSignal): Promise<Socket>;
  scrub(signal?: AbortSignal): Promise<OpenSession>;
}

/** An agent whose nth stream behaves as the nth of `streams`. */
async function connectVia(
  openStream: OpenStream,
  streams: readonly Behaviour[],
  clock: Clock = SYSTEM_CLOCK,
): Promise<Fixture> {
  let next = 0;
  const agent = await FakeAgent.start((requests) => {
    const behaviour = streams[next++];
    if (!behaviour) throw new Error("more streams than the test expects");
    return behaviour(requests);
  });
  const options: SessionOptions = { clock, deadlines: DEFAULT_AGENT_DEADLINES, folder, randomBytes, openStream };
  const dial = (signal: AbortSignal): Promise<Socket> =>
    dialGuest({ socketPath: agent.socketPath, port: AGENT_PORT, clock: SYSTEM_CLOCK, signal });
  try {
    const session = await dialSession(dial, options, forever);
    const opened = [session];
    return {
      agent,
      session,
      dial,
      async scrub(signal = forever) {
        const scrubbed = await scrubGuest(session, dial, options, signal);
        opened.push(scrubbed);
        return scrubbed;
      },
      async [Symbol.asyncDispose]() {
        for (const one of opened) one.close();
        await agent[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    await agent[Symbol.asyncDispose]();
    throw error;
  }
}

type Connect = (streams: readonly Behaviour[], clock?: Clock) => Promise<Fixture>;

/** Ready, executions that succeed, and the end of the stream at the scrub. */
function obedient(scrub?: ScrubFields): Behaviour {
  return async function* (requests) {
    yield await ready(requests, scrub);
    for (;;) {
      const message = await nextRequest(requests).catch(() => null);
      if (message === null || message.case === "scrub") return;
      if (message.case === "execute") yield exited(message.value.executionId);
    }
  };
}

/** Ready, then whatever the test says once the scrub has come. */
function onScrub(rest: (requests: Requests) => AsyncIterable<Answer>): Behaviour {
  return async function* (requests) {
    yield await ready(requests);
    await takeScrub(requests);
    yield* rest(requests);
  };
}

/** Says nothing until the worker goes. */
function silence(requests: Requests): AsyncIterable<Answer> {
  const untilTheEnd = async (): Promise<IteratorResult<Answer>> => {
    while (!(await requests.next()).done);
    return { done: true, value: undefined };
  };
  return { [Symbol.asyncIterator]: () => ({ next: untilTheEnd }) };
}

function withCode(code: string, pattern: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

for (const [through, openStream] of AGENT_STREAMS)
  describe(through, () => {
    const connect = (...given: Parameters<Connect>): Promise<Fixture> => connectVia(openStream, ...given);

    describe("a scrub", () => {
      it("ends the stream and goes on with a new one that says nothing was left", async () => {
        await using fixture = await connect([obedient(), obedient({ sequence: 1 })]);
        await fixture.session.execute(REQUEST, { signal: forever });
        const next = await fixture.scrub();
        assert.equal((await fixture.session.ended).t, "closed");
        await assert.rejects(fixture.session.execute(REQUEST, { signal: forever }), withCode("vm.lost", /./));
        assert.equal(next.ready.clearings, 1n);
        assert.deepEqual((await next.execute(REQUEST, { signal: forever })).exit, { kind: "code", code: 0 });
        assert.equal(fixture.agent.dialled, 2);
      });

      it("dials again as long as the agent closes connections at once", async () => {
        await using fixture = await connect([obedient({ sequence: 7 }), obedient({ sequence: 8 })]);
        fixture.agent.refusals = 20;
        assert.equal((await fixture.scrub()).ready.clearings, 8n);
        assert.equal(fixture.agent.dialled, 22);
      });

      it("does not dial again an agent that speaks another version", async () => {
        const agent = await FakeAgent.start(async function* (requests) {
          await requests.next();
          yield* [];
          throw new ConnectError("this agent speaks version 1", Code.FailedPrecondition);
        });
        try {
          const redial = (signal: AbortSignal) =>
            dialGuest({ socketPath: agent.socketPath, port: AGENT_PORT, clock: SYSTEM_CLOCK, signal });
          const options = { clock: SYSTEM_CLOCK, deadlines: DEFAULT_AGENT_DEADLINES, folder, randomBytes, openStream };
          await assert.rejects(dialSession(redial, options, forever), withCode("vm.breach", /speaks version 1/));
          assert.equal(agent.dialled, 1);
        } finally {
          await agent[Symbol.asyncDispose]();
        }
      });

      it("takes no execution while it is under way", async () => {
        await using fixture = await connect([obedient(), obedient({ sequence: 1 })]);
        const scrubbed = fixture.scrub();
        await assert.rejects(fixture.session.execute(REQUEST, { signal: forever }), withCode("vm.lost", /scrubbed/));
        await scrubbed;
      });

      it("while something executes is a bug of the caller", async () => {
        await using fixture = await connect([
          async function* (requests) {
            yield await ready(requests);
            await takeExecution(requests);
            yield* silence(requests);
          },
        ]);
        const running = fixture.session.execute(REQUEST, { signal: forever });
        running.catch(() => undefined);
        await assert.rejects(fixture.session.scrub(), /^Error: bug: /);
      });

      it("ends with its caller's signal, and so does the session", async () => {
        await using fixture = await connect([onScrub(silence)]);
        const reason = new HpccError("job.cancelled", "nobody waits");
        const giveUp = new AbortController();
        const scrubbed = fixture.scrub(giveUp.signal);
        giveUp.abort(reason);
        await assert.rejects(scrubbed, reason);
        assert.equal(fixture.session.alive, false);
      });

      it("of a machine that goes is a loss", async () => {
        const asked = Promise.withResolvers<void>();
        await using fixture = await connect([
          onScrub((requests) => {
            asked.resolve();
            return silence(requests);
          }),
        ]);
        const scrubbed = fixture.scrub();
        await asked.promise;
        fixture.agent.cut();
        await assert.rejects(scrubbed, withCode("vm.lost", /./));
      });
    });

    describe("a hostile agent's scrub is a breach:", () => {
      const lies: readonly { name: string; message: RegExp; first?: ScrubFields; second?: ScrubFields }[] = [
        { name: "a process is left", message: /1 processes/, second: { sequence: 1, processesLeft: 1 } },
        { name: "a mount is left", message: /2 mounts/, second: { sequence: 1, mountsLeft: 2 } },
        { name: "an IPC object is left", message: /3 IPC/, second: { sequence: 1, ipcLeft: 3 } },
        {
          name: "so much is left that the sum runs over",
          message: /4294967295 processes/,
          second: { sequence: 1, processesLeft: 2 ** 32 - 1, mountsLeft: 1 },
        },
        { name: "no report", message: /cleared nothing away/ },
        {
          name: "the report of the clearing before",
          message: /cleared nothing away/,
          first: { sequence: 4 },
          second: { sequence: 4 },
        },
        { name: "an older report", message: /cleared nothing/, first: { sequence: 4 }, second: { sequence: 3 } },
        { name: "a report without a number", message: /without a number/, second: { sequence: 0 } },
      ];
      for (const { name, message, first, second } of lies)
        it(name, async () => {
          await using fixture = await connect([obedient(first), obedient(second)]);
          await assert.rejects(fixture.scrub(), withCode("vm.breach", message));
          assert.equal(fixture.session.alive, false);
        });

      it("something was left before the first stream", async () => {
        await assert.rejects(
          connect([obedient({ sequence: 1, processesLeft: 1 })]),
          withCode("vm.breach", /1 processes/),
        );
      });

      it("it goes on talking", async () => {
        await using fixture = await connect([
          onScrub(async function* (requests) {
            yield exited(1n);
            yield* silence(requests);
          }),
        ]);
        await assert.rejects(fixture.scrub(), withCode("vm.breach", /execution 1, which does not run/));
      });

      it("it says that it is ready on the old stream", async () => {
        await using fixture = await connect([
          async function* (requests) {
            const answer = await ready(requests);
            yield answer;
            await takeScrub(requests);
            yield answer;
            yield* silence(requests);
          },
        ]);
        await assert.rejects(fixture.scrub(), withCode("vm.breach", /a ready that nobody asked for/));
      });

      it("its stream never ends", async () => {
        const clock = new ManualClock();
        const asked = Promise.withResolvers<void>();
        await using fixture = await connect(
          [
            onScrub((requests) => {
              asked.resolve();
              return silence(requests);
            }),
          ],
          clock,
        );
        const scrubbed = fixture.scrub();
        scrubbed.catch(() => undefined);
        await asked.promise;
        clock.advance(DEFAULT_AGENT_DEADLINES.scrubMs - 1);
        assert.equal(await Promise.race([fixture.session.ended, Promise.resolve("open")]), "open");
        clock.advance(1);
        await assert.rejects(scrubbed, withCode("vm.breach", /scrub did not end in time/));
      });

      it("it refuses for ever", async () => {
        const clock = new ManualClock();
        await using fixture = await connect([obedient()], clock);
        fixture.agent.refusals = Number.POSITIVE_INFINITY;
        const scrubbed = fixture.scrub();
        scrubbed.catch(() => undefined);
        await waitFor(() => fixture.agent.dialled > 5);
        clock.advance(DEFAULT_AGENT_DEADLINES.scrubMs);
        await assert.rejects(scrubbed, withCode("vm.breach", /scrub did not end in time/));
      });

      it("its new stream says nothing", async () => {
        const clock = new ManualClock();
        await using fixture = await connect([obedient(), silence], clock);
        const scrubbed = fixture.scrub();
        scrubbed.catch(() => undefined);
        await waitFor(() => fixture.agent.dialled === 2);
        clock.advance(DEFAULT_AGENT_DEADLINES.scrubMs);
        await assert.rejects(scrubbed, withCode("vm.breach", /scrub did not end in time/));
      });

      it("the low-level half alone has its deadline too", async () => {
        const clock = new ManualClock();
        const asked = Promise.withResolvers<void>();
        await using fixture = await connect(
          [
            onScrub((requests) => {
              asked.resolve();
              return silence(requests);
            }),
          ],
          clock,
        );
        const scrubbed = fixture.session.scrub();
        scrubbed.catch(() => undefined);
        await asked.promise;
        clock.advance(DEFAULT_AGENT_DEADLINES.scrubMs);
        await assert.rejects(scrubbed, withCode("vm.breach", /did not end its stream/));
        assert.equal((await fixture.session.ended).t, "breach");
      });
    });
  });
