// A daemon that takes its time to end: who calls meanwhile, or starts the next one, waits for it and does not do without one.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { HPCC, runCommand, until } from "../support/farm.ts";
import { isAlive } from "../support/processes.ts";

/** Longer than a call waits where it takes a start for a failed one. */
const END_MS = 1_500;

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-daemon-end-")));
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

test("`hpcc daemon start` waits for a daemon that ends", async () => {
  await hpcc("daemon", "stop");
  const daemon = await startOldDaemon();
  await beginEnd(daemon);
  assert.equal((await hpcc("daemon", "start")).stdout, "daemon started\n");
  assert.notEqual(await pid(), daemon);
});

test("`hpcc daemon stop` returns when nothing of the daemon is left", async () => {
  const daemon = await pid();
  assert.equal((await hpcc("daemon", "stop")).stdout, "daemon stopped\n");
  assert.ok(!isAlive(daemon));
});
