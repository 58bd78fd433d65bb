// The `firecracker` driver for the contract suite and for claims about its machines: a real keeper, real Firecracker, and a look at
// them from the host, as root.
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { DEFAULT_AGENT_DEADLINES } from "../../src/vm/agent/limits.ts";
import { type FirecrackerRuntime, openFirecrackerRuntime } from "../../src/vm/firecracker/runtime.ts";
import type { Jail, JailSpec, Keeper, KeptSnapshot } from "../../src/vm/keeper/keeper.ts";
import type { BootSpec, Machine } from "../../src/vm/runtime.ts";
import type { DriverUnderTest, MemoryFile, OpenedDriver, OpenOptions } from "../vm/contract/driver.ts";
import { memoryRanges } from "./canary.ts";
import { startTestKeeper, type TestKeeper, UID_FIRST, UID_LAST } from "./test-keeper.ts";
import { GUEST_FOLDER, INSTALLED } from "./vm.ts";

/** The lab emulates the emulator of the machine. */
const DEADLINE_MS = 240_000;
/** Every machine is booted, none restored from a golden. */
const BOOTED = process.env["HPCC_TEST_GOLDENS"] === "0";
const SEALED_NAMES = ["v.sock", "run/api.sock", "dev/net/tun", "dev/userfaultfd"];

export function driverUnderTest(): DriverUnderTest {
  return {
    name: "firecracker",
    parking: "snapshot",
    memoryBytes: 256 * 2 ** 20,
    vcpus: 1,
    open: (options = {}) => openFirecracker({ ...(BOOTED && { goldens: false }), ...options }),
  };
}

export interface OpenedFirecracker extends OpenedDriver {
  readonly runtime: FirecrackerRuntime;
  readonly keeper: TestKeeper;
  readonly jails: WatchedKeeper;
  /** The jail's root folder of a machine that lives, as the host sees it. */
  rootOf(id: string): string;
  /** Where the worker finds the machine's sockets. */
  runFolder(id: string): string;
}

/** Remembers which machine has had which uid, so that what is found on the host has a name. */
export class WatchedKeeper implements Keeper {
  readonly hello: Keeper["hello"];
  readonly ended: Promise<string>;
  readonly uids = new Map<number, string>();
  readonly snapshots = new Map<string, string>();
  readonly #keeper: Keeper;

  constructor(keeper: Keeper) {
    this.#keeper = keeper;
    this.hello = keeper.hello;
    this.ended = keeper.ended;
  }

  admit(file: Parameters<Keeper["admit"]>[0]): Promise<void> {
    // The keeper opens files as the worker's user, which a test's own folder does not let in.
    if (file.path.startsWith(tmpdir())) chmodSync(dirname(file.path), 0o755);
    return this.#keeper.admit(file);
  }

  async start(spec: JailSpec, signal: AbortSignal): Promise<Jail> {
    const jail = await this.#keeper.start(spec, signal);
    this.uids.set(jail.uid, spec.vm);
    const { snapshots } = this;
    return {
      vm: jail.vm,
      uid: jail.uid,
      apiSocket: jail.apiSocket,
      consolePipe: jail.consolePipe,
      ended: jail.ended,
      exposeVsock: () => jail.exposeVsock(),
      sealVsock: () => jail.sealVsock(),
      reserve: () => jail.reserve(),
      destroy: () => jail.destroy(),
      async snapshot(binding: Digest, during: AbortSignal): Promise<KeptSnapshot> {
        const kept = await jail.snapshot(binding, during);
        snapshots.set(kept.id, spec.vm);
        return kept;
      },
    };
  }

  dropSnapshot(id: string): Promise<void> {
    return this.#keeper.dropSnapshot(id);
  }

  close(): void {
    this.#keeper.close();
  }
}

export interface FirecrackerOpenOptions extends OpenOptions {
  /** False boots each machine; else each is restored from a golden that is made first. */
  readonly goldens?: boolean;
  readonly metrics?: boolean;
  readonly restoresMax?: number;
  /** Where the keeper's folder is made. */
  readonly disk?: string;
}

export async function openFirecracker(options: FirecrackerOpenOptions = {}): Promise<OpenedFirecracker> {
  const { guestFolder = GUEST_FOLDER, deadlines = {}, logger = SILENT_LOGGER } = options;
  // Warming a golden ends with a clearing, which takes what a guest of a test's own runs beside the agent.
  const { goldens = guestFolder === GUEST_FOLDER } = options;
  const outputs = mkdtempSync(join(tmpdir(), "hpcc-fc-outputs-"));
  const keeper = await startTestKeeper(options.disk);
  const jails = new WatchedKeeper(keeper.keeper);
  const opened = await openFirecrackerRuntime({
    keeper: jails,
    guestFolder,
    outputsFolder: outputs,
    channelProgram: join(INSTALLED, "channel"),
    bootDeadlineMs: DEADLINE_MS,
    restoreDeadlineMs: DEADLINE_MS,
    deadlines: { ...DEFAULT_AGENT_DEADLINES, scrubMs: DEADLINE_MS, ...deadlines },
    goldens: { goldensMax: goldens ? 32 : 0, maxAgeMs: 24 * 3_600_000, restoresMax: options.restoresMax ?? 100_000 },
    metrics: options.metrics ?? false,
    clock: SYSTEM_CLOCK,
    logger,
  });
  /** Machines that were given out; others are those that goldens are made of. */
  const given = new Set<string>();
  const runtime: FirecrackerRuntime = {
    isolation: opened.isolation,
    parking: opened.parking,
    prepare: (spec) => opened.prepare(spec),
    close: () => opened.close(),
    async boot(spec: BootSpec, signal: AbortSignal): Promise<Machine> {
      // What is made in the background would look like a leak.
      if (goldens) await opened.prepare(spec);
      const machine = await opened.boot(spec, signal);
      given.add(machine.id);
      return machine;
    },
  };
  const look = new HostLook(keeper, jails);
  return {
    runtime,
    keeper,
    jails,
    rootOf: (id) => `/proc/${look.pidOf(id)}/root`,
    runFolder: (id) => join(keeper.base, "run", id),
    leaks: async () => {
      const golden = (id: string) => !given.has(jails.snapshots.get(id) ?? "");
      return [...look.leaks(golden), ...readdirSync(outputs).map((name) => `output ${name}`)];
    },
    vmmPid: async (id) => look.pidOf(id),
    assertConfined: async (id) => look.assertConfined(id),
    memoryFiles: async (id) => look.memoryFiles(id),
    async [Symbol.asyncDispose]() {
      await opened.close();
      await keeper[Symbol.asyncDispose]();
      rmSync(outputs, { recursive: true, force: true });
      assert.deepEqual(
        look.leaks(() => false),
        [],
      );
    },
  };
}

interface VmmProcess {
  readonly pid: number;
  readonly uid: number;
  readonly cgroup: string;
}

class HostLook {
  readonly #keeper: TestKeeper;
  readonly #jails: WatchedKeeper;

  constructor(keeper: TestKeeper, jails: WatchedKeeper) {
    this.#keeper = keeper;
    this.#jails = jails;
  }

  pidOf(id: string): number {
    const found = this.#processes().filter(({ uid }) => this.#jails.uids.get(uid) === id);
    assert.equal(found.length, 1, `one process of ${id}`);
    return found[0]?.pid ?? 0;
  }

  leaks(isGolden: (snapshot: string) => boolean): string[] {
    const { base, cgroup } = this.#keeper;
    const processes = this.#processes();
    // The kernel's own threads of a machine are root's, in the machine's control group.
    const named = (group: string): string =>
      processes.flatMap(({ cgroup: other, uid }) => (other === group ? (this.#jails.uids.get(uid) ?? []) : []))[0] ??
      "nobody";
    const list = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);
    // A jail and its control group have the keeper's own name; whose they are shows who runs there.
    const ownerOf = (name: string): string => {
      const inside = processes.find((one) => one.cgroup.endsWith(`/${name}`));
      return inside ? named(inside.cgroup) : "nobody";
    };
    const jails = list(join(base, "jails"))
      .flatMap((vmm) => list(join(base, "jails", vmm)))
      .map((id) => `jail ${id} of ${ownerOf(id)}`);
    const groups = list(cgroup)
      .filter((name) => statSync(join(cgroup, name)).isDirectory())
      .flatMap((own) => list(join(cgroup, own)).filter((name) => statSync(join(cgroup, own, name)).isDirectory()))
      .map((name) => `cgroup ${name} of ${ownerOf(name)}`);
    return [
      ...processes.map((one) => `process ${one.pid} of ${named(one.cgroup)}`),
      ...jails,
      ...groups,
      ...list(join(base, "run")).map((name) => `sockets of ${name}`),
      ...list(join(base, "snapshots/kept"))
        .filter((id) => !isGolden(id))
        .map((id) => `snapshot ${id} of ${this.#jails.snapshots.get(id) ?? "nobody"}`),
    ];
  }

  assertConfined(id: string): void {
    const pid = this.pidOf(id);
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    const ids = [...status.matchAll(/^[UG]id:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/gm)].flatMap(([, ...numbers]) => numbers);
    assert.equal(new Set(ids).size, 1, `one user and group: ${ids.join(" ")}`);
    const uid = Number(ids[0]);
    assert.ok(uid >= UID_FIRST && uid <= UID_LAST, `a user of the machines' range, not ${uid}`);
    assert.match(status, /^Cap(Eff|Prm):\t0+$/m);
    assert.match(status, /^Groups:\t\s*$/m);
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Seccomp:\t2$/m);
    const argv = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
    assert.deepEqual(
      argv.filter((argument) => /enable-pci|no-seccomp|seccomp-filter/.test(argument)),
      [],
    );
    assert.match(readFileSync(`/proc/${pid}/limits`, "latin1"), /^Max file size +\d+ /m);
    assert.ok(this.#processes().some((one) => one.pid === pid && one.cgroup.startsWith(this.#cgroupPath())));
    this.#assertSealed(id, pid);
    assertNoNetwork(pid);
  }

  memoryFiles(id: string): MemoryFile[] {
    const kept = [...this.#jails.snapshots].filter(([, vm]) => vm === id).map(([snapshot]) => snapshot);
    const folders = kept.map((snapshot) => join(this.#keeper.base, "snapshots/kept", snapshot));
    const files = folders
      .filter((folder) => existsSync(folder))
      .flatMap((folder) => ["memory", "state"].map((name) => ({ name: `snapshot ${name}`, path: join(folder, name) })));
    if (files.length > 0) return files;
    const pid = this.pidOf(id);
    const ranges = memoryRanges(readFileSync(`/proc/${pid}/maps`, "latin1"));
    return [{ name: "memory of Firecracker", path: `/proc/${pid}/mem`, ranges }];
  }

  #cgroupPath(): string {
    return this.#keeper.cgroup.replace(/^\/sys\/fs\/cgroup/, "");
  }

  #processes(): VmmProcess[] {
    return readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry))
      .flatMap((entry): VmmProcess[] => {
        try {
          const status = readFileSync(`/proc/${entry}/status`, "latin1");
          const uid = Number(/^Uid:\t(\d+)/m.exec(status)?.[1]);
          const cgroup = readFileSync(`/proc/${entry}/cgroup`, "latin1").replace(/^0::/, "").trim();
          const ours = (uid >= UID_FIRST && uid <= UID_LAST) || cgroup.startsWith(`${this.#cgroupPath()}/`);
          return ours && !/^State:\tZ/m.test(status) ? [{ pid: Number(entry), uid, cgroup }] : [];
        } catch {
          return [];
        }
      });
  }

  /** Nobody can dial the guest, and the jail has no device but KVM and random numbers. */
  #assertSealed(id: string, pid: number): void {
    for (const name of SEALED_NAMES) assert.ok(!existsSync(`/proc/${pid}/root/${name}`), `${name} is gone`);
    const sockets = readdirSync(join(this.#keeper.base, "run", id)).sort();
    assert.deepEqual(sockets, ["api", "console"]);
  }
}

/** No network device in its namespace but a loopback that is down, and none that it could open. */
export function assertNoNetwork(pid: number): void {
  assert.notEqual(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync("/proc/self/ns/net"));
  const devices = readFileSync(`/proc/${pid}/net/dev`, "latin1").trim().split("\n").slice(2);
  assert.deepEqual(
    devices.map((line) => line.split(":")[0]?.trim()),
    ["lo"],
  );
  assert.doesNotMatch(readFileSync(`/proc/${pid}/net/fib_trie`, "latin1"), /127\.0\.0\.1/, "lo is down");
  assert.equal(readFileSync(`/proc/${pid}/net/if_inet6`, "latin1"), "", "lo is down");
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  assert.deepEqual(
    open.filter((target) => /tun|tap|vhost/.test(target)),
    [],
  );
}
