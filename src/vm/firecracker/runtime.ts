// The `firecracker` driver of the runtime port: machines in jails that the keeper makes, restored from golden snapshots where
// there are some, else booted. It never runs as root and starts no process itself.
import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { streamThroughChannel } from "../agent/channel.ts";
import { type AgentDeadlines, DEFAULT_AGENT_DEADLINES } from "../agent/limits.ts";
import { limitFlood } from "../flood-limit.ts";
import { loadGuestFiles } from "../guest-files.ts";
import type { Keeper } from "../keeper/keeper.ts";
import type { BootSpec, Machine, Runtime } from "../runtime.ts";
import { goldenBinding, type SnapshotBinding } from "./binding.ts";
import { DEFAULT_GOLDEN_LIMITS, type GoldenLimits, GoldenShelf } from "./golden-shelf.ts";
import type { FirecrackerMachine } from "./machine.ts";
import type { FirecrackerContext } from "./parts.ts";
import { RootfsDigests } from "./rootfs-digests.ts";
import { startMachine } from "./start.ts";
import { COMMAND_LINE, memoryMib } from "./vm-config.ts";
import { warmUp } from "./warm-up.ts";

const DEFAULT_BOOT_DEADLINE_MS = 60_000;
const DEFAULT_RESTORE_DEADLINE_MS = 15_000;
const DEFAULT_CONSOLE_BYTES_MAX = 4 * 1024 * 1024;
const GUEST_FILE_BYTES_MAX = 1024 * 1024 * 1024;
/** Firecracker's own limit. */
export const FIRECRACKER_VCPUS_MAX = 32;

export interface FirecrackerRuntimeOptions {
  readonly keeper: Keeper;
  /** Folder of the guest that `make guest` builds. */
  readonly guestFolder: string;
  /** Private folder for larger outputs of executions; its files have no names. */
  readonly outputsFolder: string;
  /** `hpcc-channel`, in which each guest's HTTP/2 is parsed. */
  readonly channelProgram: string;
  readonly bootDeadlineMs?: number;
  readonly restoreDeadlineMs?: number;
  readonly consoleBytesMax?: number;
  readonly deadlines?: AgentDeadlines;
  readonly goldens?: GoldenLimits;
  /** Whether Firecracker writes its counters into each jail. */
  readonly metrics?: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface FirecrackerRuntime extends Runtime {
  /** Makes the golden snapshot that `boot` of this spec restores, ahead of demand. Never rejects: a failure is logged. */
  prepare(spec: BootSpec): Promise<void>;
  /** Gives up the golden that is being made and drops all. */
  close(): Promise<void>;
}

/** Checks the guest, hands it to the keeper, and says what runs. */
export async function openFirecrackerRuntime(options: FirecrackerRuntimeOptions): Promise<FirecrackerRuntime> {
  const { keeper, logger } = options;
  await mkdir(options.outputsFolder, { recursive: true, mode: 0o700 });
  const guest = await loadGuestFiles(options.guestFolder);
  const bytesMax = GUEST_FILE_BYTES_MAX;
  await keeper.admit({ kind: "kernel", path: guest.kernel, digest: guest.kernelDigest, bytesMax });
  await keeper.admit({ kind: "initramfs", path: guest.initramfs, digest: guest.initramfsDigest, bytesMax });
  const context: FirecrackerContext = {
    keeper,
    guest,
    outputsFolder: options.outputsFolder,
    openStream: limitFlood(streamThroughChannel(options.channelProgram)),
    bootDeadlineMs: options.bootDeadlineMs ?? DEFAULT_BOOT_DEADLINE_MS,
    restoreDeadlineMs: options.restoreDeadlineMs ?? DEFAULT_RESTORE_DEADLINE_MS,
    consoleBytesMax: options.consoleBytesMax ?? DEFAULT_CONSOLE_BYTES_MAX,
    metrics: options.metrics ?? false,
    deadlines: options.deadlines ?? DEFAULT_AGENT_DEADLINES,
    parked: new Set(),
    clock: options.clock,
    logger,
  };
  void keeper.ended.then((how) => {
    for (const machine of context.parked) machine.lost(`the keeper ended: ${how}`);
  });
  const { vmm } = keeper.hello;
  logger.info("vm.runtime", { firecracker: vmm.version, digest: vmm.digest, knownRelease: vmm.knownRelease });
  return new JailedRuntime(context, options.goldens ?? DEFAULT_GOLDEN_LIMITS);
}

class JailedRuntime implements FirecrackerRuntime {
  readonly isolation = "firecracker";
  readonly parking = "snapshot";
  readonly #context: FirecrackerContext;
  readonly #shelf: GoldenShelf;
  readonly #rootfs = new RootfsDigests();

  constructor(context: FirecrackerContext, limits: GoldenLimits) {
    this.#context = context;
    const { keeper, clock, logger } = context;
    this.#shelf = new GoldenShelf({ limits, clock, logger, drop: (snapshot) => keeper.dropSnapshot(snapshot) });
  }

  async boot(spec: BootSpec, signal: AbortSignal): Promise<Machine> {
    signal.throwIfAborted();
    const binding = await this.#bind(spec);
    const golden = goldenBinding(binding);
    const restored = await this.#restore(binding, golden, signal);
    if (restored) return restored;
    const machine = await startMachine(this.#context, { id: newId(), binding, origin: "boot", snapshot: null }, signal);
    // Whoever comes next restores; who is here has not waited for it.
    void this.#shelf.ensure(golden, (during) => this.#makeGolden(binding, golden, during));
    return machine;
  }

  async prepare(spec: BootSpec): Promise<void> {
    try {
      const binding = await this.#bind(spec);
      const golden = goldenBinding(binding);
      await this.#shelf.ensure(golden, (during) => this.#makeGolden(binding, golden, during));
    } catch (error) {
      this.#context.logger.warn("vm.golden.failed", { error: String(error) });
    }
  }

  close(): Promise<void> {
    return this.#shelf.close();
  }

  /** Restores a machine from the golden; null when there is none or its restore failed, which drops it. */
  async #restore(binding: SnapshotBinding, golden: Digest, signal: AbortSignal): Promise<FirecrackerMachine | null> {
    const lease = this.#shelf.take(golden);
    if (lease === null) return null;
    const snapshot = { id: lease.snapshot, binding: golden };
    try {
      return await startMachine(this.#context, { id: newId(), binding, origin: "golden", snapshot }, signal);
    } catch (error) {
      signal.throwIfAborted();
      lease.failed();
      this.#context.logger.warn("vm.golden.not_restored", { snapshot: lease.snapshot, error: String(error) });
      return null;
    } finally {
      lease.release();
    }
  }

  /** Boots a machine that no tenant sees, warms its compiler's pages, and freezes it. */
  async #makeGolden(binding: SnapshotBinding, golden: Digest, signal: AbortSignal): Promise<string> {
    const start = { id: newId(), binding, origin: "boot", snapshot: null } as const;
    const machine = await startMachine(this.#context, start, signal);
    try {
      const warmed = await warmUp(machine.session, binding.memoryBytes, signal);
      await machine.scrub(signal);
      const { id } = await machine.freeze(golden, signal);
      this.#context.logger.info("vm.golden.warmed", { snapshot: id, compilers: warmed.join(" ") });
      return id;
    } finally {
      await machine.destroy();
    }
  }

  async #bind({ rootfs, memoryBytes, vcpus, goldenOwner }: BootSpec): Promise<SnapshotBinding> {
    if (vcpus < 1 || vcpus > FIRECRACKER_VCPUS_MAX || memoryMib(memoryBytes) < 1)
      throw new HpccError("config.invalid", `Firecracker makes no machine of ${vcpus} vCPUs and ${memoryBytes} bytes`);
    const { keeper, guest } = this.#context;
    const { digest, sizeBytes } = await this.#rootfs.of(rootfs);
    await keeper.admit({ kind: "rootfs", path: rootfs, digest, bytesMax: sizeBytes });
    const { vmm, host } = keeper.hello;
    return {
      rootfsDigest: digest,
      kernelDigest: guest.kernelDigest,
      initramfsDigest: guest.initramfsDigest,
      commandLine: COMMAND_LINE,
      memoryBytes,
      vcpus,
      host: {
        vmmDigest: vmm.digest,
        vmmVersion: vmm.version,
        cpuModel: host.cpuModel,
        microcode: host.microcode,
        hostKernel: host.kernel,
      },
      goldenOwner,
    };
  }
}

function newId(): string {
  return `vm-${randomBytes(10).toString("hex")}`;
}
