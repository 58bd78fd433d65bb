// What goes wrong while real Firecracker writes a machine's memory: its disk is full, its disk fails, the kernel takes its memory.
// The machine is not parked, and within seconds nothing of it is left; others live on.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "../../src/vm/runtime.ts";
import { withoutFirecracker } from "../support/firecracker.ts";
import { type OpenedFirecracker, openFirecracker } from "../support/firecracker-driver.ts";
import { makeToolchain } from "../support/vm-toolchain.ts";
import { runsOn } from "./contract/executions.ts";

const skip = withoutFirecracker();
const MIB = 2 ** 20;
const MEMORY_BYTES = 128 * MIB;
const GONE_MS = 5_000;
/** Enough for programs, guest and toolchain, not for a machine's memory as well. */
const FULL_DISK_BYTES = 160 * MIB;
const signal = new AbortController().signal;

let folder: string;
let rootfs: string;

before(() => {
  if (skip) return;
  folder = mkdtempSync(join(tmpdir(), "hpcc-parking-"));
  rootfs = makeToolchain(folder);
});
after(() => {
  if (folder) rmSync(folder, { recursive: true });
});

/** A file system on a file whose own disk may be smaller than it seems. */
class FileDisk implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "hpcc-disk-"));
  readonly #under = mkdtempSync(join(tmpdir(), "hpcc-under-"));

  constructor({ bytes, realBytes }: { bytes: number; realBytes: number }) {
    const size = `size=${Math.round(realBytes / MIB)}m`;
    execFileSync("mount", ["-t", "tmpfs", "-o", size, "under", this.#under]);
    const file = join(this.#under, "disk");
    writeFileSync(file, "");
    truncateSync(file, bytes);
    execFileSync("mkfs.ext4", ["-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-m", "0", file]);
    execFileSync("mount", ["-o", "loop,errors=continue", file, this.path]);
  }

  [Symbol.dispose](): void {
    execFileSync("umount", ["-l", this.path]);
    execFileSync("umount", ["-l", this.#under]);
    for (const path of [this.path, this.#under]) rmSync(path, { recursive: true });
  }
}

const boot = (opened: OpenedFirecracker): Promise<Machine> =>
  opened.runtime.boot({ rootfs, memoryBytes: MEMORY_BYTES, vcpus: 1, goldenOwner: null }, signal);

/** It ended otherwise than by a park, and nothing of it is left. */
async function assertGone(opened: OpenedFirecracker, machine: Machine, besides: string): Promise<void> {
  const deadlineMs = performance.now() + GONE_MS;
  const { t } = await machine.ended;
  assert.notEqual(t, "parked");
  const leaks = async () => (await opened.leaks()).filter((leak) => besides === "" || !leak.includes(besides));
  while ((await leaks()).length > 0 && performance.now() < deadlineMs) await sleep(20);
  assert.deepEqual(await leaks(), []);
}

test("a full disk", { skip }, async () => {
  using disk = new FileDisk({ bytes: FULL_DISK_BYTES, realBytes: FULL_DISK_BYTES });
  await using opened = await openFirecracker({ goldens: false, disk: disk.path });
  const machine = await boot(opened);
  await runsOn(machine);
  await assert.rejects(machine.park(signal));
  await assertGone(opened, machine, "");
  await using next = await boot(opened).then((booted) => ({ booted, [Symbol.asyncDispose]: () => booted.destroy() }));
  await runsOn(next.booted);
});

test("a disk that fails", { skip }, async () => {
  using disk = new FileDisk({ bytes: 1024 * MIB, realBytes: FULL_DISK_BYTES });
  await using opened = await openFirecracker({ goldens: false, disk: disk.path });
  const machine = await boot(opened);
  await runsOn(machine);
  await assert.rejects(machine.park(signal));
  await assertGone(opened, machine, "");
});

test("out of memory, while another machine lives on", { skip }, async () => {
  await using opened = await openFirecracker({ goldens: false });
  const [machine, other] = [await boot(opened), await boot(opened)];
  const group = cgroupOf(await opened.vmmPid(machine.id));
  const memory = join(opened.rootOf(machine.id), "memory.new");
  const parking = assert.rejects(machine.park(signal));
  while (!existsSync(memory)) await sleep(1);
  writeFileSync(join(group, "memory.max"), String(8 * MIB));
  await parking;
  await assertGone(opened, machine, other.id);
  await runsOn(other);
  await other.destroy();
});

/** Folder of a process' control group. */
function cgroupOf(pid: number): string {
  const found = readFileSync(`/proc/${pid}/cgroup`, "latin1");
  return join("/sys/fs/cgroup", found.replace(/^0::/, "").trim());
}
