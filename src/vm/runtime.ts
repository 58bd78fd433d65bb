// The runtime port: what a worker's VM pool needs of a driver. A driver owns the processes, folders and sockets of its
// machines; it knows nothing of tenants, keys or jobs.
import type { Isolation } from "../core/isolation.ts";
import type { ExecuteOptions, ExecutionRequest, ExecutionResult } from "./execution.ts";

/** What a machine is made from. */
export interface BootSpec {
  /** Host path of the toolchain's squashfs image; it never changes while a machine lives. */
  readonly rootfs: string;
  readonly memoryBytes: number;
  readonly vcpus: number;
}

/** What ran, for the audit log: digests of what the driver started, and what the guest says of itself. */
export interface MachineVersions {
  /** Name and version of the virtual machine monitor. */
  readonly vmm: string;
  /** Digests of kernel, initramfs and agent as the driver read them. */
  readonly kernelDigest: string;
  readonly initramfsDigest: string;
  readonly agentDigest: string;
  /** The guest's word. */
  readonly kernelRelease: string;
  /** The guest's word. */
  readonly agentVersion: string;
}

/**
 * Why a machine is no more. `destroyed`: its owner said so. `lost`: it ended by itself. `breach`: its guest broke the
 * contract and the driver destroyed it.
 */
export type MachineEnd =
  | { readonly t: "destroyed" }
  | { readonly t: "lost"; readonly detail: string }
  | { readonly t: "breach"; readonly detail: string };

/** The one stream of a machine. */
export interface AgentSession {
  /**
   * Runs one execution; any number may run at a time. Throws `vm.lost` when the machine ends first, `vm.breach` when the
   * guest breaks the contract, `job.cancelled` after an abort, `limit.exceeded` with details.limit for a limit of the
   * execution, `job.failed` when the guest could not make the sandbox.
   */
  execute(request: ExecutionRequest, options: ExecuteOptions): Promise<ExecutionResult>;
}

export interface Machine {
  /** Unique for ever; the `vm` column of audit rows. */
  readonly id: string;
  readonly isolation: Isolation;
  readonly versions: MachineVersions;
  /** From the start of the boot until the agent answered. */
  readonly bootMs: number;
  readonly session: AgentSession;
  /** False from the moment that anything of it has ended. */
  readonly alive: boolean;
  /** Settles once, never rejects, when nothing of the machine is left. */
  readonly ended: Promise<MachineEnd>;
  /** Kills it, waits for it and removes all that it had. May be called at any time and again. */
  destroy(): Promise<void>;
}

export interface Runtime {
  readonly isolation: Isolation;
  /** Boots a machine whose agent has answered. An abort, a deadline or a fault leaves nothing behind. */
  boot(spec: BootSpec, signal: AbortSignal): Promise<Machine>;
}
