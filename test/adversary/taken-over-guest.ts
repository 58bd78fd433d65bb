// Guests that one of their jobs takes over. Each compiles honestly until it is given a source named EXPLOIT; from then on it does
// whatever its attack says. They are fake agents behind the worker's own session, so all that they can say is what a guest can say. Each
// takes one job at a time.
import { tmpdir } from "node:os";
import { zstdDecompressSync } from "node:zlib";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { VmEventSink, VmPool } from "../../src/vm/pool.ts";
import { makePoolKey } from "../../src/vm/pool-key.ts";
import { WarmVmPool } from "../../src/vm/warm-vm-pool.ts";
import type { WorkerDeps } from "../../src/worker/worker.ts";
import { TEST_TRUST_DOMAIN } from "../support/certificates.ts";
import { type Answer, type Behaviour, exited, output, ready, takeExecution } from "../support/fake-agent.ts";
import { FakeAgentRuntime } from "../support/fake-agent-runtime.ts";
import { HELD_LIMITS } from "../support/held-pool.ts";

/** The name of a source that takes over the guest that compiles it. */
export const EXPLOIT = "/hpcc/project/exploit.c";
export const TROJAN = Buffer.from("the trojan");

/** A job as a guest sees it. */
export interface GuestJob {
  readonly id: bigint;
  /** What an honest compiler makes of it. */
  readonly object: Buffer;
}

/** What a guest answers once it is taken over; `earlier` holds the jobs that it ran before, the exploit last. */
export type Attack = (job: GuestJob, earlier: readonly GuestJob[]) => AsyncIterable<Answer>;

const DEADLINES = { inputStallMs: 5000, exitGraceMs: 5000, outputStallMs: 5000, cancelMs: 5000, scrubMs: 5000 };
const OBJECT_STREAM = 2;

/** What every honest guest makes of a source. */
export function objectOf(source: string | Uint8Array): Buffer {
  return Buffer.from(`compiled from ${sha256(Buffer.from(source))}`);
}

/** The whole answer of a job with this object. */
export function* answerWith({ id }: GuestJob, object: Uint8Array): Generator<Answer> {
  yield exited(id, { outputs: [object.length] });
  yield output(id, OBJECT_STREAM, object);
}

export async function* asyncOf<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

/** Gives its owner a trojan for each source that he asks for. */
export const lies: Attack = (job) => asyncOf(answerWith(job, TROJAN));

export interface GuestOptions {
  readonly attack: Attack;
  /** Called before each answer; what it returns is waited for. */
  readonly beforeAnswer?: (job: GuestJob) => Promise<void>;
}

function guest({ attack, beforeAnswer }: GuestOptions): Behaviour {
  return async function* (requests) {
    const jobs: GuestJob[] = [];
    let takenOver = false;
    yield await ready(requests);
    for (;;) {
      const { execute, inputs } = await takeExecution(requests);
      const source = inputs[0]?.length ? zstdDecompressSync(inputs[0]) : Buffer.alloc(0);
      const job = { id: execute.executionId, object: objectOf(source) };
      await beforeAnswer?.(job);
      yield* takenOver ? attack(job, jobs) : answerWith(job, job.object);
      takenOver ||= execute.inputs.some(({ path }) => Buffer.from(path).toString() === EXPLOIT);
      jobs.push(job);
    }
  };
}

/** A pool of such guests, with the runtime that starts them. */
export function guestPool(options: GuestOptions) {
  const runtime = new FakeAgentRuntime({ behaviour: guest(options), deadlines: DEADLINES, folder: tmpdir() });
  const limits = { ...HELD_LIMITS, parkedMax: 0, vmsMax: 8, sparesMax: 0 };
  const createPool = (events: VmEventSink): VmPool =>
    new WarmVmPool({ runtime, limits, events, clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
  return { runtime, createPool };
}

/** Serves clean jobs from warm VMs, and says that they were clean. */
export function callingAllClean(createPool: WorkerDeps["createPool"]): WorkerDeps["createPool"] {
  return (events: VmEventSink) => {
    const pool = createPool(events);
    const execute: VmPool["execute"] = async ({ tenant, user, image, golden }, ...rest) => {
      const principal = { kind: "user", trustDomain: TEST_TRUST_DOMAIN, tenant, user } as const;
      const key = makePoolKey({ principal, image, golden, trust: "session" });
      return { ...(await pool.execute(key, ...rest)), life: "clean" };
    };
    return executingBy(pool, execute);
  };
}

/** Runs in a user's warm VM what is to confirm its results, and says that it was another one that had run nothing. */
export function confirmingItself(createPool: WorkerDeps["createPool"]): WorkerDeps["createPool"] {
  return (events: VmEventSink) => {
    const pool = createPool(events);
    const lying = callingAllClean(() => pool)(events);
    const execute: VmPool["execute"] = async (key, ...rest) => {
      if (key.trust === "session") return pool.execute(key, ...rest);
      const ran = await lying.execute(key, ...rest);
      return { ...ran, vm: { ...ran.vm, id: `${ran.vm.id}-again` } };
    };
    return executingBy(pool, execute);
  };
}

function executingBy(pool: VmPool, execute: VmPool["execute"]): VmPool {
  return {
    execute,
    retire: (vm: string) => pool.retire(vm),
    close: () => pool.close(),
    [Symbol.asyncDispose]: () => pool.close(),
  };
}
