// Boots that end before there is a machine. Those that work are the VM tests'.
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { type LogFields, SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { DEFAULT_AGENT_DEADLINES } from "../agent/limits.ts";
import { bootQemu } from "./boot.ts";
import type { QemuBootContext } from "./context.ts";
import { Hull } from "./hull.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-qemu-boot-"));
after(() => rmSync(folder, { recursive: true }));
const { signal } = new AbortController();
const SPEC = { rootfs: null, memoryBytes: 2 ** 28, vcpus: 1 };

function setUp(vmsFolder: string) {
  const clock = new ManualClock();
  const errors: (readonly [string, LogFields | undefined])[] = [];
  const context: QemuBootContext = {
    programs: { qemu: "/bin/false", vsockDevice: "/bin/false", qemuVersion: "none" },
    openStream: () => assert.fail("nothing is dialled"),
    guest: {
      kernel: "/dev/null",
      initramfs: "/dev/null",
      kernelDigest: sha256(Buffer.from("none")),
      initramfsDigest: sha256(Buffer.from("none")),
      agentDigest: sha256(Buffer.from("none")),
      kernelPackage: null,
      locked: false,
    },
    accelerator: "tcg",
    vcpusMax: 1,
    tscKhz: 1,
    vmsFolder,
    outputsFolder: folder,
    bootDeadlineMs: 60_000,
    deadlines: DEFAULT_AGENT_DEADLINES,
    clock,
    logger: { ...SILENT_LOGGER, error: (event, fields) => void errors.push([event, fields]) },
  };
  return { clock, context, errors };
}

describe("a QEMU boot", () => {
  it("whose folder cannot be made leaves no timer", async () => {
    const { clock, context } = setUp(join(folder, "absent"));
    await assert.rejects(bootQemu(context, SPEC, signal), { code: "ENOENT" });
    assert.equal(clock.pendingTimers, 0);
  });

  it("whose first process ends says so, and leaves neither folder nor timer", async () => {
    const { clock, context } = setUp(folder);
    await assert.rejects(
      bootQemu(context, SPEC, signal),
      (error) => error instanceof HpccError && error.code === "vm.boot" && /exited with code 1/.test(error.message),
    );
    assert.deepEqual(readdirSync(folder), []);
    assert.equal(clock.pendingTimers, 0);
  });
});

/** Binds the name that it is given, and listens when others have had time to see it. */
const SLOW_DEVICE = `#!/usr/bin/perl
use Socket;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
bind($s, sockaddr_un($ARGV[3])) or die $!;
select(undef, undef, undef, 0.3);
listen($s, 1) or die;
sleep 60;
`;
/** Connects as QEMU does, at once, says how that went, and ends. */
const QUICK_QEMU = `#!/usr/bin/perl
use Socket;
my ($path) = map { /^socket,id=vsock,path=(.*)/ ? $1 : () } @ARGV;
socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die;
print connect($s, sockaddr_un($path)) ? "connected" : "refused: $!", "\\n";
`;

describe("the device's back-end", () => {
  it("is connected to once it listens, and not when its name is there", async () => {
    const programs = mkdtempSync(join(tmpdir(), "hpcc-qemu-programs-"));
    const vms = mkdtempSync(join(tmpdir(), "hpcc-qemu-vms-"));
    try {
      for (const place of [programs, vms]) chmodSync(place, 0o755);
      const program = (name: string, text: string) => {
        writeFileSync(join(programs, name), text, { mode: 0o755 });
        return join(programs, name);
      };
      const { context } = setUp(vms);
      const [vsockDevice, qemu] = [program("device", SLOW_DEVICE), program("qemu", QUICK_QEMU)];
      const slow = { ...context, clock: SYSTEM_CLOCK, programs: { qemu, vsockDevice, qemuVersion: "none" } };
      await assert.rejects(bootQemu(slow, SPEC, signal), { code: "vm.boot", message: /\bconnected$/ });
      assert.deepEqual(readdirSync(vms), []);
    } finally {
      for (const place of [programs, vms]) rmSync(place, { recursive: true });
    }
  });
});

describe("what a machine is made of", () => {
  it("is dismantled also when its folder stays, which is logged and hides no reason", async () => {
    const { context, errors } = setUp(folder);
    const remove = () => Promise.reject(new Error("EBUSY"));
    const stuck = { path: "/vms/1", shared: "/vms/1/shared", takePrivate: remove, removeShared: remove, remove };
    assert.equal(await new Hull(context, "vm-1", stuck).dismantle(), "");
    assert.deepEqual(errors, [["vm.leaked", { vm: "vm-1", folder: "/vms/1", error: "Error: EBUSY" }]]);
  });
});
