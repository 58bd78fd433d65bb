// What a Firecracker machine is given, and the check of what it says it has: a read-only disk, a vsock device, a random number
// generator, a console that is only written. No network device, no other disk, no shared memory, no metadata service.
import { HpccError } from "../../base/errors.ts";
import { AGENT_PORT } from "../agent/limits.ts";
import { JAIL_FILES } from "../keeper/keeper.ts";
import { parseJson } from "./api-client.ts";

/** Where Firecracker writes its counters, where it is told to. */
export const METRICS_FILE = "/metrics";
const GUEST_CID = 3;
const MIB = 1024 * 1024;

/** The console carries the kernel's last words only; Firecracker drops what a guest writes faster. */
const CONSOLE_BYTES_PER_SECOND = 256 * 1024;
/** A cold cache reads a whole toolchain at once; beyond the burst a guest gets this share of the host's disk. */
const DISK_BURST_BYTES = 1024 * MIB;
const DISK_BYTES_PER_SECOND = 512 * MIB;
const DISK_OPS_PER_SECOND = 20_000;
/** A kernel takes 32 bytes now and then. */
const ENTROPY_BYTES_PER_SECOND = 64 * 1024;

const KERNEL_COMMAND_LINE = [
  "console=ttyS0",
  "quiet",
  // A guest that dies ends its machine: no reboot, no debugging. Firecracker ends at a reset by the keyboard controller.
  "panic=-1",
  "oops=panic",
  "reboot=k",
  // Probing of devices that are not there takes time.
  "8250.nr_uarts=1",
  "i8042.noaux",
  "i8042.nomux",
  "i8042.dumbkbd",
  "i8042.nopnp",
  "cryptomgr.notests",
  "swiotlb=noforce",
  "random.trust_cpu=on",
  // What an execution frees is gone from memory and from a snapshot.
  "init_on_free=1",
  `hpcc.port=${AGENT_PORT}`,
  `hpcc.rootfs=/dev/vda`,
];

export const COMMAND_LINE = KERNEL_COMMAND_LINE.join(" ");

export interface MachineShape {
  readonly memoryBytes: number;
  readonly vcpus: number;
}

/** One call of the configuration before the start. */
export interface ConfigCall {
  readonly path: string;
  readonly body: object;
}

function bucket(sizeBytes: number, burst = 0): object {
  return { size: sizeBytes, one_time_burst: burst, refill_time: 1_000 };
}

/** What each process is told first, whether it boots or restores: a snapshot keeps none of it. */
export function processConfig(metrics: boolean): ConfigCall[] {
  const calls = [
    { path: "/logger", body: { level: "Warning" } },
    { path: "/serial", body: { rate_limiter: bucket(CONSOLE_BYTES_PER_SECOND) } },
  ];
  return metrics ? [...calls, { path: "/metrics", body: { metrics_path: METRICS_FILE } }] : calls;
}

/** What a machine that boots is made of. */
export function machineConfig({ memoryBytes, vcpus }: MachineShape): ConfigCall[] {
  return [
    {
      path: "/machine-config",
      body: { vcpu_count: vcpus, mem_size_mib: memoryMib(memoryBytes), smt: false, track_dirty_pages: false },
    },
    {
      path: "/boot-source",
      body: {
        kernel_image_path: JAIL_FILES.kernel,
        initrd_path: JAIL_FILES.initramfs,
        boot_args: COMMAND_LINE,
      },
    },
    {
      path: "/drives/rootfs",
      body: {
        drive_id: "rootfs",
        path_on_host: JAIL_FILES.rootfs,
        is_root_device: false,
        is_read_only: true,
        cache_type: "Unsafe",
        io_engine: "Sync",
        rate_limiter: {
          bandwidth: bucket(DISK_BYTES_PER_SECOND, DISK_BURST_BYTES),
          ops: bucket(DISK_OPS_PER_SECOND),
        },
      },
    },
    { path: "/vsock", body: { guest_cid: GUEST_CID, uds_path: JAIL_FILES.vsock } },
    { path: "/entropy", body: { rate_limiter: { bandwidth: bucket(ENTROPY_BYTES_PER_SECOND) } } },
  ];
}

/** Memory in whole mebibytes, as Firecracker takes it. */
export function memoryMib(memoryBytes: number): number {
  return Math.ceil(memoryBytes / MIB);
}

/**
 * Throws `vm.boot` unless the configuration that Firecracker gives is that of a machine of ours: above all, without a network
 * interface. It is asked before the guest runs. UNTRUSTED: Firecracker.
 */
export function checkVmConfig(text: string): void {
  const config = parseJson(text);
  if (typeof config !== "object" || config === null) throw wrong("is no object");
  const part = (name: string): unknown => (name in config ? (config as Record<string, unknown>)[name] : undefined);
  for (const name of ["network-interfaces", "pmem"]) {
    const list = part(name) ?? [];
    if (!Array.isArray(list) || list.length > 0) throw wrong(`has ${name}`);
  }
  for (const name of ["mmds-config", "memory-hotplug", "balloon"])
    if ((part(name) ?? null) !== null) throw wrong(`has ${name}`);
  const drives = part("drives");
  if (!Array.isArray(drives) || drives.length !== 1) throw wrong("has not exactly one drive");
  const drive: unknown = drives[0];
  if (typeof drive !== "object" || drive === null || !("is_read_only" in drive) || drive.is_read_only !== true)
    throw wrong("has a drive that can be written");
  const vsock = part("vsock");
  if (typeof vsock !== "object" || vsock === null || !("guest_cid" in vsock) || vsock.guest_cid !== GUEST_CID)
    throw wrong("has no vsock device of ours");
}

function wrong(problem: string): HpccError {
  return new HpccError("vm.boot", `the configuration that Firecracker gives of the machine ${problem}`);
}
