// What the doctor says of KVM where it boots no guest to find out. Pure.
import type { CheckResult, CheckStatus } from "../cli/doctor.ts";
import type { WorkerConfig } from "../config/worker.ts";
import type { KvmDevice } from "../vm/host/kvm-device.ts";
import { isolationRefusal } from "./worker-options.ts";

const SWITCH_ON = "switch virtualisation on in the firmware, and load kvm_intel or kvm_amd";
const JOIN_GROUP = "add the worker's user to the group kvm";

/** Under Firecracker: the keeper is root and boots the machines, so this user needs no right to the device. */
export function judgeKeepersKvm(device: KvmDevice, config: WorkerConfig): CheckResult {
  if (device.t === "absent") return result("missing", "no /dev/kvm", SWITCH_ON);
  if (device.t === "closed" && !device.denied) return result("missing", doesNotOpen(device.why), SWITCH_ON);
  const refusal = isolationRefusal(config, "firecracker");
  if (refusal !== null) return result("missing", refusal.why, refusal.fix);
  const found = device.t === "opens" ? "/dev/kvm opens" : "/dev/kvm is there, though not for this user";
  return result("ok", `${found}; the keeper boots machines`, null);
}

/** Under QEMU with a device that does not open: guests are emulated, if they may be. */
export function judgeClosedKvm(device: Exclude<KvmDevice, { t: "opens" }>, config: WorkerConfig): CheckResult {
  const found = device.t === "absent" ? "no /dev/kvm" : doesNotOpen(device.why);
  const advice = device.t === "closed" && device.denied ? JOIN_GROUP : SWITCH_ON;
  if (config.qemu.accelerator === "kvm")
    return result("missing", `${found}, and qemu.accelerator asks for KVM alone`, advice);
  const emulated = `${found}, so guests are emulated`;
  const refusal = isolationRefusal(config, "qemu-tcg");
  return refusal === null ? result("note", emulated, advice) : result("missing", emulated, `${advice}; ${refusal.fix}`);
}

function doesNotOpen(why: string): string {
  return `/dev/kvm does not open (${why})`;
}

function result(status: CheckStatus, detail: string, fix: string | null): CheckResult {
  return { name: "KVM", status, detail, fix };
}
