// A real keeper with real Firecracker and jailer, where both are: HPCC_FIRECRACKER_DIR, else the PATH. It needs root, KVM and a
// disk that is no memory: the KVM lab has them (scripts/lab).
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { keeperOver } from "../../src/vm/keeper/connect-keeper.ts";
import type { Keeper } from "../../src/vm/keeper/keeper.ts";
import { findFirecracker } from "./firecracker.ts";
import { INSTALLED } from "./vm.ts";

const ROOT = join(import.meta.dirname, "../..");
/** Short, for paths of sockets, and on a disk. */
const DISK = "/srv";
const USER = "47100:47100";
export const UID_FIRST = 471_000;
export const UID_LAST = 471_999;
const DEADLINE_MS = 300_000;

export interface TestKeeper extends AsyncDisposable {
  readonly keeper: Keeper;
  /** Its folder: jails, sockets, snapshots. */
  readonly base: string;
  /** Name of the cgroup that holds its machines'. */
  readonly cgroup: string;
  /** Its own process. */
  readonly pid: number;
}

let keepers = 0;

/** Starts a keeper whose worker is this process; `disk` is where its folder is made. */
export async function startTestKeeper(disk = DISK): Promise<TestKeeper> {
  const programs = findFirecracker();
  assert.ok(programs, "Firecracker is here");
  keepers += 1;
  const base = mkdtempSync(join(disk, "k-"));
  chmodSync(base, 0o711);
  const relay = join(base, "relay");
  execFileSync("mkdir", ["-m", "711", relay]);
  const socketPath = join(relay, "worker");
  const cgroup = `/sys/fs/cgroup/hpcc-test-${process.pid}-${keepers}`;
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  chmodSync(socketPath, 0o666);
  const options = {
    "--user": USER,
    "--uids": `${UID_FIRST}-${UID_LAST}`,
    "--base": join(base, "b"),
    "--cgroup": cgroup,
    "--firecracker": programs.firecracker,
    "--jailer": programs.jailer,
    "--lock-dir": join(base, "uids"),
  };
  const program = [join(ROOT, "node_modules/node/bin/node"), join(ROOT, "test/support/keeper-relay.ts"), socketPath];
  const argv = [...Object.entries(options).flat(), "--", ...program];
  const child = spawn(join(INSTALLED, "keeper"), argv, { stdio: ["ignore", "inherit", "inherit"] });
  const connection = await Promise.race([
    once(server, "connection").then(([socket]) => socket as Socket),
    ended(child),
  ]);
  if (typeof connection === "string") throw new Error(`the keeper ${connection}`);
  server.close();
  const keeper = await keeperOver(connection, { clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, deadlineMs: DEADLINE_MS });
  return {
    keeper,
    base: join(base, "b"),
    cgroup,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      keeper.close();
      await ended(child);
      rmSync(base, { recursive: true, force: true });
    },
  };
}

async function ended(child: ChildProcess): Promise<string> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return `ended with ${child.exitCode ?? child.signalCode}`;
}
