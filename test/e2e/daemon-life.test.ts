// How daemons begin and end: who calls while one takes its time to end waits for the next; what the first caller, the configuration or
// the disk lack is no reason to do without.
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { HPCC, runCommand, until } from "../support/farm.ts";
import { SmallDisk } from "../support/full-disk.ts";
import { isAlive } from "../support/processes.ts";

/** Longer than a call waits where it takes a start for a failed one. */
const END_MS = 1_500;

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-daemon-life-")));
const runtime = join(folder, "run");
const lingering = join(folder, "linger.mjs");
const env = {
  PATH: "/usr/bin:/bin",
  HOME: folder,
  HPCC_RUNTIME_DIR: runtime,
  HPCC_STATE_DIR: join(folder, "state"),
};
writeFileSync(
  lingering,
  `if (process.argv.includes("--foreground"))
    process.on("exit", () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${END_MS}));\n`,
);
writeFileSync(join(folder, "a.c"), "int a;\n");

after(async () => {
  await hpcc("daemon", "stop");
  rmSync(folder, { recursive: true, force: true });
});

async function hpcc(...argv: readonly string[]) {
  return runCommand([HPCC, ...argv], { cwd: folder, env: { ...env, NODE_OPTIONS: `--import=${lingering}` } });
}

/** A daemon that was started long ago. */
async function startOldDaemon(): Promise<number> {
  assert.equal((await hpcc("daemon", "start")).stdout, "daemon started\n");
  const past = new Date(Date.now() - 3_600_000);
  utimesSync(join(runtime, "daemon.lock"), past, past);
  return pid();
}

async function pid(): Promise<number> {
  const { stdout, stderr } = await hpcc("daemon", "status", "--json");
  assert.notEqual(stdout, "", stderr);
  return (JSON.parse(stdout) as { pid: number }).pid;
}

function isReached(): Promise<boolean> {
  const socket = connect(join(runtime, "daemon.sock"));
  const { promise, resolve } = Promise.withResolvers<boolean>();
  socket.on("connect", () => resolve(true));
  socket.on("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}

/** Has a daemon begin to end; it cannot be reached any more, and lives. */
async function beginEnd(daemon: number): Promise<void> {
  process.kill(daemon, "SIGTERM");
  await until("the daemon is not reached", async () => !(await isReached()));
  assert.ok(isAlive(daemon));
}

test("a call waits for a daemon that ends, starts the next one and is answered by it", async () => {
  const daemon = await startOldDaemon();
  await beginEnd(daemon);
  const { code, stderr } = await hpcc("gcc", "-c", "a.c");
  assert.deepEqual([code, stderr], [0, ""]);
  const log = join(folder, "state/fallbacks.log");
  assert.ok(!existsSync(log), existsSync(log) ? readFileSync(log, "utf8") : "");
  assert.notEqual(await pid(), daemon);
});

test("a caller's processors, priority and open files are not the daemon's", async () => {
  await hpcc("daemon", "stop");
  const call = `ulimit -S -n 64; exec nice -n 7 taskset -c 0 ${HPCC} gcc -c a.c`;
  assert.equal((await runCommand(["bash", "-c", call], { cwd: folder, env })).code, 0);
  const [daemon, own] = [await pid(), process.pid].map((of) => ({
    status: /^Cpus_allowed:\t.*$/m.exec(readFileSync(`/proc/${of}/status`, "utf8"))?.[0],
    files: /^Max open files +\d+ +(\d+)/m.exec(readFileSync(`/proc/${of}/limits`, "utf8"))?.[1],
    soft: /^Max open files +(\d+)/m.exec(readFileSync(`/proc/${of}/limits`, "utf8"))?.[1],
    nice: Number(readFileSync(`/proc/${of}/stat`, "utf8").split(") ")[1]!.split(" ")[16]),
  }));
  assert.equal(daemon!.status, own!.status);
  assert.equal(daemon!.soft, daemon!.files);
  const mayRaise = (await runCommand(["nice", "-n", "-1", "true"], { env })).stderr === "";
  if (mayRaise) assert.ok(daemon!.nice <= 0, String(daemon!.nice));
});

test("a configuration that cannot be read is told at each call, and is right as soon as it is mended", async () => {
  await hpcc("daemon", "stop");
  const config = join(folder, ".config/hpcc/config.toml");
  mkdirSync(join(folder, ".config/hpcc"), { recursive: true });
  writeFileSync(config, "local.size_mx = 3\n");
  const call = () => hpcc("gcc", "-c", "a.c");
  for (const _ of [1, 2]) {
    const { code, stderr } = await call();
    assert.equal(code, 0);
    assert.match(stderr, /size_mx/);
  }
  rmSync(config);
  assert.deepEqual(await call().then(({ code, stderr }) => [code, stderr]), [0, ""]);
  assert.ok(!existsSync(join(runtime, "daemon.failed")));
});

test("calls that the daemon leaves to their compilers are told of by `hpcc stats --why`, too", async () => {
  assert.equal((await hpcc("gcc", "-c", "a.c")).code, 0);
  const elsewhere = ["unshare", "--mount", ...(process.getuid!() === 0 ? [] : ["--map-root-user"]), HPCC];
  assert.equal((await runCommand([...elsewhere, "gcc", "-c", "a.c"], { cwd: folder, env })).code, 0);
  assert.match((await hpcc("stats")).stdout, /mount_namespace +1/);
  assert.match((await hpcc("stats", "--why")).stdout, /mount_namespace: 1/);
});

test("a daemon whose runtime folder was removed ends, and takes nothing of the next one's away", async () => {
  await hpcc("daemon", "stop");
  const own = { ...env, HPCC_RUNTIME_DIR: join(folder, "removed"), HPCC_STATE_DIR: join(folder, "other") };
  const run = (...argv: readonly string[]) => runCommand([HPCC, ...argv], { cwd: folder, env: own });
  const pids: number[] = [];
  for (const _ of [1, 2]) {
    rmSync(own.HPCC_RUNTIME_DIR, { recursive: true, force: true });
    assert.equal((await run("daemon", "start")).stdout, "daemon started\n");
    pids.push((JSON.parse((await run("daemon", "status", "--json")).stdout) as { pid: number }).pid);
  }
  const [orphan, next] = pids as [number, number];
  await until("the orphan has ended", () => !isAlive(orphan));
  assert.equal((await run("gcc", "-c", "a.c")).code, 0);
  assert.equal((JSON.parse((await run("daemon", "status", "--json")).stdout) as { pid: number }).pid, next);
  assert.equal((await run("daemon", "stop")).code, 0);
});

test("a full disk of the state folder loses no call and leaves nothing half", async () => {
  await hpcc("daemon", "stop");
  const state = join(folder, "small");
  using disk = new SmallDisk(state, { mebibytes: 1 });
  const project = join(folder, "project");
  mkdirSync(join(project, ".git"), { recursive: true });
  writeFileSync(join(project, "a.c"), "int a;\n");
  const small = { ...env, HPCC_STATE_DIR: state, HPCC_CACHE_DIR: join(folder, "cache"), HPCC_VERBOSE: "1" };
  const run = (...argv: readonly string[]) => runCommand([HPCC, ...argv], { cwd: project, env: small });
  assert.equal((await run("daemon", "start")).code, 0);
  mkdirSync(join(state, "plans"));
  disk.fillBytes();
  const { code, stderr } = await run("gcc", "-c", "a.c");
  assert.deepEqual([code, stderr], [0, ""]);
  assert.deepEqual(readdirSync(join(state, "plans")), []);
  await run("daemon", "stop");
});

test("`hpcc daemon start` waits for a daemon that ends", async () => {
  await hpcc("daemon", "stop");
  const daemon = await startOldDaemon();
  await beginEnd(daemon);
  assert.equal((await hpcc("daemon", "start")).stdout, "daemon started\n");
  assert.notEqual(await pid(), daemon);
});

test("a daemon that says nothing is named, with the way to end it", async () => {
  const daemon = await pid();
  process.kill(daemon, "SIGSTOP");
  const { code, stderr } = await hpcc("daemon", "status");
  process.kill(daemon, "SIGCONT");
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`process ${daemon}, did not answer within 5 s[^]*kill -9 ${daemon}`));
});

test("`hpcc daemon stop` returns when nothing of the daemon is left", async () => {
  const daemon = await pid();
  assert.equal((await hpcc("daemon", "stop")).stdout, "daemon stopped\n");
  assert.ok(!isAlive(daemon));
});
