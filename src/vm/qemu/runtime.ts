// The `qemu` driver of the runtime port: a separate kernel, under KVM where a probe boot succeeds, else under emulation,
// which its authors do not call a boundary; the isolation value says which.
import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { promisify } from "node:util";
import type { Clock } from "../../base/clock.ts";
import { assert, HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Isolation } from "../../core/isolation.ts";
import { streamThroughChannel } from "../agent/channel.ts";
import { type AgentDeadlines, DEFAULT_AGENT_DEADLINES } from "../agent/limits.ts";
import { limitFlood } from "../flood-limit.ts";
import { loadGuestFiles } from "../guest-files.ts";
import type { BootSpec, Machine, Runtime } from "../runtime.ts";
import { sweepVmFolders } from "../vm-folder.ts";
import { bootQemu } from "./boot.ts";
import { type Accelerator, vcpusMaxOf } from "./command-line.ts";
import type { QemuBootContext, QemuPrograms } from "./context.ts";
import { hostTscKhz } from "./host-tsc.ts";
import { kvmIsUsable } from "./probe-kvm.ts";

/** Boots under emulation on a busy machine take seconds. */
export const DEFAULT_BOOT_DEADLINE_MS = 60_000;
const VERSION_DEADLINE_MS = 10_000;

export interface QemuRuntimeOptions {
  readonly qemuProgram: string;
  readonly vsockDeviceProgram: string;
  /** `hpcc-channel`, in which each guest's HTTP/2 is parsed. */
  readonly channelProgram: string;
  /** Folder of the guest that `make guest` builds. */
  readonly guestFolder: string;
  /** Private folder of the machines' folders. */
  readonly vmsFolder: string;
  /** Private folder for larger outputs of executions; its files have no names. */
  readonly outputsFolder: string;
  /** File that keeps the verdict of the KVM probe until the next boot of the host. */
  readonly kvmVerdictFile: string;
  /** `auto`: KVM where it boots, else TCG. */
  readonly accelerator: Accelerator | "auto";
  readonly bootDeadlineMs?: number;
  readonly deadlines?: AgentDeadlines;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Checks programs and guest, sweeps what an earlier worker left, and decides on the accelerator. */
export async function openQemuRuntime(options: QemuRuntimeOptions, signal: AbortSignal): Promise<Runtime> {
  const { clock, logger } = options;
  for (const folder of [options.vmsFolder, options.outputsFolder])
    await mkdir(folder, { recursive: true, mode: 0o700 });
  const swept = await sweepVmFolders(options.vmsFolder);
  if (swept > 0) logger.info("vm.swept", { folders: swept });
  const guest = await loadGuestFiles(options.guestFolder);
  const programs: QemuPrograms = {
    qemu: options.qemuProgram,
    vsockDevice: options.vsockDeviceProgram,
    qemuVersion: await versionOf(options.qemuProgram, "qemu-system-x86"),
  };
  await versionOf(options.vsockDeviceProgram, "vhost-device-vsock (scripts/tools)");
  const tscKhz = await hostTscKhz();
  const context = (accelerator: Accelerator): QemuBootContext => ({
    programs,
    openStream: limitFlood(streamThroughChannel(options.channelProgram)),
    guest,
    accelerator,
    vcpusMax: vcpusMaxOf(accelerator, programs.qemuVersion),
    tscKhz,
    vmsFolder: options.vmsFolder,
    outputsFolder: options.outputsFolder,
    bootDeadlineMs: options.bootDeadlineMs ?? DEFAULT_BOOT_DEADLINE_MS,
    deadlines: options.deadlines ?? DEFAULT_AGENT_DEADLINES,
    clock,
    logger,
  });
  const accelerator =
    options.accelerator === "auto"
      ? (await kvmIsUsable(context("kvm"), options.kvmVerdictFile, signal))
        ? "kvm"
        : "tcg"
      : options.accelerator;
  logger.info("vm.runtime", { qemu: programs.qemuVersion, accelerator });
  return new QemuRuntime(context(accelerator));
}

class QemuRuntime implements Runtime {
  readonly isolation: Isolation;
  /** Its vsock device cannot be migrated, so there are no snapshots: docs/adr/0035-qemu-stop-and-keep.md. */
  readonly parking = "stopped";
  readonly #context: QemuBootContext;

  constructor(context: QemuBootContext) {
    this.#context = context;
    this.isolation = context.accelerator === "kvm" ? "qemu-kvm" : "qemu-tcg";
  }

  /** Always from the kernel on: without snapshots there is no golden one, and `goldenOwner` says nothing here. */
  boot(spec: BootSpec, signal: AbortSignal): Promise<Machine> {
    assert(spec.vcpus > 0 && spec.memoryBytes > 0, "a machine without processor or memory");
    return bootQemu(this.#context, spec, signal);
  }
}

async function versionOf(program: string, packageName: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(program, ["--version"], { timeout: VERSION_DEADLINE_MS });
    const [line = ""] = stdout.split("\n");
    return line.trim();
  } catch (cause) {
    throw new HpccError("tool.missing", `${program} does not run; it comes with ${packageName}`, { cause });
  }
}
