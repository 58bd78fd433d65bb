// A worker's configuration.
import { HpccError } from "../base/errors.ts";
import { type MachineSize, machineSize } from "../base/system/machine-size.ts";
import { type Digest, parseDigest } from "../core/digest/digest.ts";
import type { HostPort } from "../core/identity/host-port.ts";
import type { FetchRules } from "../core/image/fetch-rules.ts";
import type { RepositoryPattern } from "../core/image/repository-pattern.ts";
import type { TrustRule } from "../core/image/trust.ts";
import { ISOLATIONS, type Isolation } from "../core/isolation.ts";
import { parseWitnessAddress, type WitnessAddress } from "../core/note/witness-address.ts";
import { ADDRESS, type IdentityFiles, identityFiles } from "./client.ts";
import type { Environment } from "./directories.ts";
import { type Loaded, loadConfig } from "./load.ts";
import { PEERS_SCHEMA, type PeersConfig, peersConfig } from "./peers.ts";
import { REPOSITORY, TRUST_RULE } from "./trust-rule.ts";
import { integer, listOf, oneOf, optional, PATH, text } from "./value.ts";

const KIB = 1024;
const MIB = 1024 * 1024;
const GIB = 1024 * MIB;

export interface WorkerConfig {
  readonly listen: HostPort;
  /** Address that clients dial; by default the one it listens on. */
  readonly advertise: HostPort | null;
  readonly identity: IdentityFiles;
  readonly schedulers: readonly HostPort[];
  /** Caches, audit log, VMs' folders. */
  readonly stateDir: string;
  /** OCI layout folders whose images are offered. */
  readonly imageLayouts: readonly string[];
  /** Where fetched images, and root file systems made from images, are kept. */
  readonly imageDir: string;
  /** Which images the worker fetches by itself; none without repositories. */
  readonly imageFetch: FetchRules & { readonly deadlineMs: number; readonly bytesMax: number };
  readonly isolation: {
    /** Isolations that jobs may run under here; the two weakest only when named. */
    readonly allowed: readonly Isolation[];
  };
  /** Driver of the microVMs; `auto`: Firecracker where a keeper started the worker, else QEMU. */
  readonly runtime: "auto" | "firecracker" | "qemu";
  /** The keeper's end of a socket, where one started the worker: a descriptor. */
  readonly keeperFd: number | null;
  readonly firecracker: {
    /** Folder of the guest's kernel and initramfs; null for the one installed beside the program. */
    readonly guestDir: string | null;
    readonly bootDeadlineMs: number;
    readonly restoreDeadlineMs: number;
    readonly goldensMax: number;
    readonly goldenAgeMsMax: number;
    readonly goldenRestoresMax: number;
  };
  readonly qemu: {
    readonly program: string;
    /** The vsock device's back-end; null for the installed one, else the one on PATH. */
    readonly vsockDeviceProgram: string | null;
    /** Folder of the guest's kernel and initramfs; null for the one installed beside the program. */
    readonly guestDir: string | null;
    readonly accelerator: "auto" | "kvm" | "tcg";
    readonly bootDeadlineMs: number;
  };
  readonly vms: {
    /** Compiles at the same time, as told to schedulers too. */
    readonly placesMax: number;
    readonly vmsMax: number;
    readonly memoryBytesMax: number;
    readonly vcpusMax: number;
    readonly vmMemoryBytes: number;
    readonly vmVcpus: number;
    readonly executionsPerVmMax: number;
    readonly queuePerTenantMax: number;
    readonly idleMs: number;
    readonly tenureMs: number;
    readonly parkedMs: number;
    readonly parkedMax: number;
    readonly parkedDiskBytesMax: number;
    readonly sessionMs: number;
    readonly sparesMax: number;
  };
  /** The site's policy file; null without one: every tenant is served, with the defaults. */
  readonly policy: string | null;
  readonly execution: {
    readonly wallMs: number;
    readonly memoryBytes: number;
    readonly pids: number;
    readonly outputBytes: number;
    readonly stdioBytes: number;
  };
  readonly jobs: {
    readonly perClientMax: number;
    readonly blobBytesMax: number;
    readonly sourceBytesMax: number;
  };
  /** What the root process was started with (docs/operations/worker.md), for checks of the host alone. */
  readonly host: {
    /** Names on PATH or paths. */
    readonly firecracker: string;
    readonly jailer: string;
    /** Its --base; null where there is no such process, or where it is not told. The others follow from it as they do there. */
    readonly baseDir: string | null;
    readonly snapshotsDir: string | null;
    /** Its --cgroup; null for the worker's own group. */
    readonly cgroup: string | null;
    /** Its --known-release. */
    readonly knownReleases: readonly Digest[];
  };
  readonly peers: PeersConfig;
  /** Who is asked to cosign the audit log. */
  readonly witnesses: readonly WitnessAddress[];
  /** The disk cache's size at which the oldest entries go. */
  readonly storeBytesMax: number;
  /** Free space of the log's and the store's file systems below which the worker warns, and takes nobody new; null for a share. */
  readonly disk: { readonly lowBytes: number | null; readonly hardBytes: number | null };
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

const SLOTS_MAX = 4_096;
const VMS_MAX = 1_000;
const MEMORY_MIB_MAX = 1024 * 1024;
/** Even a small worker has room for the VMs of some users. */
const DEFAULT_VMS_MIN = 4;
/** The rest is for the worker, its store's pages, and what each VM takes beside its memory. */
const DEFAULT_MEMORY_SHARE = 3 / 4;
const DEFAULT_LISTEN: HostPort = { host: "127.0.0.1", port: 9441 };
const DEFAULT_ISOLATIONS: readonly Isolation[] = ["qemu-kvm", "firecracker"];
const NO_ADDRESSES: readonly HostPort[] = [];
const NO_PATHS: readonly string[] = [];
const NO_DIGESTS: readonly Digest[] = [];
const NO_REPOSITORIES: readonly RepositoryPattern[] = [];
const NO_RULES: readonly TrustRule[] = [];
/** Where the root process makes its groups when it is told nothing else. */
const DEFAULT_CGROUP = "/sys/fs/cgroup/hpcc";
const PROGRAM = text("a program's name or path", (value) => value);
const NO_WITNESSES: readonly WitnessAddress[] = [];
const WITNESS = text("a witness's address, a space and its key", parseWitnessAddress);
const DIGEST = text("a digest, sha256:...", (value) => parseDigest(value, "the digest"));

export const WORKER_SCHEMA = {
  listen: { kind: ADDRESS, fallback: DEFAULT_LISTEN, variable: "HPCC_WORKER_LISTEN" },
  advertise: { kind: optional(ADDRESS), fallback: null, variable: "HPCC_WORKER_ADVERTISE" },
  "identity.certificate": { kind: optional(PATH), fallback: null, variable: "HPCC_WORKER_CERTIFICATE" },
  "identity.key": { kind: optional(PATH), fallback: null, variable: "HPCC_WORKER_KEY" },
  "identity.ca": { kind: optional(PATH), fallback: null, variable: "HPCC_WORKER_CA" },
  schedulers: { kind: listOf(ADDRESS), fallback: NO_ADDRESSES, variable: "HPCC_WORKER_SCHEDULERS" },
  state_dir: { kind: optional(PATH), fallback: null, variable: "HPCC_WORKER_STATE_DIR" },
  "images.layouts": { kind: listOf(PATH), fallback: NO_PATHS, variable: "HPCC_WORKER_IMAGE_LAYOUTS" },
  "images.repositories": { kind: listOf(REPOSITORY), fallback: NO_REPOSITORIES },
  "images.allowed": { kind: listOf(DIGEST), fallback: NO_DIGESTS },
  "images.trust": { kind: listOf(TRUST_RULE), fallback: NO_RULES },
  "images.fetch_deadline_ms": { kind: integer(1_000, 86_400_000), fallback: 1_800_000 },
  "images.gib_max": { kind: integer(1, 65_536), fallback: 50 },
  "images.dir": { kind: optional(PATH), fallback: null, variable: "HPCC_WORKER_IMAGE_DIR" },
  "isolation.allowed": { kind: listOf(oneOf(ISOLATIONS)), fallback: DEFAULT_ISOLATIONS },
  runtime: { kind: oneOf(["auto", "firecracker", "qemu", "hyperv"]), fallback: "auto", variable: "HPCC_RUNTIME" },
  "firecracker.guest_dir": { kind: optional(PATH), fallback: null, variable: "HPCC_FIRECRACKER_GUEST_DIR" },
  "firecracker.boot_deadline_ms": { kind: integer(1_000, 600_000), fallback: 60_000 },
  "firecracker.restore_deadline_ms": { kind: integer(1_000, 600_000), fallback: 15_000 },
  "firecracker.goldens_max": { kind: integer(0, 1_000), fallback: 32 },
  "firecracker.golden_age_ms_max": { kind: integer(60_000, 604_800_000), fallback: 86_400_000 },
  "firecracker.golden_restores_max": { kind: integer(1, 1_000_000), fallback: 1_000 },
  "qemu.program": { kind: PROGRAM, fallback: "qemu-system-x86_64", variable: "HPCC_QEMU" },
  "qemu.vsock_device": { kind: optional(PROGRAM), fallback: null, variable: "HPCC_VSOCK_DEVICE" },
  "qemu.guest_dir": { kind: optional(PATH), fallback: null, variable: "HPCC_GUEST_DIR" },
  "qemu.accelerator": { kind: oneOf(["auto", "kvm", "tcg"]), fallback: "auto", variable: "HPCC_ACCELERATOR" },
  "qemu.boot_deadline_ms": { kind: integer(1_000, 600_000), fallback: 60_000 },
  "vms.max": { kind: optional(integer(1, VMS_MAX)), fallback: null },
  "vms.memory_mib_max": { kind: optional(integer(128, MEMORY_MIB_MAX)), fallback: null },
  "vms.vcpus_max": { kind: optional(integer(1, 65_536)), fallback: null },
  "vms.vm_memory_mib": { kind: integer(128, 65_536), fallback: 1_024 },
  "vms.vm_vcpus": { kind: integer(1, 64), fallback: 2 },
  "vms.executions_per_vm_max": { kind: optional(integer(1, 64)), fallback: null },
  "vms.queue_per_tenant_max": { kind: integer(1, 100_000), fallback: 1_000 },
  "vms.idle_ms": { kind: integer(1_000, 86_400_000), fallback: 600_000 },
  "vms.tenure_ms": { kind: integer(0, 3_600_000), fallback: 10_000 },
  "vms.parked_max": { kind: integer(0, 1_000), fallback: 16 },
  "vms.parked_ms": { kind: integer(1_000, 604_800_000), fallback: 3_600_000 },
  "vms.parked_disk_mib_max": { kind: integer(0, 16 * 1024 * 1024), fallback: 16_384 },
  "vms.session_ms": { kind: integer(1_000, 604_800_000), fallback: 28_800_000 },
  "vms.spares_max": { kind: integer(0, 64), fallback: 2 },
  policy: { kind: optional(PATH), fallback: null, variable: "HPCC_WORKER_POLICY" },
  "host.firecracker": { kind: PROGRAM, fallback: "firecracker", variable: "HPCC_FIRECRACKER" },
  "host.jailer": { kind: PROGRAM, fallback: "jailer", variable: "HPCC_JAILER" },
  "host.base_dir": { kind: optional(PATH), fallback: null },
  "host.snapshots_dir": { kind: optional(PATH), fallback: null },
  "host.cgroup": { kind: optional(PATH), fallback: null },
  "host.known_releases": { kind: listOf(DIGEST), fallback: NO_DIGESTS },
  slots: { kind: optional(integer(1, SLOTS_MAX)), fallback: null, variable: "HPCC_WORKER_SLOTS" },
  "execution.wall_ms": { kind: integer(1_000, 3_600_000), fallback: 300_000 },
  "execution.memory_mib": { kind: integer(32, 65_536), fallback: 768 },
  "execution.pids": { kind: integer(4, 4_096), fallback: 64 },
  "execution.output_mib": { kind: integer(1, 4_096), fallback: 256 },
  "execution.stdio_kib": { kind: integer(16, 65_536), fallback: 1_024 },
  "jobs.per_client_max": { kind: integer(1, 10_000), fallback: 256 },
  "jobs.blob_mib_max": { kind: integer(1, 4_096), fallback: 128 },
  "jobs.source_mib_max": { kind: integer(1, 8_192), fallback: 256 },
  ...PEERS_SCHEMA,
  "audit.witnesses": { kind: listOf(WITNESS), fallback: NO_WITNESSES },
  "store.gib_max": { kind: integer(1, 65_536), fallback: 10 },
  "disk.low_mib": { kind: optional(integer(1, 1024 * 1024 * 1024)), fallback: null },
  "disk.hard_mib": { kind: optional(integer(1, 1024 * 1024 * 1024)), fallback: null },
  log_level: { kind: oneOf(["debug", "info", "warn", "error"]), fallback: "info", variable: "HPCC_LOG_LEVEL" },
} as const;

export interface LoadedWorkerConfig {
  readonly config: WorkerConfig;
  readonly loaded: Loaded<typeof WORKER_SCHEMA>;
}

/** Reads a worker's configuration; `file` is the one named by `--config`. */
export function loadWorkerConfig(
  env: Environment,
  file: string,
  flags: Readonly<Record<string, string>> = {},
  { machine = machineSize() }: { readonly machine?: MachineSize } = {},
): LoadedWorkerConfig {
  const loaded = loadConfig(WORKER_SCHEMA, { flags, env, files: [{ source: "user", path: file, required: true }] });
  const { values } = loaded;
  const invalid = (message: string) => new HpccError("config.invalid", `${file}: ${message}`);
  const identity = identityFiles(values["identity.certificate"], values["identity.key"], values["identity.ca"]);
  if (identity === null) throw invalid("[identity] certificate, key and ca are required");
  if (values.state_dir === null) throw invalid("state_dir is required");
  if (values.advertise === null && ["0.0.0.0", "::"].includes(values.listen.host))
    throw invalid("advertise is required with a listen address that nobody can dial");
  const { runtime } = values;
  if (runtime === "hyperv" || values["isolation.allowed"].includes("hyperv"))
    throw invalid(
      "there is no driver for hyperv yet; name firecracker or qemu as runtime, and no hyperv in isolation.allowed",
    );
  if ((values["disk.low_mib"] ?? Number.POSITIVE_INFINITY) < (values["disk.hard_mib"] ?? 0))
    throw invalid("disk.low_mib must not be below disk.hard_mib");
  const vms = vmLimits(values, machine, invalid);
  if (values["execution.memory_mib"] > values["vms.vm_memory_mib"])
    throw invalid("execution.memory_mib must not be above vms.vm_memory_mib");
  const baseDir = values["host.base_dir"];
  const config: WorkerConfig = {
    listen: values.listen,
    advertise: values.advertise,
    identity,
    schedulers: values.schedulers,
    stateDir: values.state_dir,
    imageLayouts: values["images.layouts"],
    imageDir: values["images.dir"] ?? `${values.state_dir}/images`,
    imageFetch: {
      repositories: values["images.repositories"],
      allowed: values["images.allowed"],
      trust: values["images.trust"],
      deadlineMs: values["images.fetch_deadline_ms"],
      bytesMax: values["images.gib_max"] * GIB,
    },
    isolation: { allowed: values["isolation.allowed"] },
    runtime,
    keeperFd: keeperDescriptor(env),
    firecracker: {
      guestDir: values["firecracker.guest_dir"],
      bootDeadlineMs: values["firecracker.boot_deadline_ms"],
      restoreDeadlineMs: values["firecracker.restore_deadline_ms"],
      goldensMax: values["firecracker.goldens_max"],
      goldenAgeMsMax: values["firecracker.golden_age_ms_max"],
      goldenRestoresMax: values["firecracker.golden_restores_max"],
    },
    qemu: {
      program: values["qemu.program"],
      vsockDeviceProgram: values["qemu.vsock_device"],
      guestDir: values["qemu.guest_dir"],
      accelerator: values["qemu.accelerator"],
      bootDeadlineMs: values["qemu.boot_deadline_ms"],
    },
    vms,
    policy: values.policy,
    execution: {
      wallMs: values["execution.wall_ms"],
      memoryBytes: values["execution.memory_mib"] * MIB,
      pids: values["execution.pids"],
      outputBytes: values["execution.output_mib"] * MIB,
      stdioBytes: values["execution.stdio_kib"] * KIB,
    },
    jobs: {
      perClientMax: values["jobs.per_client_max"],
      blobBytesMax: values["jobs.blob_mib_max"] * MIB,
      sourceBytesMax: values["jobs.source_mib_max"] * MIB,
    },
    host: {
      firecracker: values["host.firecracker"],
      jailer: values["host.jailer"],
      baseDir,
      snapshotsDir: values["host.snapshots_dir"] ?? (baseDir === null ? null : `${baseDir}/snapshots`),
      cgroup: values["host.cgroup"] ?? (baseDir === null ? null : DEFAULT_CGROUP),
      knownReleases: values["host.known_releases"],
    },
    peers: peersConfig(values),
    witnesses: values["audit.witnesses"],
    storeBytesMax: values["store.gib_max"] * GIB,
    disk: { lowBytes: mib(values["disk.low_mib"]), hardBytes: mib(values["disk.hard_mib"]) },
    logLevel: values.log_level,
  };
  return { config, loaded };
}

function mib(count: number | null): number | null {
  return count === null ? null : count * MIB;
}

/** What is not set follows from the machine: a place for each processor, and room for twice the VMs that fill the places. */
function vmLimits(
  values: Loaded<typeof WORKER_SCHEMA>["values"],
  machine: MachineSize,
  invalid: (message: string) => HpccError,
): WorkerConfig["vms"] {
  const vmMemoryMib = values["vms.vm_memory_mib"];
  const vmVcpus = values["vms.vm_vcpus"];
  const executionsPerVmMax = values["vms.executions_per_vm_max"] ?? vmVcpus;
  const ofMachineMib = Math.floor((machine.memoryBytes / MIB) * DEFAULT_MEMORY_SHARE);
  const memoryMib = values["vms.memory_mib_max"] ?? Math.min(MEMORY_MIB_MAX, Math.max(ofMachineMib, vmMemoryMib));
  if (vmMemoryMib > memoryMib) throw invalid("vms.vm_memory_mib must not be above vms.memory_mib_max");
  const places = values.slots ?? machine.processors;
  const twice = 2 * Math.ceil(places / executionsPerVmMax);
  const vmsMax = values["vms.max"] ?? Math.min(VMS_MAX, Math.max(DEFAULT_VMS_MIN, twice));
  const vcpusMax = values["vms.vcpus_max"] ?? vmsMax * vmVcpus;
  if (vmVcpus > vcpusMax) throw invalid("vms.vm_vcpus must not be above vms.vcpus_max");
  const vms = Math.min(vmsMax, Math.floor(memoryMib / vmMemoryMib), Math.floor(vcpusMax / vmVcpus));
  return {
    placesMax: values.slots ?? Math.min(places, vms * executionsPerVmMax, SLOTS_MAX),
    vmsMax,
    memoryBytesMax: memoryMib * MIB,
    vcpusMax,
    vmMemoryBytes: vmMemoryMib * MIB,
    vmVcpus,
    executionsPerVmMax,
    queuePerTenantMax: values["vms.queue_per_tenant_max"],
    idleMs: values["vms.idle_ms"],
    tenureMs: values["vms.tenure_ms"],
    parkedMs: values["vms.parked_ms"],
    parkedMax: values["vms.parked_max"],
    parkedDiskBytesMax: values["vms.parked_disk_mib_max"] * MIB,
    sessionMs: values["vms.session_ms"],
    sparesMax: values["vms.spares_max"],
  };
}

/** Whether Firecracker runs the machines of this process: `auto` goes by who has started it. */
export function runsFirecracker({ runtime, keeperFd }: Pick<WorkerConfig, "runtime" | "keeperFd">): boolean {
  return runtime === "firecracker" || (runtime === "auto" && keeperFd !== null);
}

/** Whether it is meant to, also as the doctor sees it, whom no keeper starts: that there is one `host.base_dir` tells. */
export function wantsFirecracker(config: WorkerConfig): boolean {
  return runsFirecracker(config) || (config.runtime === "auto" && config.host.baseDir !== null);
}

/** What the keeper tells the program that it starts. */
const KEEPER_VARIABLE = "HPCC_KEEPER_FD";
const DESCRIPTOR = /^[0-9]{1,4}$/;

function keeperDescriptor(env: Environment): number | null {
  const text = env[KEEPER_VARIABLE];
  if (text === undefined || text === "") return null;
  if (!DESCRIPTOR.test(text) || Number(text) < 3)
    throw new HpccError("config.invalid", `${KEEPER_VARIABLE} is not the number of a descriptor; hpcc-keeper sets it`);
  return Number(text);
}
