// `hpcc worker` from the sources, in a process of its own, whose microVMs are guests behind fake agents: each runs its jobs in sandboxes
// of the unpacked image, one at a time, until the source of one of them takes it over. Configuration, certificates, peers, pool, rows
// and signals are the program's own.
// The last argument is the configuration. GUEST_ROOTFS: the unpacked image. GUEST_WORKER_DEAF, when set: it reads no peer's revocations.
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { byteStringOf } from "../../src/base/byte-string.ts";
import type { Execute, SessionRequest } from "../../src/gen/hpcc/agent/v1/agent_pb.js";
import { runWorker } from "../../src/programs/worker.ts";
import type { ExecutionRequest } from "../../src/vm/execution.ts";
import { Announcer } from "../../src/worker/peers/announcer.ts";
import { RevocationExchange } from "../../src/worker/peers/revocation-exchange.ts";
import { type Answer, type Behaviour, exited, output, ready, takeExecution } from "./fake-agent.ts";
import { FakeAgentRuntime } from "./fake-agent-runtime.ts";
import { BREACH, EXPLOIT, TOLD } from "./guest-words.ts";
import { originalMethod } from "./original-method.ts";
import { runInSandbox } from "./sandbox-pool.ts";

const DEADLINES = {
  inputStallMs: 30_000,
  exitGraceMs: 30_000,
  outputStallMs: 30_000,
  cancelMs: 30_000,
  scrubMs: 30_000,
};

const rootfs = process.env["GUEST_ROOTFS"];
const config = process.argv.at(-1);
if (rootfs === undefined || config === undefined) throw new Error("usage: GUEST_ROOTFS=DIR guest-worker.ts ... CONFIG");

/** What is told in the middle of an execution is not heard. */
function executionsOf(requests: AsyncIterator<SessionRequest>): AsyncIterator<SessionRequest> {
  return {
    async next() {
      for (;;) {
        const next = await requests.next();
        if (next.done || !["credit", "cancel"].includes(next.value.message.case ?? "")) return next;
      }
    },
  };
}

const guest: Behaviour = async function* (all) {
  const requests = executionsOf(all);
  let takenOver = false;
  yield await ready(requests);
  for (;;) {
    const { execute, inputs } = await takeExecution(requests);
    const compiles = (name: string) => execute.argv.some((word) => Buffer.from(word).toString().endsWith(name));
    if (takenOver && compiles(BREACH)) {
      // It answers a job that it was never given.
      yield exited(execute.executionId + 1n, { outputs: [1] });
      continue;
    }
    yield* answersOf(execute, inputs);
    takenOver ||= compiles(EXPLOIT);
  }
};

async function* answersOf(execute: Execute, inputs: readonly Buffer[]): AsyncGenerator<Answer> {
  const id = execute.executionId;
  const { signal } = new AbortController();
  await using ran = await runInSandbox(rootfs!, requestOf(execute, inputs), signal);
  const outputs = await Promise.all(ran.outputs.map(async (each) => (await each?.content.bytes()) ?? null));
  const [stdout, stderr] = [await ran.stdout.bytes(), await ran.stderr.bytes()];
  yield exited(id, {
    exitCode: ran.exit.kind === "code" ? ran.exit.code : 1,
    stdoutSize: stdout.length,
    stderrSize: stderr.length,
    outputs: outputs.map((bytes) => bytes?.length ?? null),
  });
  for (const [index, bytes] of [stdout, stderr, ...outputs].entries())
    if (bytes !== null && bytes.length > 0) yield output(id, index, bytes);
}

function requestOf(execute: Execute, inputs: readonly Buffer[]): ExecutionRequest {
  const limits = execute.limits!;
  return {
    argv: execute.argv.map(byteStringOf),
    environment: execute.environment.map(byteStringOf),
    cwd: byteStringOf(execute.cwd),
    inputs: execute.inputs.map(({ path, mode, size, frameSize }, index) => ({
      path: byteStringOf(path),
      executable: mode === 0o755,
      sizeBytes: Number(size),
      frameSizeBytes: Number(frameSize),
      openFrame: () => [inputs[index]!],
    })),
    links: execute.links.map(({ path, target }) => ({ path: byteStringOf(path), target: byteStringOf(target) })),
    folders: execute.folders.map(byteStringOf),
    outputs: execute.outputs.map(byteStringOf),
    limits: {
      wallMs: limits.wallMs,
      memoryBytes: Number(limits.memoryBytes),
      pids: limits.pids,
      outputBytes: Number(limits.outputBytes),
      stdioBytes: Number(limits.stdioBytes),
    },
    terminalColumns: execute.terminalColumns,
  };
}

/** Says in the log how many results its peers have been told of. */
let told = 0;
const announce = originalMethod(Announcer.prototype, "announce");
Announcer.prototype.announce = function (result) {
  announce(this, result);
  void this.settled().then(() => process.stderr.write(`${JSON.stringify({ event: TOLD, results: ++told })}\n`));
};

if (process.env["GUEST_WORKER_DEAF"] !== undefined) RevocationExchange.prototype.follow = () => undefined;
const name = `vm-${randomBytes(8).toString("hex")}`;
const runtime = new FakeAgentRuntime({ behaviour: guest, deadlines: DEADLINES, folder: tmpdir(), name });
await runWorker(process.env, config, {}, async () => ({
  runtime,
  ended: new Promise(() => undefined),
  prepare: () => Promise.resolve(),
  close: () => Promise.resolve(),
}));
