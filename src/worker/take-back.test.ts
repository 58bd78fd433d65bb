// A guest that breaks its contract takes all that it made before with it. The agents are fake ones behind the worker's own session.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { type TestContext, test } from "node:test";
import { type Behaviour, exited, output, ready, takeExecution } from "../../test/support/fake-agent.ts";
import { FakeAgentRuntime } from "../../test/support/fake-agent-runtime.ts";
import { HELD_LIMITS } from "../../test/support/held-pool.ts";
import { TestWorker } from "../../test/support/test-worker.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import type { VmEventSink } from "../vm/pool.ts";
import { WarmVmPool } from "../vm/warm-vm-pool.ts";

const NEVER = { signal: new AbortController().signal };
const DEADLINES = { inputStallMs: 5_000, exitGraceMs: 5_000, outputStallMs: 5_000, cancelMs: 5_000, scrubMs: 5_000 };
const OBJECT = Buffer.from("an object");
const source = (name: string) => ({ files: [{ path: `/hpcc/project/${name}.c`, content: `int ${name};\n` }] });

/** Compiles, but for a source named `bad`, for which it answers what nobody asked; the first machine also does so after `breach`. */
function agent(breachOfFirst: Promise<void>): Behaviour {
  let machines = 0;
  return async function* (requests) {
    machines += 1;
    const breach = machines === 1 ? breachOfFirst : new Promise<void>(() => undefined);
    yield await ready(requests);
    for (;;) {
      const next = await Promise.race([takeExecution(requests), breach.then(() => null)]);
      if (next === null) break;
      const { execute, inputs } = next;
      if (execute.inputs.some(({ path }) => Buffer.from(path).toString().includes("bad"))) break;
      assert.equal(inputs.length, 1);
      yield exited(execute.executionId, { outputs: [OBJECT.length] });
      yield output(execute.executionId, 2, OBJECT);
    }
    yield exited(7_777n);
    while (!(await requests.next()).done);
  };
}

async function start(t: TestContext, breach: Promise<void> = new Promise(() => undefined), at?: string) {
  const events: string[] = [];
  const logger: Logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: (event) => void events.push(event),
    error: (event) => void events.push(event),
    with: () => logger,
  };
  const name = at === undefined ? "vm-fake" : "vm-later";
  const runtime = new FakeAgentRuntime({ behaviour: agent(breach), deadlines: DEADLINES, folder: tmpdir(), name });
  const limits = { ...HELD_LIMITS, parkedMax: 0, executionsPerVmMax: 1, vmsMax: 1 };
  const createPool = (sink: VmEventSink) =>
    new WarmVmPool({ runtime, limits, events: sink, clock: SYSTEM_CLOCK, logger });
  const worker = await TestWorker.start(t, {}, { createPool, logger }, at);
  return { worker, runtime, events };
}

async function compile(worker: TestWorker, name: string): Promise<string> {
  const client = await worker.client();
  return (await client.compile(await worker.job(source(name)), NEVER)).outcome;
}

test("after a breach the next equal call is compiled again, also by a worker that starts later", async (t) => {
  const { worker, runtime, events } = await start(t);
  assert.equal(await compile(worker, "a"), "compiled");
  assert.equal(await compile(worker, "b"), "compiled");
  assert.equal(await compile(worker, "a"), "hit");
  await assert.rejects(compile(worker, "bad"), { code: "vm.breach" });
  assert.equal(await compile(worker, "a"), "compiled");
  assert.equal(runtime.booted, 2);
  assert.equal(await compile(worker, "a"), "hit", "what the next machine made stays");
  await worker.stop();
  assert.ok(events.includes("store.actions.taken_back"), events.join());
  const notes = (await worker.rows()).map(({ envelope, row }) => `${row.vm} ${envelope.note}`);
  assert.ok(notes.includes("vm-fake-1 results taken back: 2 of vm vm-fake-1 (breach)"), notes.join("\n"));
  const again = await start(t, undefined, worker.folder);
  assert.equal(await compile(again.worker, "a"), "hit");
  assert.equal(await compile(again.worker, "b"), "compiled");
});

test("a breach while nothing runs takes results back, too", async (t) => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const { worker, runtime } = await start(t, promise);
  assert.equal(await compile(worker, "a"), "compiled");
  resolve();
  while (!(await worker.rows()).some(({ envelope }) => envelope.note.startsWith("results taken back")))
    await new Promise((turn) => setImmediate(turn));
  assert.deepEqual(
    runtime.ends.map(({ t: end }) => end),
    ["breach"],
  );
  assert.equal(await compile(worker, "a"), "compiled");
});

test("the answer of the job that met the breach comes after that, also while its machine is still being destroyed", async (t) => {
  const worker = await TestWorker.start(t);
  assert.equal(await compile(worker, "a"), "compiled");
  assert.equal(await compile(worker, "a"), "hit");
  // This pool never says that the machine has ended, and ends none.
  worker.pool.retire = () => undefined;
  worker.pool.failure = new HpccError("vm.breach", "it lied", { details: { vm: "vm-1" } });
  await assert.rejects(compile(worker, "b"), { code: "vm.breach" });
  worker.pool.failure = null;
  await assert.rejects(compile(worker, "a"), { code: "result.revoked" }, "no result of that VM is sent any more");
  assert.equal(worker.pool.executions, 3, "the equal call was compiled again");
});
