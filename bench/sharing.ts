// What it costs to share results: each policy with real machines (first compile, hit of another user, processor time of all), a look-up at a
// peer against compiling, and what 1,000 keys in flight keep in memory. `bench/sharing.ts [N]`: N files a policy; the accelerator is that of
// HPCC_TEST_ACCELERATOR (tcg unless said).
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { loadavg } from "node:os";
import { performance } from "node:perf_hooks";
import { SILENT_LOGGER } from "../src/base/log.ts";
import { SYSTEM_CLOCK } from "../src/base/system/clock.ts";
import { fixedPolicies, SHARINGS, type Sharing } from "../src/core/tenant-policy.ts";
import { ImageStore } from "../src/image/image-store.ts";
import type { VmEventSink } from "../src/vm/pool.ts";
import type { Runtime } from "../src/vm/runtime.ts";
import { WarmVmPool } from "../src/vm/warm-vm-pool.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../test/support/farm.ts";
import { driverUnderTest } from "../test/support/qemu-driver.ts";
import { TEST_IMAGE, TestWorker } from "../test/support/test-worker.ts";

const FILES = Number(process.argv[2] ?? 6);
const KEYS_IN_FLIGHT = 1_000;
/** Most that each of them may keep of memory, with client and worker in one process. */
const KEY_KIB_MAX = 256;
const WAIT_MS_MAX = 600_000;
const MIB = 2 ** 20;
/** A busy machine takes its time, and a job that has run out of time is in flight no more. */
const DEADLINE_MS = 1_800_000;
const TICKS_PER_SECOND = 100;
const NEVER = { signal: new AbortController().signal };

const source = (policy: string, nth: number) => ({
  path: `/hpcc/project/${policy}${nth}.c`,
  content: `#include <stdio.h>\nint ${policy}_${nth}(int a) { printf("%d", a); return a * ${nth}; }\n`,
});

/** Processor time in milliseconds of this process, its children that are there, and those that it has waited for. */
function cpuMs(): number {
  const fieldsOf = (pid: string) =>
    readFileSync(`/proc/${pid}/stat`, "latin1").split(") ").at(-1)!.split(" ").map(Number);
  const own = fieldsOf("self");
  let ticks = own[11]! + own[12]! + own[13]! + own[14]!;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      const fields = fieldsOf(pid);
      if (fields[1] === process.pid) ticks += fields[11]! + fields[12]! + fields[13]! + fields[14]!;
    } catch {
      // It has ended.
    }
  return (ticks * 1000) / TICKS_PER_SECOND;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** A scope whose ends run when the part is over. */
class Ends {
  readonly #ends: (() => Promise<void>)[] = [];

  after(end: () => Promise<void>): void {
    this.#ends.push(end);
  }

  async run(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end();
  }
}

function pool(runtime: Runtime, events: VmEventSink): WarmVmPool {
  return new WarmVmPool({
    runtime,
    events,
    clock: SYSTEM_CLOCK,
    logger: SILENT_LOGGER,
    limits: {
      placesMax: 2,
      vmsMax: 4,
      memoryBytesMax: 4 * 1024 * MIB,
      vcpusMax: 8,
      vmMemoryBytes: 512 * MIB,
      vmVcpus: 1,
      executionsPerVmMax: 1,
      queuePerTenantMax: 100,
      idleMs: 600_000,
      tenureMs: 10_000,
      parkedMs: 600_000,
      parkedMax: 4,
      parkedDiskBytesMax: 16 * 1024 * MIB,
      sessionMs: 3_600_000,
      sparesMax: 1,
    },
  });
}

async function compileAll(at: TestWorker, user: string, policy: Sharing) {
  const client = await at.client(`tenant/acme/user/${user}`);
  const took: number[] = [];
  let hits = 0;
  for (let nth = 0; nth < FILES; nth++) {
    const job = await at.job({ files: [source(policy, nth)], deadlineMs: DEADLINE_MS });
    const start = performance.now();
    const { outcome, exitCode } = await client.compile(job, NEVER);
    took.push(performance.now() - start);
    assert.equal(exitCode, 0);
    if (outcome === "hit") hits += 1;
  }
  return { ms: median(took), hits };
}

async function policyRow(runtime: Runtime, rootfs: string, policy: Sharing): Promise<string> {
  const ends = new Ends();
  const before = cpuMs();
  try {
    const at = await TestWorker.start(
      ends,
      { confirmationsMax: policy === "confirm" ? 2 : 0 },
      {
        policies: fixedPolicies(new Map([["acme", { sharing: policy }]]), runtime.isolation),
        images: { digests: [TEST_IMAGE], has: (digest) => digest === TEST_IMAGE, rootfs: async () => rootfs },
        isolation: runtime.isolation,
        createPool: (events) => pool(runtime, events),
      },
    );
    const first = await compileAll(at, "ann", policy);
    const confirming = performance.now();
    if (policy === "confirm") await confirmed(at);
    const confirmS = (performance.now() - confirming) / 1000;
    const second = await compileAll(at, "bob", policy);
    await ends.run();
    const cpu = (cpuMs() - before) / (2 * FILES - second.hits);
    const cells = [
      `\`${policy}\``,
      `${first.ms.toFixed(0)} ms`,
      `${second.hits} of ${FILES}`,
      `${second.ms.toFixed(1)} ms`,
      policy === "confirm" ? `${(confirmS / FILES).toFixed(1)} s` : "-",
      `${cpu.toFixed(0)} ms`,
    ];
    return `| ${cells.join(" | ")} |`;
  } catch (error) {
    await ends.run();
    throw error;
  }
}

async function confirmed(at: TestWorker): Promise<void> {
  const confirms = async () => (await at.rows()).filter(({ envelope }) => envelope.kind === "confirm").length;
  await until("the results confirmed", async () => (await confirms()) >= FILES);
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + WAIT_MS_MAX; Date.now() < end; ) {
    if (await isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited ${WAIT_MS_MAX / 1000} s in vain for ${what}`);
}

async function policies(): Promise<void> {
  const built = await runCommand([HPCC, "image", "build", "--from-host", "--tag", "e2e", "--quiet"], {
    env: { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER },
  });
  assert.equal(built.code, 0, built.stderr);
  const store = new ImageStore(IMAGE_FOLDER);
  const { digest } = await store.find(built.stdout.trim());
  const { path } = await store.squashfs(digest);
  const driver = driverUnderTest();
  await using opened = await driver.open();
  console.log(
    `${driver.name} (\`${opened.runtime.isolation}\`), ${FILES} files a policy, load ${loadavg()[0]!.toFixed(1)}\n`,
  );
  console.log(
    "| policy | first compile | hits of another user | his call | second compile, each | processor time a compile |\n|---|---|---|---|---|---|",
  );
  for (const policy of SHARINGS) console.log(await policyRow(opened.runtime, path, policy));
}

function heldBytes(): number {
  global.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** What jobs that wait for a place keep of the worker's memory. */
async function inFlight(): Promise<void> {
  const ends = new Ends();
  const gate = Promise.withResolvers<void>();
  try {
    const at = await TestWorker.start(ends, { jobsPerStreamMax: KEYS_IN_FLIGHT });
    at.pool.gate = gate.promise;
    const client = await at.client();
    const jobs = await Promise.all(
      Array.from({ length: KEYS_IN_FLIGHT }, (_, nth) =>
        at.job({ files: [source("flight", nth)], deadlineMs: DEADLINE_MS }),
      ),
    );
    const before = heldBytes();
    const leave = new AbortController();
    const waiting = jobs.map((job) => client.compile(job, { signal: leave.signal }).catch(() => null));
    await until("all keys in flight", () => at.worker.load().queued + at.worker.load().freeSlots >= KEYS_IN_FLIGHT - 2);
    const grown = heldBytes() - before;
    const eachKib = grown / KEYS_IN_FLIGHT / 1024;
    console.log(
      `\n${KEYS_IN_FLIGHT} keys in flight: ${(grown / MIB).toFixed(0)} MiB, ${eachKib.toFixed(0)} KiB each (at most ${KEY_KIB_MAX}), client and worker in one process`,
    );
    assert.ok(eachKib <= KEY_KIB_MAX, "the worker's memory grows with the keys in flight beyond its bound");
    // None of them is compiled: that would take a while.
    leave.abort();
    await Promise.all(waiting);
    await until("no key in flight", () => at.worker.load().queued === 0);
  } finally {
    await ends.run();
  }
}

await inFlight();
if (FILES > 0) await policies();
