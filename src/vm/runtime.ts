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
  /** Whose clone of a golden snapshot it may be: null for the one that all share, else a name that owns its own copy. */
  readonly goldenOwner: string | null;
}

/**
 * Where a machine's state came from. `boot`: its kernel started. `golden`: a snapshot that was taken before any tenant's
 * byte. `parked`: its own earlier state.
 */
export type MachineOrigin = "boot" | "golden" | "parked";

/**
 * What parking is to a driver. `snapshot`: the machine's state is a file and its memory is free. `stopped`: its processors
 * stand still and it keeps its memory.
 */
export type Parking = "snapshot" | "stopped";

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
 * Why a machine is no more. `destroyed`: its owner said so. `parked`: its state goes on in a ParkedMachine. `lost`: it ended
 * by itself. `breach`: its guest broke the contract and the driver destroyed it.
 */
export type MachineEnd =
  | { readonly t: "destroyed" }
  | { readonly t: "parked" }
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
  readonly origin: MachineOrigin;
  /** From the start of the boot or the restore until the agent answered. */
  readonly bootMs: number;
  /** The stream that lives now; a scrub replaces it. */
  readonly session: AgentSession;
  /** False from the moment that anything of it has ended. */
  readonly alive: boolean;
  /** Settles once, never rejects, when nothing of the machine is left. */
  readonly ended: Promise<MachineEnd>;
  /**
   * Has the guest clear away all that ran in it: every process, file and freed page. Only while nothing executes. Goes on with
   * a new stream. What the guest says of it is its word, so the machine stays its tenant's. Rejects with `vm.breach` when the
   * guest does not do it in time or has something left; the machine is destroyed then.
   */
  scrub(signal: AbortSignal): Promise<void>;
  /**
   * Scrubs it, stops it and keeps its state. `ended` settles with `parked`. Rejects like `scrub`, or with `vm.lost` when its state
   * cannot be kept (a full disk); the machine is destroyed then and nothing of it is left.
   */
  park(signal: AbortSignal): Promise<ParkedMachine>;
  /** Kills it, waits for it and removes all that it had. May be called at any time and again. */
  destroy(): Promise<void>;
}

/** A machine that stands still. It is tenant data, and only its own pool key may have it back. */
export interface ParkedMachine {
  /** The machine's; who is restored keeps it. */
  readonly id: string;
  readonly parking: Parking;
  /** What it takes on disk. */
  readonly diskBytes: number;
  /** Settles once, never rejects, when nothing of it is left here: destroyed, lost, or `parked` when it was restored. */
  readonly ended: Promise<MachineEnd>;
  /** Makes it run again; once. Its agent has answered on a new stream. When it fails nothing is left; throws `vm.boot`. */
  restore(signal: AbortSignal): Promise<Machine>;
  /** Removes it; may be called at any time and again. */
  destroy(): Promise<void>;
}

export interface Runtime {
  readonly isolation: Isolation;
  readonly parking: Parking;
  /**
   * Starts a machine whose agent has answered: restored from a golden snapshot where the driver has one, else booted. An abort, a
   * deadline or a fault leaves nothing behind.
   */
  boot(spec: BootSpec, signal: AbortSignal): Promise<Machine>;
}
