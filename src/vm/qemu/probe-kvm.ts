// Whether KVM is usable is found by booting our own guest under it, not by looking for a device file. The verdict holds until
// the host boots again, or QEMU, the kernel of the guest or the rights to the device change.
import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import { readKvmDevice } from "../host/kvm-device.ts";
import { bootQemu } from "./boot.ts";
import type { QemuBootContext } from "./context.ts";

/** A guest is up in less than a second under KVM; one that takes this long does not boot. */
const PROBE_DEADLINE_MS = 8_000;
const PROBE_MEMORY_BYTES = 256 * 2 ** 20;

export async function kvmIsUsable(
  context: QemuBootContext,
  verdictFile: string,
  signal: AbortSignal,
): Promise<boolean> {
  const subject = {
    bootId: (await readFile("/proc/sys/kernel/random/boot_id", "latin1")).trim(),
    qemu: context.programs.qemuVersion,
    kernel: context.guest.kernelDigest,
    // Who may open the device, so that a mended right counts at the next start.
    device: await deviceRights(),
  };
  const known = await readVerdict(verdictFile, subject);
  if (known !== null) return known;
  const usable = await probe(context, signal);
  await writeFile(`${verdictFile}.${process.pid}`, JSON.stringify({ subject, usable }), { mode: 0o600 });
  await rename(`${verdictFile}.${process.pid}`, verdictFile);
  return usable;
}

async function deviceRights(): Promise<string> {
  const device = await stat("/dev/kvm").catch(() => null);
  const self = `${process.geteuid?.()}:${process.getgroups?.().join(",")}`;
  return device === null ? "absent" : `${device.uid}:${device.gid}:${device.mode.toString(8)} for ${self}`;
}

async function probe(context: QemuBootContext, signal: AbortSignal): Promise<boolean> {
  const { logger } = context;
  const device = await readKvmDevice();
  if (device.t === "absent") logger.info("vm.kvm.absent");
  if (device.t === "closed") logger.warn("vm.kvm.unusable", { error: device.why });
  if (device.t !== "opens") return false;
  try {
    const machine = await bootQemu(
      { ...context, bootDeadlineMs: PROBE_DEADLINE_MS },
      { rootfs: null, memoryBytes: PROBE_MEMORY_BYTES, vcpus: 1 },
      signal,
    );
    await machine.destroy();
    logger.info("vm.kvm.usable", { bootMs: machine.bootMs });
    return true;
  } catch (error) {
    signal.throwIfAborted();
    logger.warn("vm.kvm.unusable", { error: error instanceof Error ? error.message : String(error) });
    return false;
  }
}

/** The verdict on this very subject; null when there is none. A file that cannot be read is none. */
async function readVerdict(file: string, subject: object): Promise<boolean | null> {
  const text = await readFile(file, "utf8").catch(() => "");
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("subject" in value) || !("usable" in value)) return null;
    return isDeepStrictEqual(value.subject, subject) && typeof value.usable === "boolean" ? value.usable : null;
  } catch {
    return null;
  }
}
