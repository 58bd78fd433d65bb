// An agent that floods, lies or hangs in mid-build: its machine is destroyed, and the build ends with the image's own compiler's
// objects. The agents are fake ones behind the worker's own session; the rest is a whole hpcc.
import assert from "node:assert/strict";
import { tmpdir } from "node:os";
import { before, test } from "node:test";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { VmEventSink } from "../../src/vm/pool.ts";
import { WarmVmPool } from "../../src/vm/warm-vm-pool.ts";
import { Differential } from "../support/differential.ts";
import { type Answer, type Behaviour, exited, output, ready, takeExecution } from "../support/fake-agent.ts";
import { FakeAgentRuntime } from "../support/fake-agent-runtime.ts";
import { Farm, IMAGE_FOLDER } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const FLOOD = 20_000;
/** An object that must not come to the caller: it follows what breaks the contract. */
const WRONG = Buffer.from("x");
const LIMITS = {
  placesMax: 4,
  vmsMax: 2,
  memoryBytesMax: 2 ** 30,
  vmMemoryBytes: 2 ** 20,
  vmVcpus: 1,
  vcpusMax: 2,
  executionsPerVmMax: 2,
  queuePerTenantMax: 8,
  idleMs: 60_000,
  tenureMs: 60_000,
  parkedMs: 60_000,
  parkedMax: 0,
  parkedDiskBytesMax: 0,
  sessionMs: 600_000,
  sparesMax: 0,
};
/** A hang is known this long after the execution's own limit. */
const DEADLINES = { inputStallMs: 2_000, exitGraceMs: 2_000, outputStallMs: 2_000, cancelMs: 2_000, scrubMs: 2_000 };

const AGENTS: Readonly<Record<string, (id: bigint) => AsyncIterable<Answer>>> = {
  async *"floods with tiny chunks"(id) {
    yield exited(id, { stdoutSize: FLOOD, outputs: [1] });
    for (let sent = 0; sent < FLOOD; sent += 1) yield output(id, 0, new Uint8Array(1));
    yield output(id, 2, WRONG);
  },
  async *"sends more than it has credit for"(id) {
    yield exited(id, { stderrSize: 1_000_000, outputs: [1] });
    for (let sent = 0; sent < 1_000_000; sent += 100_000) yield output(id, 1, new Uint8Array(100_000));
    yield output(id, 2, WRONG);
  },
  async *"answers for another job"() {
    yield exited(77n);
  },
  async *"promises an object and hangs"(id) {
    yield exited(id, { outputs: [100] });
  },
};

let image: string;
before(async () => {
  const farm = new Farm();
  await farm.init();
  image = (await farm.image("e2e")).digest;
  await farm.close();
});

for (const [what, answers] of Object.entries(AGENTS))
  test(`an agent that ${what}: its machine is destroyed, and the object is the image's own compiler's`, async () => {
    const behaviour: Behaviour = async function* (requests) {
      yield await ready(requests);
      const { execute } = await takeExecution(requests);
      yield* answers(execute.executionId);
      while (!(await requests.next()).done);
    };
    const runtime = new FakeAgentRuntime({ behaviour, deadlines: DEADLINES, folder: tmpdir() });
    const createPool = (events: VmEventSink) =>
      new WarmVmPool({ runtime, limits: LIMITS, events, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
    const farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], createPool });
    try {
      const differential = new Differential(farm, image, "project");
      const files = { "a.c": "int f(int a) { char c = a; return c; }\n" };
      const compared = await differential.compare({ name: what, argv: ["gcc", "-Wconversion", "-c", "a.c"], files });
      assert.deepEqual(compared.what, []);
      assert.deepEqual(compared.outcomes, ["local: remote_failed", "local: remote_failed"]);
      assert.ok(runtime.booted >= 2, "a machine that broke the contract is not used again");
      assert.equal(runtime.ends.length, runtime.booted);
      assert.ok(runtime.ends.every(({ t }) => t === "breach"));
    } finally {
      await farm.close();
    }
  });
