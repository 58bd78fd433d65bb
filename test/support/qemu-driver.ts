// The `qemu` driver for the contract suite, under the accelerator of HPCC_TEST_ACCELERATOR (tcg unless said).
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { DEFAULT_AGENT_DEADLINES } from "../../src/vm/agent/limits.ts";
import { DEFAULT_BOOT_DEADLINE_MS, openQemuRuntime } from "../../src/vm/qemu/runtime.ts";
import type { DriverUnderTest, MemoryFile, OpenedDriver, OpenOptions } from "../vm/contract/driver.ts";
import { memoryRanges } from "./canary.ts";
import { GUEST_FOLDER, INSTALLED, testAccelerator, VmFolders } from "./vm.ts";

const UID_FIRST = 0x70000000;
const NETWORK = /netdev|virtio-net|vhost-net|e1000|rtl8139|\btap\b|\bslirp\b|hostfwd/;

export function driverUnderTest(
  accelerator = testAccelerator(),
  bootDeadlineMs = DEFAULT_BOOT_DEADLINE_MS,
): DriverUnderTest {
  return {
    name: `qemu, ${accelerator}`,
    parking: "stopped",
    memoryBytes: 512 * 2 ** 20,
    vcpus: 2,
    open: (options = {}) => open(accelerator, bootDeadlineMs, options),
  };
}

async function open(
  accelerator: "auto" | "kvm" | "tcg",
  bootDeadlineMs: number,
  { guestFolder = GUEST_FOLDER, deadlines = {}, logger = SILENT_LOGGER }: OpenOptions,
): Promise<OpenedDriver> {
  const folders = new VmFolders();
  const runtime = await openQemuRuntime(
    {
      qemuProgram: "qemu-system-x86_64",
      vsockDeviceProgram: join(INSTALLED, "vhost-device-vsock"),
      channelProgram: join(INSTALLED, "channel"),
      guestFolder,
      vmsFolder: folders.vms,
      outputsFolder: folders.outputs,
      kvmVerdictFile: folders.kvmVerdict,
      accelerator,
      bootDeadlineMs,
      deadlines: { ...DEFAULT_AGENT_DEADLINES, ...deadlines },
      clock: SYSTEM_CLOCK,
      logger,
    },
    new AbortController().signal,
  );
  const processesOf = (id: string): MachineProcess[] =>
    processesWithin(folders.vms).filter(({ cwd }) => cwd.startsWith(join(folders.vms, `${id}.`)));
  const qemuOf = (id: string): MachineProcess => {
    const found = processesOf(id).filter(({ name }) => name.startsWith("qemu"));
    assert.equal(found.length, 1, `one QEMU of ${id}`);
    return found[0]!;
  };
  return {
    runtime,
    leaks: () =>
      Promise.resolve([
        ...processesWithin(folders.vms).map(({ pid, name, cwd }) => `process ${pid} ${name} in ${cwd}`),
        ...folders.leftovers().map((name) => `file ${name}`),
      ]),
    vmmPid: async (id) => qemuOf(id).pid,
    assertConfined: async (id) => {
      const processes = processesOf(id);
      assert.deepEqual(processes.map(({ name }) => name).sort(), ["qemu-system-x86", "vhost-device-vs"]);
      for (const { pid } of processes) assertFewRights(pid);
      assertNoNetwork(qemuOf(id).pid);
      assertSealed(folders.vms, id);
    },
    memoryFiles: async (id) => [guestMemory(qemuOf(id).pid), ...processesOf(id).map(ownMemory)],
    async [Symbol.asyncDispose]() {
      // There are some only when a test has failed.
      for (const { pid } of processesWithin(folders.vms)) process.kill(pid, "SIGKILL");
      folders[Symbol.dispose]();
    },
  };
}

interface MachineProcess {
  readonly pid: number;
  readonly name: string;
  /** With " (deleted)" at its end once the folder is gone. */
  readonly cwd: string;
}

/** Processes, whoever started them, that work in a folder of machines; this finds those too that nobody waits for. */
function processesWithin(folder: string): MachineProcess[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry): MachineProcess[] => {
      try {
        const cwd = readlinkSync(`/proc/${entry}/cwd`);
        const name = readFileSync(`/proc/${entry}/comm`, "latin1").trim();
        return cwd.startsWith(`${folder}/`) ? [{ pid: Number(entry), name, cwd }] : [];
      } catch {
        return [];
      }
    });
}

function assertFewRights(pid: number): void {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  assert.match(status, /^NoNewPrivs:\t1$/m);
  const descriptors = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  assert.deepEqual(
    descriptors.filter((target) => /tun|tap|vhost-net/.test(target)),
    [],
  );
  // A worker without root can give its machines no user of their own.
  if (process.getuid?.() !== 0) return;
  const ids = [...status.matchAll(/^[UG]id:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/gm)].flatMap(([, ...numbers]) => numbers);
  assert.equal(new Set(ids).size, 1, `one user and group: ${ids.join(" ")}`);
  assert.ok(Number(ids[0]) >= UID_FIRST, "a user of the machines' range");
  assert.match(status, /^CapEff:\t0+$/m);
  assert.match(status, /^CapPrm:\t0+$/m);
  assert.match(status, /^CapBnd:\t0+$/m);
  assert.match(status, /^Groups:\t(\d+ )?\s*$/m, "at most the group of /dev/kvm");
}

function assertNoNetwork(qemu: number): void {
  assert.match(readFileSync(`/proc/${qemu}/status`, "latin1"), /^Seccomp:\t2$/m);
  const argv = readFileSync(`/proc/${qemu}/cmdline`, "latin1").split("\0");
  assert.ok(argv.includes("-nodefaults") && argv.includes("-no-user-config"));
  assert.equal(argv[argv.indexOf("-nic") + 1], "none");
  assert.match(argv[argv.indexOf("-sandbox") + 1] ?? "", /^on,.*elevateprivileges=deny,spawn=deny/);
  assert.deepEqual(
    argv.filter((argument) => NETWORK.test(argument)),
    [],
  );
}

/** The device's socket is gone, the other one is out of the machine's reach. */
function assertSealed(vms: string, id: string): void {
  const folder = readdirSync(vms).find((name) => name.startsWith(`${id}.`));
  assert.ok(folder);
  const own = statSync(join(vms, folder));
  assert.equal(own.mode & 0o777, 0o700);
  assert.equal(own.uid, process.getuid?.());
  assert.deepEqual(readdirSync(join(vms, folder)).sort(), ["shared", "vsock"]);
  assert.deepEqual(readdirSync(join(vms, folder, "shared")), []);
}

/** The guest's memory is a file without a name. */
function guestMemory(qemu: number): MemoryFile {
  const path = readdirSync(`/proc/${qemu}/fd`)
    .map((fd) => `/proc/${qemu}/fd/${fd}`)
    .find((descriptor) => readlinkSync(descriptor).startsWith("/memfd:memory-backend-memfd"));
  assert.ok(path, "QEMU has the guest's memory open");
  return { name: "guest memory", path };
}

/** What a process has beside it: buffers of the guest's bytes among other things. */
function ownMemory({ pid, name }: MachineProcess): MemoryFile {
  const maps = readFileSync(`/proc/${pid}/maps`, "latin1").split("\n");
  const ranges = memoryRanges(maps.filter((line) => !line.includes("memfd:memory-backend")).join("\n"));
  return { name: `memory of ${name}`, path: `/proc/${pid}/mem`, ranges };
}
