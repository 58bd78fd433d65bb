// What is the `qemu` driver's own, beside the contract of every driver (contract/): the devices that its machines have, its worker's
// death, its choice of an accelerator; and the pool with real machines.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ErrorCode, HpccError } from "../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { parseSpiffeId } from "../../src/core/identity/spiffe.ts";
import { makePoolKey } from "../../src/vm/pool-key.ts";
import type { Runtime } from "../../src/vm/runtime.ts";
import type { VmEvent } from "../../src/vm/vm-event.ts";
import { WarmVmPool } from "../../src/vm/warm-vm-pool.ts";
import { isAlive } from "../support/processes.ts";
import { bootSpec, childrenNamed, MACHINE, openTestRuntime, request, VmFolders } from "../support/vm.ts";
import { compileProbe, makeToolchain } from "../support/vm-toolchain.ts";

const repository = join(import.meta.dirname, "../..");
const signal = new AbortController().signal;
const folders = new VmFolders();
let runtime: Runtime;
let rootfs: string;

before(async () => {
  runtime = await openTestRuntime(folders);
  rootfs = makeToolchain(folders.root);
});

after(() => {
  assert.deepEqual(folders.leftovers(), []);
  assert.deepEqual(childrenNamed("qemu-system-x86_64"), []);
  assert.deepEqual(childrenNamed("vhost-device-vsock"), []);
  folders[Symbol.dispose]();
});

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function rejectsWith(code: ErrorCode, pattern = /./) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

describe("a machine", () => {
  it("has a disk, a random number generator and vsock: no network device", async () => {
    const guest = join(folders.root, "probe-guest");
    mkdirSync(guest);
    const init = join(folders.root, "devices");
    compileProbe("devices", init);
    const node = join(repository, "node_modules/.bin/node");
    execFileSync(node, ["scripts/guest/pack.ts", ".cache/guest", init, guest], { cwd: repository });
    const probed = await openTestRuntime(folders, { guestFolder: guest });
    await assert.rejects(probed.boot(bootSpec(rootfs), signal), (error) => {
      assert.ok(error instanceof HpccError && error.code === "vm.boot", String(error));
      const said = error.message.split("\n").filter((line) => line.startsWith("probe:"));
      assert.equal(said.length, 4, error.message);
      const virtio = /^probe: virtio:(.*)$/
        .exec(said[0] ?? "")?.[1]
        ?.trim()
        .split(" ")
        .sort();
      assert.deepEqual(virtio, ["0x0002", "0x0004", "0x0013"], "block, rng, vsock; network would be 0x0001");
      assert.equal(said[1], "probe: interfaces: lo");
      const classes = said[2]?.replace("probe: pci: ", "").split(" ") ?? [];
      assert.ok(classes.length >= 4, said[2]);
      for (const one of classes) assert.doesNotMatch(one, /^0x02/, "a network device");
      assert.equal(said[3], "probe: block: vda");
      return true;
    });
  });

  for (const state of ["running", "parked"]) {
    it(`ends with its worker, however that ends, and the next worker sweeps up: ${state}`, async () => {
      using own = new VmFolders();
      const node = join(repository, "node_modules/.bin/node");
      const worker = spawn(node, [join(repository, "test/support/hold-vm.ts"), own.root, rootfs, state], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      await once(worker.stdout, "data");
      const pids = ["qemu-system-x86_64", "vhost-device-vsock"].flatMap((name) => childrenNamed(name, worker.pid));
      assert.equal(pids.length, 2);
      worker.kill("SIGKILL");
      await once(worker, "exit");
      const deadlineMs = performance.now() + 5_000;
      while (pids.some(isAlive) && performance.now() < deadlineMs) await turn();
      assert.deepEqual(pids.filter(isAlive), [], "the kernel ends the machine's processes within five seconds");
      assert.equal(readdirSync(own.vms).length, 1);
      await openTestRuntime(own);
      assert.deepEqual(own.leftovers(), []);
    });
  }

  it("leaves nothing when its boot is given up", async () => {
    const giveUp = new AbortController();
    const booting = runtime.boot(bootSpec(rootfs), giveUp.signal);
    const reason = new HpccError("job.cancelled", "nobody wants it");
    giveUp.abort(reason);
    await assert.rejects(booting, reason);
    assert.deepEqual(folders.leftovers(), []);
  });

  it("says why it does not boot", async () => {
    const short = await openTestRuntime(folders);
    await assert.rejects(short.boot({ ...bootSpec("/dev/null") }, signal), rejectsWith("vm.boot", /did not boot/));
  });
});

describe("the choice of the accelerator", () => {
  it("is KVM only where a guest boots under it, and is remembered", async () => {
    const first = await openTestRuntime(folders, { accelerator: "auto" });
    const verdict = readFileSync(folders.kvmVerdict, "utf8");
    assert.equal(first.isolation, /"usable":true/.test(verdict) ? "qemu-kvm" : "qemu-tcg");
    const turned = verdict.replace(/"usable":(true|false)/, (_all, said) => `"usable":${said === "false"}`);
    writeFileSync(folders.kvmVerdict, turned);
    const second = await openTestRuntime(folders, { accelerator: "auto" });
    assert.notEqual(second.isolation, first.isolation, "the verdict is read, no guest is booted");
    writeFileSync(folders.kvmVerdict, turned.replace(/"bootId":"[^"]+"/, '"bootId":"another"'));
    const third = await openTestRuntime(folders, { accelerator: "auto" });
    assert.equal(third.isolation, first.isolation, "a verdict of another boot of the host does not count");
  });
});

describe("a guest that hangs under KVM", () => {
  const skip = existsSync("/dev/kvm") ? false : "no /dev/kvm";
  it("is given up in time, and guests are emulated", { skip }, async () => {
    using own = new VmFolders();
    chmodSync(own.root, 0o755);
    const qemu = join(own.root, "qemu");
    const mark = join(own.root, "hung");
    writeFileSync(mark, "");
    chmodSync(mark, 0o666);
    const script = `#!/bin/sh\n[ "$1" = --version ] && exec qemu-system-x86_64 --version\necho $* >${mark}; exec sleep 1000\n`;
    writeFileSync(qemu, script, { mode: 0o755 });
    const runtime = await openTestRuntime(own, { accelerator: "auto", qemuProgram: qemu });
    assert.equal(runtime.isolation, "qemu-tcg");
    assert.match(readFileSync(mark, "utf8"), /-accel kvm/);
    assert.match(readFileSync(own.kvmVerdict, "utf8"), /"usable":false/);
    assert.deepEqual(own.leftovers(), []);
  });
});

describe("the pool with real machines", () => {
  it("replaces a machine that is killed in the middle of a compile", async () => {
    const events: VmEvent[] = [];
    await using pool = new WarmVmPool({
      runtime,
      limits: {
        placesMax: 2,
        vmsMax: 1,
        memoryBytesMax: MACHINE.memoryBytes,
        vmMemoryBytes: MACHINE.memoryBytes,
        vmVcpus: MACHINE.vcpus,
        executionsPerVmMax: 2,
        queuePerTenantMax: 8,
        idleMs: 60_000,
        tenureMs: 60_000,
        vcpusMax: MACHINE.vcpus,
        parkedMs: 60_000,
        parkedMax: 0,
        parkedDiskBytesMax: 0,
        sessionMs: 3_600_000,
        sparesMax: 0,
      },
      events: (event) => {
        events.push(event);
        return Promise.resolve();
      },
      clock: SYSTEM_CLOCK,
      logger: SILENT_LOGGER,
    });
    const principal = parseSpiffeId("spiffe://example.org/tenant/a/user/ann");
    assert.ok(principal.kind === "user");
    const key = makePoolKey({ principal, image: sha256(Buffer.from("gcc")), trust: "session" });
    const running = Promise.withResolvers<void>();
    const compiling = pool.execute(key, rootfs, request(["/usr/bin/probe", "spin"]), {
      signal,
      onProgress: () => running.resolve(),
    });
    await running.promise;
    const [qemu] = childrenNamed("qemu-system-x86_64");
    assert.ok(qemu);
    process.kill(qemu, "SIGKILL");
    await assert.rejects(compiling, rejectsWith("vm.lost"));
    const { vm, result } = await pool.execute(key, rootfs, request(["/usr/bin/gcc", "--version"]), { signal });
    assert.deepEqual(result.exit, { kind: "code", code: 0 });
    await result[Symbol.asyncDispose]();
    await pool.close();
    assert.deepEqual(
      events.map((event) => (event.t === "destroyed" ? event.reason : event.t)),
      ["booted", "lost", "booted", "closed"],
    );
    const last = events.at(-1);
    assert.ok(last?.t === "destroyed" && last.vm.id === vm.id);
  });
});
