// What breaks around the client in mid-build: the scheduler, the daemon, its socket, the disks of outputs and of the runtime folder.
// The build ends with the image's own compiler's objects each time, and every fault leaves its count.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type CallStats, Farm, type RunningWorker, type Service, type User, until } from "../support/farm.ts";
import { SmallDisk } from "../support/full-disk.ts";
import { jobRows } from "../support/job-rows.ts";
import { isAlive } from "../support/processes.ts";
import { SmallProject } from "../support/small-project.ts";

/** Some seconds in the guest. */
const SLOW = 30;
const FILES = 3;
/** How long launchers wait for a silent daemon here. */
const PATIENCE_MS = 2_000;

let farm: Farm;
let scheduler: Service;
let worker: RunningWorker;
let image: { digest: string; layout: string };
let user: User;
let runtime: SmallDisk;
let projects = 0;

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  scheduler = await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  user = await farm.addUser("alice", { images: [image.digest] });
  runtime = new SmallDisk(join(user.folder, "run"), { mebibytes: 4, files: 256 });
});

after(async () => {
  await user?.hpcc(["daemon", "stop"]);
  runtime?.[Symbol.dispose]();
  await farm?.close();
});

function newProject(quick = FILES, slow = 0, folder?: string): SmallProject {
  projects += 1;
  const where = folder === undefined ? {} : { folder };
  return new SmallProject(user, { name: `project-${projects}`, imageDigest: image.digest, quick, slow, ...where });
}

async function build(project: SmallProject, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const made = await project.make(2, { env });
  assert.equal(made.code, 0, made.stderr + made.stdout);
  project.assertRight();
}

/** Outcomes, reasons and launchers' own fall-backs that are not zero. */
async function assertCounts(expected: {
  outcomes: CallStats["outcomes"];
  reasons?: CallStats["reasons"];
  launchers?: number;
}): Promise<void> {
  const { outcomes, reasons, launcher_fallbacks } = await user.stats();
  assert.deepEqual(Object.fromEntries(Object.entries(outcomes).filter(([, count]) => count > 0)), expected.outcomes);
  assert.deepEqual(reasons, expected.reasons ?? {});
  const fallbacks = Object.values(launcher_fallbacks).reduce((sum, count) => sum + count, 0);
  assert.equal(fallbacks, expected.launchers ?? 0, JSON.stringify(launcher_fallbacks));
}

/** Kills the daemon and waits until nothing of it is left. */
async function killDaemon(): Promise<void> {
  const pid = await user.daemonPid();
  process.kill(pid, "SIGKILL");
  await until("the daemon is gone", () => !isAlive(pid));
}

test("no scheduler at the first call: the build is local; once there is one, the same daemon finds it", async () => {
  const port = Number(farm.schedulerAddress.split(":")[1]);
  await scheduler.kill();
  await user.stats(true);
  await build(newProject());
  await assertCounts({ outcomes: { local: FILES }, reasons: { remote_unavailable: FILES } });
  scheduler = await farm.startScheduler("scheduler", port);
  await until("a compile is remote", async () => {
    await user.stats(true);
    await build(newProject(1));
    return (await user.stats()).outcomes["remote_compiled"] === 1;
  });
});

test("a scheduler killed in mid-build: nothing falls back, since its last answer is still good", async () => {
  await user.stats(true);
  const project = newProject(2, SLOW);
  const building = build(project);
  await until("a job was sent", async () => (await user.stats()).jobs_sent > 0);
  await scheduler.kill();
  await building;
  await build(newProject());
  await assertCounts({ outcomes: { remote_compiled: 3 + FILES } });
  scheduler = await farm.startScheduler("scheduler", Number(farm.schedulerAddress.split(":")[1]));
  // A new daemon knows no answer of the old one.
  await until("the worker is known to the new scheduler", async () => {
    await killDaemon();
    await user.stats(true);
    await build(newProject(1));
    return (await user.stats()).outcomes["remote_compiled"] === 1;
  });
});

test("a daemon killed in mid-build: its calls fall back, the others start another daemon and are remote", async () => {
  await user.stats(true);
  const rowsBefore = (await jobRows(worker)).length;
  const project = newProject(3, SLOW);
  const building = project.make(1);
  await until("the slow job was sent", async () => (await user.stats()).jobs_sent > 0);
  await killDaemon();
  const made = await building;
  assert.equal(made.code, 0, made.stderr + made.stdout);
  project.assertRight();
  await assertCounts({ outcomes: { remote_compiled: 3 }, launchers: 1 });
  const rows = (await jobRows(worker)).slice(rowsBefore);
  const ends = rows.map(({ kind, note }) => `${kind} ${note}`.trim()).sort();
  assert.deepEqual(ends, ["compile", "compile", "compile", "failed job.cancelled"]);
});

const GARBAGE: Readonly<Record<string, (socket: Socket) => void>> = {
  "random bytes": (socket) => socket.write(randomBytes(64 * 1024)),
  "an endless frame": (socket) => socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 5])),
  "a frame of an unknown type": (socket) => socket.write(Buffer.from([1, 0, 0, 0, 200])),
  "half a frame and silence": (socket) => socket.write(Buffer.from([64, 0, 0, 0, 5, 1])),
  silence: () => undefined,
  "its end": (socket) => socket.end(),
};

for (const [what, answer] of Object.entries(GARBAGE))
  test(`a daemon's socket that answers ${what}: every call falls back to the image's compiler`, async () => {
    // The plan is there from the first build on.
    const project = newProject();
    await build(project);
    project.clean();
    await user.stats(true);
    await killDaemon();
    rmSync(join(runtime.path, "daemon.sock"), { force: true });
    const impostor = await listen(answer);
    try {
      await build(project, { HPCC_DAEMON_TIMEOUT_MS: String(PATIENCE_MS) });
    } finally {
      await impostor.close();
    }
    await comeBack();
    await assertCounts({ outcomes: { remote_compiled: 1 }, launchers: FILES });
  });

async function listen(answer: (socket: Socket) => void): Promise<{ close(): Promise<void> }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    answer(socket);
  });
  server.listen(join(runtime.path, "daemon.sock"));
  await once(server, "listening");
  return {
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** The next call starts a daemon of ours: what failed before is forgotten. */
async function comeBack(): Promise<void> {
  rmSync(join(runtime.path, "daemon.failed"), { force: true });
  await build(newProject(1));
}

test("a full disk of the outputs: the build fails as the plain one does, leaves nothing half, and then ends well", async () => {
  using disk = new SmallDisk(join(user.folder, "small"), { mebibytes: 1 });
  const project = newProject(FILES, 0, disk.path);
  await user.stats(true);
  disk.fillBytes();
  const failed = await project.make(1, { env: { MAKEFLAGS: "-k" } });
  assert.notEqual(failed.code, 0);
  assert.match(failed.stderr, /No space left on device/);
  project.assertNothingWrong();
  const { launcher_fallbacks } = await user.stats();
  assert.deepEqual(launcher_fallbacks, { write: FILES });
  disk.free();
  await build(project);
});

test("a full disk of the runtime folder: the build is local, and remote again once there is space", async () => {
  await user.stats(true);
  runtime.fillBytes();
  try {
    await build(newProject());
    await assertCounts({ outcomes: { local: FILES }, reasons: { preprocessor_error: FILES } });
  } finally {
    runtime.free();
  }
  await user.stats(true);
  await build(newProject());
  await assertCounts({ outcomes: { remote_compiled: FILES } });
});

test("a runtime folder that takes no more files: the same, also when there is no daemon yet", async () => {
  await user.stats(true);
  const project = newProject();
  runtime.fillFiles();
  try {
    await build(project);
    await assertCounts({ outcomes: { local: FILES }, reasons: { internal_error: FILES } });
    await killDaemon();
    for (const left of ["daemon.sock", "calls"]) rmSync(join(runtime.path, left), { recursive: true });
    runtime.fillFiles();
    project.clean();
    await build(project);
  } finally {
    runtime.free();
  }
  await comeBack();
  // What holds the old daemon's folder lets go of it when it likes; the files that this frees may suffice for a daemon, which then
  // lacks room for its calls. Either way each of them is local once.
  const { outcomes, launcher_fallbacks } = await user.stats();
  const fellBack = Object.values(launcher_fallbacks).reduce((sum, count) => sum + count, 0);
  assert.equal(fellBack + (outcomes["local"] ?? 0), FILES);
  assert.equal(outcomes["remote_compiled"], 1);
});
