// The keeper as its worker sees it: the small root process (native/crates/keeper) that alone runs jailer, cgroups and mounts.
// Everything here is a request to it; the worker has no rights of its own over a jail. docs/specs/keeper.md is the protocol.
import type { Digest } from "../../core/digest/digest.ts";

/** A program that the keeper runs, as it found it at its start. */
export interface KeptProgram {
  readonly version: string;
  readonly digest: Digest;
  /** Whether it is a published build whose seccomp filters are known; false says that nobody vouches for them. */
  readonly knownRelease: boolean;
}

/** What the keeper says of itself and of the host. All of it decides whether a snapshot may be used. */
export interface KeeperHello {
  /** Name of this keeper; new at each start. */
  readonly keeper: string;
  readonly vmm: KeptProgram;
  readonly jailer: KeptProgram;
  readonly host: { readonly cpuModel: string; readonly microcode: string; readonly kernel: string };
}

/** Names within a jail, the same in all of them, so that a snapshot finds its files in another jail. */
export const JAIL_FILES = {
  kernel: "/vmlinux",
  initramfs: "/initramfs",
  rootfs: "/rootfs",
  /** The snapshot that a machine starts from. */
  state: "/state",
  memory: "/memory",
  /** Where the VMM writes a snapshot that the keeper is then asked to take. */
  newState: "/state.new",
  newMemory: "/memory.new",
  /** The vsock device's socket. */
  vsock: "/v.sock",
} as const;

export type AdmittedKind = "kernel" | "initramfs" | "rootfs";

/** A file that machines may be made from. */
export interface AdmittedFile {
  readonly kind: AdmittedKind;
  /** Absolute; opened with the worker's own rights. */
  readonly path: string;
  readonly digest: Digest;
  readonly bytesMax: number;
}

export interface JailSpec {
  /** Name of the machine: lower-case letters, digits and "-", at most 48; unique among those that live. */
  readonly vm: string;
  readonly memoryBytes: number;
  readonly vcpus: number;
  readonly kernel: Digest;
  readonly initramfs: Digest;
  readonly rootfs: Digest | null;
  /** Linked in as `state` and `memory` once it has proven to be what it was. */
  readonly snapshot: { readonly id: string; readonly binding: Digest } | null;
  /** Size limit of each file that the VMM writes. */
  readonly fileBytesMax: number;
}

export interface KeptSnapshot {
  readonly id: string;
  readonly stateBytes: number;
  readonly memoryBytes: number;
  /** Of state and memory together, as the keeper read them; docs/specs/keeper.md says how it is made. */
  readonly digest: Digest;
}

/** A VMM in its jail, its API socket listening and nothing configured yet. */
export interface Jail {
  readonly vm: string;
  readonly uid: number;
  /** Host path at which the worker, and no other user, can dial the VMM's API. */
  readonly apiSocket: string;
  /** A FIFO with what jailer, VMM and guest's console write. What does not fit is lost: read it. UNTRUSTED: guest */
  readonly consolePipe: string;
  /** Says why; settles once, never rejects, when process, cgroup and files are gone. */
  readonly ended: Promise<string>;
  /** Host path of the vsock device's socket, once the VMM has made it. Throws `vm.breach` when something else is there. */
  exposeVsock(): Promise<string>;
  /** Unlinks the vsock device's socket everywhere: who has not dialled by now never will. */
  sealVsock(): Promise<void>;
  /** Sets room for a snapshot of it aside; before the VMM is told to write one. Throws `vm.lost` when the quota has none. */
  reserve(): Promise<void>;
  /**
   * Kills the VMM, which has written `newState` and `newMemory`, and takes them. Nothing of the jail is left then, also when it
   * throws: `vm.breach` for files that are not what a VMM writes, `vm.lost` when they cannot be kept.
   */
  snapshot(binding: Digest, signal: AbortSignal): Promise<KeptSnapshot>;
  /** Kills it and removes all that it had; may be called at any time and again. */
  destroy(): Promise<void>;
}

/**
 * Errors carry the keeper's own code in `details.keeper`: "snapshot-bad" from `start` says that the snapshot is gone and that a
 * boot is the way on, "file-missing" that a file is to be admitted (again).
 */
export interface Keeper {
  readonly hello: KeeperHello;
  /** Has the keeper copy a file and check its digest; cheap when it has it. */
  admit(file: AdmittedFile): Promise<void>;
  /** Makes a jail and starts the VMM in it; an abort leaves nothing of it. Throws `vm.boot`. */
  start(spec: JailSpec, signal: AbortSignal): Promise<Jail>;
  /** Forgets a snapshot; harmless when it is gone. */
  dropSnapshot(id: string): Promise<void>;
  /** Says why; settles once, never rejects, when the keeper is gone; every jail is, too. */
  readonly ended: Promise<string>;
  /** Ends the keeper and with it every jail. */
  close(): void;
}
