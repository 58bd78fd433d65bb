// What a worker asks of a guest and what it gets back. Plain values: nothing here knows the wire, a VM or a process.
import type { ByteString } from "../base/byte-string.ts";

/** A file that exists in the sandbox before the program starts. */
export interface ExecutionInput {
  /** Absolute path, where a job's files may be. */
  readonly path: ByteString;
  readonly executable: boolean;
  /** Uncompressed size in bytes. */
  readonly sizeBytes: number;
  /** Size of the zstd frame in bytes; 0 with an empty file, which has no frame. */
  readonly frameSizeBytes: number;
  /** Opens the zstd frame; called once at most, and read no faster than the guest takes it. */
  readonly openFrame: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** A symbolic link that exists in the sandbox before the program starts; nothing is written through it. */
export interface ExecutionLink {
  readonly path: ByteString;
  /** As spelled; what it names need not exist. */
  readonly target: ByteString;
}

/** Limits that the guest enforces on one execution, each above zero. */
export interface ExecutionLimits {
  readonly wallMs: number;
  /** All its processes and files. */
  readonly memoryBytes: number;
  /** Processes and threads. */
  readonly pids: number;
  /** All outputs together, and each file that it writes. */
  readonly outputBytes: number;
  /** stdout and stderr, each. */
  readonly stdioBytes: number;
}

export interface ExecutionRequest {
  /** Absolute path of the program in the toolchain first. */
  readonly argv: readonly ByteString[];
  /** The whole environment, "NAME=value". */
  readonly environment: readonly ByteString[];
  readonly cwd: ByteString;
  /** The modification time of the nth is n seconds after 1970-01-01. */
  readonly inputs: readonly ExecutionInput[];
  readonly links: readonly ExecutionLink[];
  /** Folders in which nothing else stands. */
  readonly folders: readonly ByteString[];
  /** Absolute paths of the files that are given back. */
  readonly outputs: readonly ByteString[];
  readonly limits: ExecutionLimits;
  /** Width of the terminal that stderr shall be; 0 for a pipe. */
  readonly terminalColumns: number;
}

/** Bytes that a guest made: in memory while small, else in a file of the worker. */
export interface ReceivedBytes {
  readonly sizeBytes: number;
  /** Reads them in order; may be called again until the result is disposed. */
  chunks(): AsyncIterable<Uint8Array>;
  /** All of them at once; for sizes that the caller has bounded. */
  bytes(): Promise<Uint8Array>;
}

/** A declared output that was a regular file. */
export interface ExecutionOutput {
  readonly executable: boolean;
  readonly content: ReceivedBytes;
}

export type ExecutionExit =
  | { readonly kind: "code"; readonly code: number }
  | { readonly kind: "signal"; readonly signal: number };

/** How an execution ended. Dispose it: its larger outputs are files. */
export interface ExecutionResult extends AsyncDisposable {
  readonly exit: ExecutionExit;
  readonly stdout: ReceivedBytes;
  readonly stderr: ReceivedBytes;
  /** One for each of `ExecutionRequest.outputs`, null when there was no regular file. */
  readonly outputs: readonly (ExecutionOutput | null)[];
  readonly wallUs: number;
  readonly cpuUs: number;
  readonly memoryPeakBytes: number;
}

/** What an execution is doing, for progress and for time measurements. */
export type ExecutionProgress =
  | { readonly t: "sent"; readonly inputBytes: number }
  | { readonly t: "exited"; readonly wallUs: number };

export interface ExecuteOptions {
  /** Aborting it cancels the execution in the guest. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: ExecutionProgress) => void;
}
