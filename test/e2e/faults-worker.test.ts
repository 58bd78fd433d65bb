// What breaks on the worker's side in mid-build: its VM killed or hung, itself killed, its disk full. The build ends with the
// image's own compiler's objects each time, and every fault leaves its count and its rows.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CallStats, Farm, type RunningWorker, type User, until } from "../support/farm.ts";
import { SmallDisk } from "../support/full-disk.ts";
import { jobRows, vmNotes } from "../support/job-rows.ts";
import { childrenOf, cpuMs, isAlive } from "../support/processes.ts";
import { SmallProject } from "../support/small-project.ts";

const QEMU = "qemu";
/** Some seconds in the guest. */
const SLOW = 60;
const QUICK = 2;
const FILES = QUICK + 1;
/** Guest's time for one compile; the host waits 20 s more before it destroys the VM. */
const WALL_MS = 30_000;
/** A compile is well under way when the VM has used so much since the build began. */
const UNDER_WAY_CPU_MS = 1_500;

let farm: Farm;
let disk: SmallDisk;
let worker: RunningWorker;
let image: { digest: string; layout: string };
let user: User;
let projects = 0;

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  await farm.startScheduler();
  disk = new SmallDisk(join(farm.folder, "w"), { mebibytes: 64 });
  worker = await startWorker();
  user = await farm.addUser("alice", { images: [image.digest] });
});

after(async () => {
  await worker?.service.stop();
  disk?.[Symbol.dispose]();
  await farm?.close();
});

function startWorker(): Promise<RunningWorker> {
  const tables = `[execution]\nwall_ms = ${WALL_MS}\n`;
  return farm.startWorker("w", { layouts: [image.layout], tables });
}

function newProject(slow = SLOW, quick = QUICK): SmallProject {
  projects += 1;
  return new SmallProject(user, { name: `project-${projects}`, imageDigest: image.digest, quick, slow });
}

/** The process of a VM that has compiled something and has nothing to do. */
async function warmVm(): Promise<number> {
  const project = newProject(0, 1);
  assert.equal((await project.make()).code, 0);
  const [pid, ...others] = childrenOf(worker.service.pid, QEMU);
  assert.ok(pid !== undefined && others.length === 0, "one VM");
  return pid;
}

/** Builds one file after the other, the slow one first, and does something while it is compiled in the VM. */
async function buildWhile(project: SmallProject, vm: number, act: () => void | Promise<void>): Promise<CallStats> {
  await user.stats(true);
  const idle = cpuMs(vm);
  let over = false;
  const building = project.make(1).finally(() => {
    over = true;
  });
  await until("the compile is under way", () => over || cpuMs(vm) > idle + UNDER_WAY_CPU_MS);
  assert.ok(!over, "the compile is remote");
  await act();
  const made = await building;
  assert.equal(made.code, 0, made.stderr + made.stdout);
  project.assertRight();
  return user.stats();
}

/** Builds one file again and again until it is compiled remotely: a worker that failed is left alone for a while. */
async function remoteAgain(): Promise<SmallProject> {
  const project = newProject(0, 1);
  await until("a compile is remote again", async () => {
    await user.stats(true);
    project.clean();
    assert.equal((await project.make()).code, 0);
    project.assertRight();
    return (await user.stats()).outcomes["remote_compiled"] === 1;
  });
  return project;
}

function assertCounts(stats: CallStats, outcomes: Partial<CallStats["outcomes"]>, reasons: CallStats["reasons"]): void {
  const counted = Object.fromEntries(Object.entries(stats.outcomes).filter(([, count]) => count > 0));
  assert.deepEqual(counted, outcomes);
  assert.deepEqual(stats.reasons, reasons);
  assert.deepEqual(stats.launcher_fallbacks, {});
}

test("a VM killed in mid-compile: another one compiles, and nothing falls back", async () => {
  const vm = await warmVm();
  const before = (await jobRows(worker)).length;
  const stats = await buildWhile(newProject(), vm, () => void process.kill(vm, "SIGKILL"));
  assertCounts(stats, { remote_compiled: FILES }, {});
  const rows = (await jobRows(worker)).slice(before);
  assert.deepEqual(
    rows.map(({ kind, note }) => `${kind} ${note}`.trim()),
    ["failed vm.lost", "compile", "compile", "compile"],
  );
  assert.equal(stats.jobs_sent, rows.length, "a job that is sent again is a job");
  const compiled = new Set(rows.slice(1).map((row) => row.vm));
  assert.equal(compiled.size, 1);
  assert.ok(!compiled.has(rows[0]!.vm));
  assert.deepEqual(
    (await vmNotes(worker)).slice(-2).map((note) => note.replace(/ after.*/, "")),
    ["destroyed: lost", "booted"],
  );
});

test("a VM that hangs in mid-compile is destroyed after its deadline, and another one compiles", async () => {
  const vm = await warmVm();
  const before = (await jobRows(worker)).length;
  const stats = await buildWhile(newProject(), vm, () => void process.kill(vm, "SIGSTOP"));
  assert.ok(!isAlive(vm), "the hung VM is gone");
  assertCounts(stats, { remote_compiled: FILES }, {});
  const rows = (await jobRows(worker)).slice(before);
  assert.deepEqual(
    rows.map(({ kind, note }) => `${kind} ${note}`.trim()),
    ["failed vm.breach", "compile", "compile", "compile"],
  );
  assert.equal(stats.jobs_sent, rows.length);
  assert.deepEqual(
    (await vmNotes(worker)).slice(-2).map((note) => note.replace(/ after.*/, "")),
    ["destroyed: breach", "booted"],
  );
});

test("a worker's full disk: the build is local; with space again it is remote, and the log has lost nothing", async () => {
  await warmVm();
  const before = (await jobRows(worker)).length;
  disk.fillBytes();
  try {
    await user.stats(true);
    const project = newProject(0, FILES);
    const made = await project.make(1);
    assert.equal(made.code, 0, made.stderr);
    project.assertRight();
    // The first call learns that the worker has a fault; the others leave it alone.
    assertCounts(await user.stats(), { local: FILES }, { remote_failed: 1, remote_unavailable: FILES - 1 });
    // The row of the failure may have found room behind the last one.
    const kinds = new Set((await jobRows(worker)).slice(before).map(({ kind }) => kind));
    assert.deepEqual(
      [...kinds].filter((kind) => kind !== "failed"),
      [],
      "nothing was given out without a row",
    );
  } finally {
    disk.free();
  }
  await remoteAgain();
  const kinds = (await jobRows(worker)).slice(before).map(({ kind }) => kind);
  assert.deepEqual(
    kinds.filter((kind) => kind !== "failed"),
    ["compile"],
  );
});

test("a worker killed in mid-build: its VM dies with it, and the rest of the build is local", async () => {
  const vm = await warmVm();
  const before = (await jobRows(worker)).length;
  const stats = await buildWhile(newProject(), vm, () => worker.service.kill());
  assertCounts(stats, { local: FILES }, { remote_unavailable: FILES });
  await until("the worker's VM is gone", () => !isAlive(vm), 5_000);
  assert.equal((await jobRows(worker)).length, before, "the job that was cut off has no row, and gave no object");
});

test("the worker starts again on what the dead one left, and the same daemon comes back to it", async () => {
  const before = (await jobRows(worker)).length;
  worker = await startWorker();
  const project = await remoteAgain();
  assert.deepEqual(
    (await jobRows(worker)).slice(before).map(({ kind, note }) => `${kind} ${note}`),
    ["compile "],
  );
  project.clean();
  await user.stats(true);
  assert.equal((await project.make()).code, 0);
  project.assertRight();
  assertCounts(await user.stats(), { remote_hit: 1 }, {});
});

test("a worker killed and started again in mid-build", async () => {
  const vm = await warmVm();
  const stats = await buildWhile(newProject(SLOW, 6), vm, async () => {
    await worker.service.kill();
    worker = await startWorker();
  });
  assert.equal(stats.calls, 7);
  const { local = 0, remote_compiled = 0 } = stats.outcomes;
  assert.ok(local >= 1, "the call that was cut off");
  assert.equal(local + remote_compiled, 7);
  assert.deepEqual(stats.reasons, { remote_unavailable: local });
  assert.deepEqual(stats.launcher_fallbacks, {});
});
