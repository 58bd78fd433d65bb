// What a worker's host is, as its kernel and its files say it: facts without a verdict (host-findings.ts judges them).

/** What a file of /proc or /sys holds, trimmed. */
export type FileText =
  | { readonly t: "text"; readonly text: string }
  | { readonly t: "absent" }
  | { readonly t: "unreadable"; readonly why: string };

/** One name on the way from the root to a path. */
export interface PathStep {
  readonly path: string;
  readonly kind: "folder" | "file" | "link" | "other";
  readonly uid: number;
  /** Permission bits. */
  readonly mode: number;
}

/** The way to a path; it ends early where a name is missing or cannot be looked at. */
export interface PathFacts {
  readonly path: string;
  readonly steps: readonly PathStep[];
  /** Why the way ends before the path does; null when it does not. */
  readonly stopped: { readonly path: string; readonly why: string } | null;
}

/** A program of Firecracker's release. */
export interface ProgramFacts {
  /** As it was named. */
  readonly name: string;
  /** Null: no such program. */
  readonly file: PathFacts | null;
  /** What `--version` printed, or why it did not. */
  readonly version: FileText;
  /** Hex digits; null when it cannot be read. */
  readonly sha256: string | null;
  /** Whether it wants a dynamic loader; null for what is no ELF program. */
  readonly dynamic: boolean | null;
}

export interface CgroupFacts {
  /** Path below the mount; null when none was named that lies there, and this process is in none. */
  readonly group: string | null;
  /** Where cgroup v2 is mounted; null for nowhere. */
  readonly mountPoint: string | null;
  /** Controllers that the group has: its cgroup.controllers, or for a group still to be made its parent's subtree_control. */
  readonly controllers: FileText;
}

/** A block device and what it lies on. */
export interface BlockLayer {
  readonly name: string;
  /** Of a device mapper's device. */
  readonly dmUuid: string | null;
  /** True for a device whose blocks are memory. */
  readonly memory: boolean;
  readonly below: readonly BlockLayer[];
}

export interface StorageFacts {
  readonly fileSystem: string;
  readonly source: string;
  /** Null when the file system names no block device. */
  readonly device: BlockLayer | null;
}

export interface SnapshotFolderFacts {
  readonly folder: PathFacts;
  /** Null when no mount was found for it. */
  readonly storage: StorageFacts | null;
}

export interface HostFacts {
  /** Whether this worker is meant to run Firecracker, so that what it lacks for that is a failure. */
  readonly firecrackerWanted: boolean;
  /** SHA-256 in hex of programs whose origin the operator has checked. */
  readonly knownReleases: readonly string[];
  readonly kernel: FileText;
  readonly cpuModels: readonly string[];
  /** Microcode revisions of its processors, each once. */
  readonly microcodes: readonly string[];
  readonly smtControl: FileText;
  readonly smtActive: FileText;
  readonly ksmRun: FileText;
  readonly swaps: FileText;
  readonly nxHugePages: FileText;
  /** Null when the kernel has no such folder. */
  readonly vulnerabilities: readonly { readonly name: string; readonly text: string }[] | null;
  readonly cgroup: CgroupFacts;
  readonly firecracker: ProgramFacts;
  readonly jailer: ProgramFacts;
  readonly jails: PathFacts | null;
  readonly snapshots: SnapshotFolderFacts | null;
}

/** Most that is read of one file of /proc or /sys. */
export const FACT_BYTES_MAX = 1024 * 1024;
/** Names on the way to a path, devices under one another. */
export const FACT_DEPTH_MAX = 32;
