// What a snapshot is bound to: a digest over all that must be the same where it is loaded. The keeper keeps it under its MAC and
// gives a snapshot only to who names the same.

import { FieldWriter } from "../../core/action/fields.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { MachineShape } from "./vm-config.ts";

/** Whatever else changes, the first field tells the kinds apart. */
const KIND_GOLDEN = "hpcc golden snapshot 1";
const KIND_PARKED = "hpcc parked machine 1";

/** The host and the programs that a machine runs on and is made of. */
export interface HostBinding {
  readonly vmmDigest: Digest;
  readonly vmmVersion: string;
  readonly cpuModel: string;
  readonly microcode: string;
  readonly hostKernel: string;
}

export interface SnapshotBinding extends MachineShape {
  readonly rootfsDigest: Digest;
  readonly kernelDigest: Digest;
  readonly initramfsDigest: Digest;
  readonly commandLine: string;
  readonly host: HostBinding;
  /** Whose golden it is; null for the one that all share. */
  readonly goldenOwner: string | null;
}

/** The binding of a golden snapshot: who has the same may have a clone. */
export function goldenBinding(binding: SnapshotBinding): Digest {
  return sha256(writeBinding(KIND_GOLDEN, binding).finish());
}

/** The binding of a parked machine: that machine alone. */
export function parkedBinding(binding: SnapshotBinding, machineId: string): Digest {
  return sha256(writeBinding(KIND_PARKED, binding).ascii(20, machineId).finish());
}

function writeBinding(kind: string, binding: SnapshotBinding): FieldWriter {
  const { host } = binding;
  const utf8 = (text: string): Uint8Array => Buffer.from(text, "utf8");
  return new FieldWriter()
    .ascii(1, kind)
    .digest(2, binding.rootfsDigest)
    .digest(3, binding.kernelDigest)
    .digest(4, binding.initramfsDigest)
    .ascii(5, binding.commandLine)
    .u64(6, binding.memoryBytes)
    .u32(7, binding.vcpus)
    .digest(8, host.vmmDigest)
    .bytes(9, utf8(host.vmmVersion))
    .bytes(10, utf8(host.cpuModel))
    .bytes(11, utf8(host.microcode))
    .bytes(12, utf8(host.hostKernel))
    .u32(13, binding.goldenOwner === null ? 0 : 1)
    .bytes(14, utf8(binding.goldenOwner ?? ""));
}
