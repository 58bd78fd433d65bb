// Who gives up: Ctrl-C of a build stops the compiler in the guest, and of two who wait for one object one may leave.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Farm, HPCC, type RunningWorker, type User, until } from "../support/farm.ts";
import { jobRows, vmNotes } from "../support/job-rows.ts";
import { childrenOf, cpuMs } from "../support/processes.ts";
import { SmallProject } from "../support/small-project.ts";

/** Minutes in the guest. */
const ENDLESS = 2_000;
/** Long enough in the guest for a second daemon to ask meanwhile, on a busy machine too. */
const SLOW = 120;
const UNDER_WAY_CPU_MS = 2_500;
/** A guest with nothing to do uses a few per cent under emulation; a compile uses nearly all of the time. */
const IDLE_SHARE = 0.25;
/** Between Ctrl-C and the compiler's end: what a person takes for at once. */
const STOP_MS = 1_000;
const SPAN_MS = 150;
const SPANS_MAX = 100;
/** The rest of a busy machine may take a round's time; a compiler that is not stopped takes every round's. */
const ROUNDS_MAX = 5;

let farm: Farm;
let worker: RunningWorker;
let image: { digest: string; layout: string };
let user: User;

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  user = await farm.addUser("alice", { images: [image.digest], fallback: "none" });
});

after(async () => {
  await farm?.close();
});

function newProject(name: string, quick: number, slow: number, of: User = user): SmallProject {
  return new SmallProject(of, { name, imageDigest: image.digest, quick, slow });
}

async function warmVm(name: string): Promise<number> {
  const made = await newProject(name, 1, 0).make();
  assert.equal(made.code, 0, made.stderr);
  const [vm] = childrenOf(worker.service.pid, "qemu");
  assert.ok(vm !== undefined);
  return vm;
}

/** When a process that was busy began to do nothing, in Unix time. */
async function idleSinceMs(pid: number): Promise<number> {
  for (let spans = 0; spans < SPANS_MAX; spans++) {
    const [cpu, begunMs] = [cpuMs(pid), Date.now()];
    await until("a span is over", () => Date.now() >= begunMs + SPAN_MS);
    if ((cpuMs(pid) - cpu) / (Date.now() - begunMs) < IDLE_SHARE) return begunMs;
  }
  throw new Error("the guest does not become idle");
}

test("Ctrl-C of the build stops the compiler in the guest within a second, and the VM goes on", async () => {
  const vm = await warmVm("warm");
  let bestMs = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS_MAX && bestMs >= STOP_MS; round++)
    bestMs = Math.min(bestMs, await interruptedBuild(vm, `endless-${round}`));
  assert.ok(bestMs < STOP_MS, `the compiler was stopped after ${bestMs} ms`);

  const next = newProject("next", 1, 0);
  assert.equal((await next.make()).code, 0);
  next.assertRight();
  assert.deepEqual(childrenOf(worker.service.pid, "qemu"), [vm], "in the same VM");
  assert.deepEqual(await vmNotes(worker), ["booted"]);
});

/** Interrupts a build in mid-compile: milliseconds from the signal to a guest that does nothing. */
async function interruptedBuild(vm: number, name: string): Promise<number> {
  const project = newProject(name, 0, ENDLESS);
  const before = await jobRows(worker);
  await user.stats(true);
  const idle = cpuMs(vm);
  const [program, ...args] = project.makeArgv(1);
  // A group of its own, as a shell with job control gives it: the terminal's signal is for all of it.
  const make = spawn(program!, args, { env: user.env, detached: true, stdio: "ignore" });
  const ended = once(make, "exit");
  await until("the compile is under way", () => cpuMs(vm) > idle + UNDER_WAY_CPU_MS);
  process.kill(-make.pid!, "SIGINT");
  const interruptedMs = Date.now();
  const idleMs = await idleSinceMs(vm);
  await ended;
  await until("the job has its row", async () => (await jobRows(worker)).length > before.length);
  const [row, ...others] = (await jobRows(worker)).slice(before.length);
  assert.deepEqual(others, []);
  assert.deepEqual([row!.kind, row!.note], ["failed", "job.cancelled"]);
  // The worker writes the row when the cancel arrives.
  const { end } = JSON.parse(row!.envelope) as { end: string };
  const arrivedMs = Date.parse(end);
  console.log(`Ctrl-C to cancel: ${arrivedMs - interruptedMs} ms; cancel to idle guest: ${idleMs - arrivedMs} ms`);
  assert.ok(!existsSync(join(project.root, "slow.o")));
  const stats = await user.stats();
  assert.equal(stats.outcomes["cancelled"], 1);
  assert.equal(stats.jobs_sent, 1);
  return idleMs - interruptedMs;
}

test("of two daemons that wait for one object one leaves, and the other gets it from the one compile", async () => {
  const vm = await warmVm("warm-2");
  const second = await secondDaemon();
  const leaving = newProject("wanted", 0, SLOW);
  const staying = newProject("wanted", 0, SLOW, second);
  await user.stats(true);
  await second.stats(true);
  const before = (await jobRows(worker)).length;
  const idle = cpuMs(vm);
  const leave = new AbortController();
  const argv = [HPCC, "gcc", "-O1", "-c", "-o", "slow.o", "slow.c"];
  const left = user.run(argv, { cwd: leaving.root, signal: leave.signal });
  await until("the first compile is under way", () => cpuMs(vm) > idle + UNDER_WAY_CPU_MS);
  const stayed = staying.make();
  await until("the second has asked", async () => (await second.stats()).jobs_sent === 1);
  leave.abort();
  assert.equal((await left).signal, "SIGKILL");
  const made = await stayed;
  assert.equal(made.code, 0, made.stderr);
  staying.assertRight();
  const rows = (await jobRows(worker)).slice(before);
  assert.deepEqual(rows.map(({ kind, note }) => `${kind} ${note}`.trim()).sort(), ["compile", "failed job.cancelled"]);
  assert.equal(new Set(rows.map((row) => row.sourceDigest)).size, 1, "one key");
  const { outcomes } = await second.stats();
  assert.deepEqual([outcomes["remote_compiled"], outcomes["local"]], [1, 0]);
  assert.equal((await user.stats()).outcomes["cancelled"], 1);
  await second.hpcc(["daemon", "stop"]);
});

test("two daemons that wait for one object to the end: one compile, one joined", async () => {
  const vm = await warmVm("warm-3");
  const second = await secondDaemon();
  const one = newProject("shared", 0, SLOW);
  const two = newProject("shared", 0, SLOW, second);
  await second.stats(true);
  const before = (await jobRows(worker)).length;
  const idle = cpuMs(vm);
  const first = one.make();
  await until("the first compile is under way", () => cpuMs(vm) > idle + UNDER_WAY_CPU_MS);
  const [a, b] = await Promise.all([first, two.make()]);
  assert.deepEqual([a.code, b.code], [0, 0]);
  one.assertRight();
  two.assertRight();
  const rows = (await jobRows(worker)).slice(before);
  assert.deepEqual(rows.map(({ kind, note }) => `${kind} ${note}`.trim()).sort(), ["compile", "hit joined"]);
  const [x, y] = rows;
  assert.equal(x!.outputDigest, y!.outputDigest);
  await second.hpcc(["daemon", "stop"]);
});

let daemons = 0;

/** The same user with a daemon of his own elsewhere, as on another machine. */
async function secondDaemon(): Promise<User> {
  daemons += 1;
  const other = await farm.addUser(`alice-${daemons}`, { images: [image.digest], fallback: "none" });
  other.env["HPCC_CONFIG"] = user.env["HPCC_CONFIG"];
  return other;
}
