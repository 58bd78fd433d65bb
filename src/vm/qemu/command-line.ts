// QEMU's command line: what the machine has, and above all what it has not. No network device, no default device; a
// read-only disk, a random number generator, one vsock device, a serial console that is only written.
import { AGENT_PORT } from "../agent/limits.ts";

export type Accelerator = "kvm" | "tcg";

/** Descriptors under which QEMU gets its files. */
export const QEMU_FILES = { kernel: 3, initramfs: 4, rootfs: 5 } as const;
/** A socket in the machine's shared folder, which is the working directory of both processes, until it is sealed. */
export const VSOCK_SOCKET = "vsock";

/** The other one there, between the two: the machine's own name for it, by which the kernel tells whether it listens. */
export function deviceSocket(id: string): string {
  return `device-${id}`;
}

/** What QEMU's q35 machine takes. */
const VCPUS_MAX = 255;
/** Code that TCG keeps translated; a compile of C++ needs more than the default of a small machine. */
const TRANSLATION_BUFFER_MIB = 256;

const KERNEL_COMMAND_LINE = [
  // The console carries the kernel's last words only.
  "console=ttyS0",
  "quiet",
  // A guest that dies ends its machine: no reboot, no debugging.
  "panic=-1",
  "oops=panic",
  "reboot=t",
  // Probing of devices that are not there takes a quarter of the boot under emulation.
  "8250.nr_uarts=1",
  "i8042.noaux",
  "i8042.nokbd",
  "cryptomgr.notests",
  "random.trust_cpu=on",
  // What a scrub frees is gone.
  "init_on_free=1",
  `hpcc.port=${AGENT_PORT}`,
];

/** A busy host disturbs what a kernel measures of an emulated machine, so it is told; KVM has a clock of its own for guests. */
function emulatedClock(tscKhz: number): string[] {
  return [`tsc_early_khz=${tscKhz}`, "tsc=reliable", "no_timer_check"];
}

/**
 * Processors of a machine. QEMU before 8.1, emulating, can leave two processors of a guest in one breakpoint for ever while the guest's
 * kernel patches its code (mended by QEMU's commit deba78709ae8), so a machine has one there. A version that is not understood counts as old.
 */
export function vcpusMaxOf(accelerator: Accelerator, qemuVersion: string): number {
  if (accelerator === "kvm") return VCPUS_MAX;
  const [, major = "0", minor = "0"] = /version (\d{1,4})\.(\d{1,4})/.exec(qemuVersion) ?? [];
  return Number(major) * 100 + Number(minor) >= 801 ? VCPUS_MAX : 1;
}

export interface QemuMachineSpec {
  readonly accelerator: Accelerator;
  /** Rate of the host's time stamp counter. */
  readonly tscKhz: number;
  readonly memoryBytes: number;
  readonly vcpus: number;
  /** False only for the probe of KVM, which executes nothing. */
  readonly hasRootfs: boolean;
  /** Name of the socket that `vsockCommandLine` got. */
  readonly device: string;
}

export function qemuCommandLine(spec: QemuMachineSpec): string[] {
  const memory = `${Math.ceil(spec.memoryBytes / 2 ** 20)}M`;
  const accelerator = spec.accelerator === "kvm" ? "kvm" : `tcg,thread=multi,tb-size=${TRANSLATION_BUFFER_MIB}`;
  const rootfs = spec.hasRootfs
    ? [
        "-add-fd",
        `fd=${QEMU_FILES.rootfs},set=1`,
        "-blockdev",
        "driver=raw,node-name=rootfs,read-only=on,file.driver=file,file.filename=/dev/fdset/1,file.read-only=on,file.locking=off",
        "-device",
        "virtio-blk-pci,drive=rootfs,disable-legacy=on",
      ]
    : [];
  return [
    "-nodefaults",
    "-no-user-config",
    "-nic",
    "none",
    "-display",
    "none",
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    "-no-reboot",
    "-machine",
    "q35,memory-backend=ram,sata=off,smbus=off,i8042=off,vmport=off,usb=off",
    "-accel",
    accelerator,
    "-cpu",
    "max",
    "-smp",
    String(spec.vcpus),
    "-m",
    memory,
    "-object",
    `memory-backend-memfd,id=ram,size=${memory},share=on,merge=off,dump=off`,
    "-kernel",
    `/proc/self/fd/${QEMU_FILES.kernel}`,
    "-initrd",
    `/proc/self/fd/${QEMU_FILES.initramfs}`,
    "-append",
    [
      ...KERNEL_COMMAND_LINE,
      ...(spec.accelerator === "tcg" ? emulatedClock(spec.tscKhz) : []),
      ...(spec.hasRootfs ? ["hpcc.rootfs=/dev/vda"] : []),
    ].join(" "),
    ...rootfs,
    "-object",
    "rng-random,id=random,filename=/dev/urandom",
    "-device",
    "virtio-rng-pci,rng=random,disable-legacy=on",
    "-chardev",
    `socket,id=vsock,path=${spec.device}`,
    "-device",
    "vhost-user-vsock-pci,chardev=vsock",
    "-chardev",
    "stdio,id=console,signal=off",
    "-serial",
    "chardev:console",
  ];
}

/** vhost-device-vsock's command line: one guest, which can name no other one. */
export function vsockCommandLine(device: string): string[] {
  return ["--guest-cid", "3", "--socket", device, "--uds-path", VSOCK_SOCKET];
}
