// The driver on a keeper of folders, a fake Firecracker and a fake agent: what it asks of them, in which order, and that whatever
// fails leaves nothing. Real machines are the lab's (test/vm).
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { CHANNEL_PROGRAM } from "../../../test/support/agent-streams.ts";
import { type FakeGuestOptions, fakeGuest } from "../../../test/support/fake-guest.ts";
import { FAKE_HELLO, FakeKeeper, type FakeKeeperOptions } from "../../../test/support/fake-keeper.ts";
import { type ErrorCode, HpccError } from "../../base/errors.ts";
import { type LogFields, type Logger, SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { DEFAULT_AGENT_DEADLINES } from "../agent/limits.ts";
import type { BootSpec } from "../runtime.ts";
import { type FirecrackerRuntimeOptions, openFirecrackerRuntime } from "./runtime.ts";

const signal = new AbortController().signal;
const folder = mkdtempSync(join(tmpdir(), "hpcc-fc-runtime-"));
const guestFolder = join(folder, "guest");
const SPEC: BootSpec = {
  rootfs: join(folder, "rootfs"),
  memoryBytes: 256 * 2 ** 20,
  vcpus: 2,
  goldenOwner: null,
};

after(() => rmSync(folder, { recursive: true }));

/** Makes a guest's folder and a root file system; their bytes are never run. */
function writeGuest(): void {
  mkdirSync(guestFolder, { recursive: true });
  const part = (name: string) => {
    writeFileSync(join(guestFolder, name), name);
    return { file: name, digest: sha256(Buffer.from(name)) };
  };
  const parts = { kernel: part("kernel"), initramfs: part("initramfs"), agent: part("agent") };
  writeFileSync(join(guestFolder, "guest.json"), JSON.stringify({ format: 1, ...parts }));
  writeFileSync(SPEC.rootfs, "a root file system");
}

interface SetUp {
  readonly guest?: FakeGuestOptions;
  readonly keeper?: Partial<FakeKeeperOptions>;
  readonly runtime?: Partial<FirecrackerRuntimeOptions>;
}

async function setUp({ guest = {}, keeper: keeperOptions = {}, runtime: runtimeOptions = {} }: SetUp = {}) {
  writeGuest();
  const keeper = new FakeKeeper({ guest: () => fakeGuest(guest), ...keeperOptions });
  const events: string[] = [];
  const note = (event: string, fields?: LogFields) => {
    events.push(event);
    if (process.env["HPCC_TEST_LOG"]) console.log(event, fields);
  };
  const logger: Logger = { ...SILENT_LOGGER, info: note, warn: note, error: note };
  const runtime = await openFirecrackerRuntime({
    keeper,
    guestFolder,
    outputsFolder: join(folder, "outputs"),
    channelProgram: CHANNEL_PROGRAM,
    bootDeadlineMs: 20_000,
    restoreDeadlineMs: 20_000,
    clock: SYSTEM_CLOCK,
    logger,
    ...runtimeOptions,
  });
  return {
    keeper,
    runtime,
    events,
    async [Symbol.asyncDispose]() {
      await runtime.close();
      await Promise.all(keeper.live.map((jail) => jail.destroy()));
      assert.deepEqual(keeper.leftovers(), []);
      assert.deepEqual(openSockets(), []);
      keeper[Symbol.dispose]();
    },
  };
}

/** Handles of vsock sockets that this process still holds: their names are gone. */
function openSockets(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.includes("/vsock") ? [target] : [];
    } catch {
      return [];
    }
  });
}

function failsWith(code: ErrorCode, pattern = /./) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

describe("the firecracker driver", () => {
  it("hands its files to the keeper, boots a machine and seals it before the guest runs", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(machine.origin, "boot");
    assert.equal(machine.isolation, "firecracker");
    assert.equal(machine.versions.vmm, "Firecracker v1.16.1");
    assert.deepEqual(
      own.keeper.admitted.map(({ kind, digest }) => [kind, digest]),
      [
        ["kernel", sha256(Buffer.from("kernel"))],
        ["initramfs", sha256(Buffer.from("initramfs"))],
        ["rootfs", sha256(Buffer.from("a root file system"))],
      ],
    );
    const [jail] = own.keeper.jails;
    assert.equal(jail?.spec.rootfs, sha256(Buffer.from("a root file system")));
    assert.equal(jail.spec.snapshot, null);
    assert.ok(jail.spec.fileBytesMax > SPEC.memoryBytes);
    assert.deepEqual(jail.vsockNames(), [], "nobody can dial the guest by a name");
    assert.equal(jail.agent.dialled, 1);
    await machine.destroy();
    assert.deepEqual(await machine.ended, { t: "destroyed" });
  });

  it("makes a golden after the first boot, warmed and scrubbed, and restores from then on", async () => {
    const programs: string[] = [];
    await using own = await setUp({ guest: { onExecute: (program) => programs.push(program) } });
    const first = await own.runtime.boot(SPEC, signal);
    await own.runtime.prepare(SPEC);
    assert.deepEqual(programs, ["/usr/bin/gcc", "/usr/bin/g++"], "a compile of ours in each language");
    const [, source] = own.keeper.jails;
    assert.equal(source?.lives, false, "the golden's source is gone");
    assert.equal(source.agent.dialled, 2, "it was scrubbed");
    assert.deepEqual(source.firecracker.changes.slice(-3), ["/actions", "/vm", "/snapshot/create"]);
    const second = await own.runtime.boot(SPEC, signal);
    assert.equal(second.origin, "golden");
    assert.notEqual(second.id, first.id);
    const jail = own.keeper.jails[2];
    assert.deepEqual(jail?.firecracker.changes, ["/logger", "/serial", "/snapshot/load", "/vm"]);
    assert.deepEqual(jail.vsockNames(), []);
    assert.equal(own.keeper.snapshots.get(jail.spec.snapshot?.id ?? ""), jail.spec.snapshot?.binding);
    await Promise.all([first.destroy(), second.destroy()]);
  });

  it("prepares a golden ahead of demand, once however many ask", async () => {
    await using own = await setUp();
    await Promise.all([own.runtime.prepare(SPEC), own.runtime.prepare(SPEC)]);
    assert.equal(own.keeper.jails.length, 1);
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(machine.origin, "golden");
    await machine.destroy();
  });

  it("keeps goldens of owners, sizes and root file systems apart", async () => {
    await using own = await setUp();
    await own.runtime.prepare(SPEC);
    const other = join(folder, "other-rootfs");
    writeFileSync(other, "another root file system");
    for (const spec of [
      { ...SPEC, goldenOwner: "tenant-a" },
      { ...SPEC, memoryBytes: 2 * SPEC.memoryBytes },
      { ...SPEC, vcpus: 1 },
      { ...SPEC, rootfs: other },
    ]) {
      const machine = await own.runtime.boot(spec, signal);
      assert.equal(machine.origin, "boot");
      await machine.destroy();
      await own.runtime.prepare(spec);
    }
    assert.equal(own.keeper.snapshots.size, 5);
    assert.equal(new Set(own.keeper.snapshots.values()).size, 5);
    const machine = await own.runtime.boot({ ...SPEC, goldenOwner: "tenant-a" }, signal);
    assert.equal(machine.origin, "golden");
    await machine.destroy();
  });

  it("takes another root file system at the same path for what it is", async () => {
    await using own = await setUp();
    await own.runtime.prepare(SPEC);
    writeFileSync(SPEC.rootfs, "a newer root file system");
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(machine.origin, "boot");
    await machine.destroy();
  });

  it("falls back to a boot when a golden cannot be restored, and drops it", async () => {
    const faults = { load: null as string | null };
    await using own = await setUp({
      keeper: { fault: ({ path }) => (path === "/snapshot/load" ? faults.load : null) },
    });
    await own.runtime.prepare(SPEC);
    faults.load = "CRC is wrong";
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(machine.origin, "boot");
    assert.ok(own.events.includes("vm.golden.not_restored"), own.events.join());
    faults.load = null;
    await own.runtime.prepare(SPEC);
    assert.equal(own.keeper.snapshots.size, 1, "the bad one is gone, a new one is there");
    const next = await own.runtime.boot(SPEC, signal);
    assert.equal(next.origin, "golden");
    await Promise.all([machine.destroy(), next.destroy()]);
  });

  it("falls back to a boot when the keeper no longer vouches for a golden", async () => {
    await using own = await setUp();
    await own.runtime.prepare(SPEC);
    for (const id of own.keeper.snapshots.keys()) own.keeper.snapshots.set(id, sha256(Buffer.from("tampered")));
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(machine.origin, "boot");
    assert.ok(own.events.includes("vm.golden.not_restored"));
    await machine.destroy();
  });

  it("drops its goldens when it closes", async () => {
    await using own = await setUp();
    await own.runtime.prepare(SPEC);
    await own.runtime.close();
    assert.equal(own.keeper.snapshots.size, 0);
  });

  it("boots without a golden when none can be made", async () => {
    await using own = await setUp();
    own.keeper.snapshotError = new HpccError("vm.lost", "no space left on device");
    await own.runtime.prepare(SPEC);
    assert.ok(own.events.includes("vm.golden.failed"));
    assert.deepEqual(own.keeper.live, []);
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(machine.origin, "boot");
    await machine.destroy();
  });

  it("waits for an agent that still clears away", async () => {
    await using own = await setUp({ keeper: { refusals: 3 } });
    const machine = await own.runtime.boot(SPEC, signal);
    assert.equal(own.keeper.jails[0]?.agent.dialled, 4);
    await machine.destroy();
  });
});

describe("a firecracker machine", () => {
  it("scrubs: a new stream on a connection that nobody else could have dialled", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    const before = machine.session;
    await machine.scrub(signal);
    assert.notEqual(machine.session, before);
    assert.ok(machine.alive);
    assert.equal(own.keeper.jails[0]?.agent.dialled, 2);
    await machine.destroy();
    await assert.rejects(machine.scrub(signal), failsWith("vm.lost"));
  });

  it("parks into a snapshot of its own and is restored once, as itself", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    const parked = await machine.park(signal);
    assert.deepEqual(await machine.ended, { t: "parked" });
    assert.equal(machine.alive, false);
    assert.equal(own.keeper.jails[0]?.lives, false);
    assert.equal(parked.parking, "snapshot");
    assert.equal(parked.diskBytes, 1_001_000);
    const restored = await parked.restore(signal);
    assert.deepEqual(await parked.ended, { t: "parked" });
    assert.equal(restored.id, machine.id);
    assert.equal(restored.origin, "parked");
    assert.deepEqual(restored.versions, machine.versions);
    const bindings = new Set(own.keeper.jails.flatMap(({ spec }) => spec.snapshot?.binding ?? []));
    assert.equal(bindings.size, 1);
    await assert.rejects(parked.restore(signal), failsWith("vm.boot"));
    await parked.destroy();
    assert.ok(restored.alive);
    await own.runtime.prepare(SPEC);
    assert.equal(own.keeper.snapshots.size, 1, "only the golden is left");
    assert.ok(![...own.keeper.snapshots.values()].some((binding) => bindings.has(binding)));
    await restored.destroy();
  });

  it("gives two parked machines snapshots that are not each other's", async () => {
    await using own = await setUp();
    const machines = await Promise.all([own.runtime.boot(SPEC, signal), own.runtime.boot(SPEC, signal)]);
    await own.runtime.prepare(SPEC);
    const parked = await Promise.all(machines.map((machine) => machine.park(signal)));
    assert.equal(new Set(own.keeper.snapshots.values()).size, 3);
    await Promise.all(parked.map((one) => one.destroy()));
    for (const one of parked) assert.deepEqual(await one.ended, { t: "destroyed" });
    assert.equal(own.keeper.snapshots.size, 1);
  });

  it("is lost with nothing left when its state cannot be kept", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    await own.runtime.prepare(SPEC);
    own.keeper.snapshotError = new HpccError("vm.lost", "no space left on device");
    await assert.rejects(machine.park(signal), failsWith("vm.lost", /not kept: no space/));
    assert.equal((await machine.ended).t, "lost");
    assert.deepEqual(own.keeper.live, []);
    assert.equal(own.keeper.snapshots.size, 1);
  });

  it("is lost with nothing left when Firecracker does not write its snapshot", async () => {
    await using own = await setUp({
      keeper: { fault: ({ path }) => (path === "/snapshot/create" ? "no space left on device" : null) },
    });
    const machine = await own.runtime.boot(SPEC, signal);
    await assert.rejects(machine.park(signal), failsWith("vm.lost", /no space left/));
    assert.equal((await machine.ended).t, "lost");
  });

  it("is lost before anything is written when there is no room for its snapshot", async () => {
    const written: string[] = [];
    await using own = await setUp({
      keeper: {
        fault: ({ path }) => {
          written.push(path);
          return null;
        },
      },
    });
    const machine = await own.runtime.boot(SPEC, signal);
    await own.runtime.prepare(SPEC);
    written.length = 0;
    own.keeper.reserveError = new HpccError("vm.lost", "the quota has no room");
    await assert.rejects(machine.park(signal), failsWith("vm.lost", /no room/));
    assert.equal((await machine.ended).t, "lost");
    assert.deepEqual(own.keeper.live, []);
    assert.ok(!written.includes("/snapshot/create"), written.join(" "));
  });

  it("is a breach when the keeper finds something else than a snapshot", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    await own.runtime.prepare(SPEC);
    own.keeper.snapshotError = new HpccError("vm.breach", "memory.new is a link");
    await assert.rejects(machine.park(signal), failsWith("vm.breach", /is a link/));
    assert.equal((await machine.ended).t, "breach");
  });

  it("is a breach when its guest leaves something behind, or does not scrub at all", async () => {
    for (const guest of [{ processesLeft: 1 }, { ignoresScrub: true }]) {
      await using own = await setUp({
        guest,
        runtime: { deadlines: { ...DEFAULT_AGENT_DEADLINES, scrubMs: 300 } },
      });
      const machine = await own.runtime.boot(SPEC, signal);
      await assert.rejects(machine.park(signal), failsWith("vm.breach"));
      assert.equal((await machine.ended).t, "breach");
      await own.runtime.close();
      assert.deepEqual(own.keeper.live, []);
    }
  });

  it("can be destroyed while it parks, and leaves no snapshot", async () => {
    const reached = Promise.withResolvers<void>();
    await using own = await setUp({
      keeper: {
        fault: ({ path }) => {
          if (path === "/snapshot/create") reached.resolve();
          return null;
        },
      },
    });
    const machine = await own.runtime.boot(SPEC, signal);
    await own.runtime.close();
    const parking = machine.park(signal);
    await reached.promise;
    const refused = assert.rejects(parking, failsWith("vm.lost"));
    await machine.destroy();
    await refused;
    assert.deepEqual(await machine.ended, { t: "destroyed" });
    assert.equal(own.keeper.snapshots.size, 0);
  });

  it("whose restore fails is gone with its snapshot", async () => {
    const faults = { load: null as string | null };
    await using own = await setUp({
      keeper: { fault: ({ path }) => (path === "/snapshot/load" ? faults.load : null) },
    });
    const machine = await own.runtime.boot(SPEC, signal);
    await own.runtime.close();
    const parked = await machine.park(signal);
    faults.load = "CRC is wrong";
    await assert.rejects(parked.restore(signal), failsWith("vm.boot", /not restored: .*CRC is wrong/));
    assert.equal((await parked.ended).t, "lost");
    assert.equal(own.keeper.snapshots.size, 0);
    await assert.rejects(parked.restore(signal), failsWith("vm.boot", /is gone/));
  });

  it("that is parked is lost with its keeper", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    const parked = await machine.park(signal);
    await own.keeper.die();
    assert.equal((await parked.ended).t, "lost");
    await assert.rejects(parked.restore(signal), failsWith("vm.boot"));
  });

  it("is lost when its VMM dies", async () => {
    await using own = await setUp();
    const machine = await own.runtime.boot(SPEC, signal);
    await own.keeper.jails[0]?.crash("exited with code 148");
    const end = await machine.ended;
    assert.equal(end.t, "lost");
    assert.match("detail" in end ? end.detail : "", /exited with code 148/);
    assert.ok(!machine.alive);
  });

  it("is a breach when its guest floods the console", async () => {
    await using own = await setUp({ runtime: { consoleBytesMax: 10_000 } });
    const machine = await own.runtime.boot(SPEC, signal);
    own.keeper.jails[0]?.say("x".repeat(20_000));
    assert.deepEqual(await machine.ended, { t: "breach", detail: "the guest floods its console" });
  });
});

describe("a firecracker boot that fails", () => {
  const CASES: readonly (readonly [string, SetUp, RegExp])[] = [
    [
      "for a network interface",
      { keeper: { extraConfig: { "network-interfaces": [{ iface_id: "eth0" }] } } },
      /has network-interfaces/,
    ],
    [
      "for Firecracker's refusal",
      { keeper: { fault: ({ path }) => (path === "/actions" ? "no such kernel" : null) } },
      /refused PUT \/actions: no such kernel/,
    ],
    [
      "for another version than the keeper's",
      { keeper: { hello: { ...FAKE_HELLO, vmm: { ...FAKE_HELLO.vmm, version: "1.17.0" } } } },
      /says it is 1\.16\.1, not 1\.17\.0/,
    ],
    [
      "for an agent that never answers",
      { keeper: { refusals: 1_000_000 }, runtime: { bootDeadlineMs: 300 } },
      /did not answer within 300 ms/,
    ],
  ];
  for (const [what, options, pattern] of CASES)
    it(`${what} says so and leaves nothing`, async () => {
      await using own = await setUp(options);
      await assert.rejects(own.runtime.boot(SPEC, signal), failsWith("vm.boot", pattern));
      assert.deepEqual(own.keeper.live, []);
    });

  it("says the console's last words", async () => {
    await using own = await setUp({ keeper: { refusals: 1_000_000 }, runtime: { bootDeadlineMs: 2_000 } });
    const booting = own.runtime.boot(SPEC, signal);
    const refused = assert.rejects(booting, failsWith("vm.boot", /\nKernel panic: no init$/m));
    while (own.keeper.jails.length === 0) await new Promise((resolve) => setImmediate(resolve));
    own.keeper.jails[0]?.say("Kernel panic: no init\n");
    await refused;
  });

  it("says why it failed, also when its jail does not go away, which is logged", async () => {
    await using own = await setUp({ keeper: { refusals: 1_000_000 }, runtime: { bootDeadlineMs: 2_000 } });
    const booting = own.runtime.boot(SPEC, signal);
    const refused = assert.rejects(booting, failsWith("vm.boot", /did not answer within 2000 ms/));
    while (own.keeper.jails.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const jail = own.keeper.jails[0]!;
    jail.destroy = async () => {
      await jail.crash("was killed");
      throw new HpccError("vm.lost", "the keeper refused: a mount stays");
    };
    await refused;
    assert.ok(own.events.includes("vm.leaked"), own.events.join(" "));
  });

  it("is given up by its signal", async () => {
    await using own = await setUp({ keeper: { refusals: 1_000_000 } });
    const giveUp = new AbortController();
    const booting = own.runtime.boot(SPEC, giveUp.signal);
    const reason = new HpccError("job.cancelled", "nobody wants it");
    const refused = assert.rejects(booting, reason);
    while (own.keeper.jails.length === 0) await new Promise((resolve) => setImmediate(resolve));
    giveUp.abort(reason);
    await refused;
    assert.deepEqual(own.keeper.live, []);
  });

  it("names a shape that Firecracker does not make, and a root file system that is not there", async () => {
    await using own = await setUp();
    await assert.rejects(own.runtime.boot({ ...SPEC, vcpus: 33 }, signal), failsWith("config.invalid", /33 vCPUs/));
    const rootfs = join(folder, "absent");
    await assert.rejects(own.runtime.boot({ ...SPEC, rootfs }, signal), failsWith("vm.boot", /absent cannot be read/));
    assert.equal(own.keeper.jails.length, 0);
  });
});
