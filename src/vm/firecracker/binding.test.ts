import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../../core/digest/digest.ts";
import { goldenBinding, parkedBinding, type SnapshotBinding } from "./binding.ts";

const digest = (text: string) => sha256(Buffer.from(text));

const BINDING: SnapshotBinding = {
  rootfsDigest: digest("rootfs"),
  kernelDigest: digest("kernel"),
  initramfsDigest: digest("initramfs"),
  commandLine: "quiet",
  memoryBytes: 2 ** 30,
  vcpus: 2,
  host: {
    vmmDigest: digest("firecracker"),
    vmmVersion: "1.16.1",
    cpuModel: "a processor",
    microcode: "0x1",
    hostKernel: "6.18",
  },
  goldenOwner: null,
};

const OTHERS: Readonly<Record<string, SnapshotBinding>> = {
  "the root file system": { ...BINDING, rootfsDigest: digest("other") },
  "the kernel": { ...BINDING, kernelDigest: digest("other") },
  "the initramfs": { ...BINDING, initramfsDigest: digest("other") },
  "the command line": { ...BINDING, commandLine: "quiet init_on_free=1" },
  memory: { ...BINDING, memoryBytes: 2 ** 29 },
  processors: { ...BINDING, vcpus: 1 },
  "the VMM's bytes": { ...BINDING, host: { ...BINDING.host, vmmDigest: digest("other") } },
  "the VMM's version": { ...BINDING, host: { ...BINDING.host, vmmVersion: "1.16.2" } },
  "the processor": { ...BINDING, host: { ...BINDING.host, cpuModel: "another" } },
  microcode: { ...BINDING, host: { ...BINDING.host, microcode: "0x2" } },
  "the host's kernel": { ...BINDING, host: { ...BINDING.host, hostKernel: "6.19" } },
  "fields that run into each other": {
    ...BINDING,
    host: { ...BINDING.host, cpuModel: "a processor0", microcode: "x1" },
  },
  "an owner": { ...BINDING, goldenOwner: "tenant-a" },
  "another owner": { ...BINDING, goldenOwner: "tenant-b" },
  "an owner without a name": { ...BINDING, goldenOwner: "" },
};

test("whatever a golden snapshot depends on changes its binding, nothing else does", () => {
  assert.equal(goldenBinding(BINDING), goldenBinding(structuredClone(BINDING)));
  const bindings = new Map([["the first", goldenBinding(BINDING)]]);
  for (const [what, binding] of Object.entries(OTHERS)) {
    for (const [other, seen] of bindings) assert.notEqual(goldenBinding(binding), seen, `${what} as ${other}`);
    bindings.set(what, goldenBinding(binding));
  }
  assert.equal(bindings.size, 16);
});

test("a parked machine is bound to itself and never to a golden", () => {
  const parked = parkedBinding(BINDING, "vm-1");
  assert.equal(parked, parkedBinding(BINDING, "vm-1"));
  assert.notEqual(parked, parkedBinding(BINDING, "vm-2"));
  assert.notEqual(parked, goldenBinding(BINDING));
  for (const [what, binding] of Object.entries(OTHERS)) assert.notEqual(parkedBinding(binding, "vm-1"), parked, what);
});
