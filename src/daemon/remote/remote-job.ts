// A compile on a worker, as the daemon asks for it and as it comes back.

import { type ErrorCode, HpccError } from "../../base/errors.ts";
import type { Action, OutputKind } from "../../core/action/action.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { BuildId } from "../../core/identity/build-id.ts";
import type { Isolation } from "../../core/isolation.ts";
import type { Life } from "../../core/life.ts";

/** A zstd frame: in memory, or read while it is sent. */
export type Frame = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface RemoteJob {
  readonly action: Action;
  /** The source manifest as `encodeSourceManifest` makes it. */
  readonly manifest: Uint8Array;
  /**
   * Opens the zstd frame (with content of the digest) of a file of the manifest. Called once at most for each blob that
   * the worker lacks, when its turn to be sent comes; never for an empty file.
   */
  readonly openBlob: (digest: Digest) => Frame | Promise<Frame>;
  /** The weakest isolation that is good enough. */
  readonly isolationMin: Isolation;
  /** How long the worker may take, at most an hour. */
  readonly deadlineMs: number;
  /** Where the worker may fetch the image if it lacks it, how long the job may wait for that, and what the image holds here. */
  readonly image?: { readonly repository: string; readonly waitMs: number; readonly contents?: Digest | null };
  /** Whether it is to be compiled in a VM that has run nothing, whatever is known of it, and its result kept under no key. */
  readonly again?: true;
  /** The build that it belongs to, as its rows shall say. */
  readonly build?: BuildId | null;
  /** Existing folder for the outputs' files; the caller removes it. */
  readonly outputFolder: string;
}

export type RemoteProgress = "receiving" | "queued" | "running";

export interface RemoteOutput {
  /** Index in `Action.outputs`. */
  readonly index: number;
  readonly kind: OutputKind;
  readonly executable: boolean;
  readonly digest: Digest;
  readonly size: number;
  /** File below `outputFolder` with the verified bytes, mode 0600. */
  readonly file: string;
}

export interface RemoteResult {
  readonly outcome: "compiled" | "hit" | "joined";
  /** 0 to 255; 128 plus the signal's number when a signal ended the compiler. */
  readonly exitCode: number;
  /** Outputs that are there, by growing index. All required ones when the exit code is 0. */
  readonly outputs: readonly RemoteOutput[];
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly resultDigest: Digest;
  /** The audit row's nine columns. */
  readonly auditRow: string;
  readonly rowDigest: Digest;
  /** What shows that the row is in the worker's log; null where the worker gives none. */
  readonly receipt: RemoteReceipt | null;
  readonly isolation: Isolation;
  readonly compileUs: number;
  /** What else the VM that compiled it may have run. */
  readonly life: Life;
  /** What this job moved: payload as compressed frames, and what they hold. */
  readonly traffic: Traffic;
}

export interface RemoteReceipt {
  /** Hash of the row's record as a leaf of the log's tree. */
  readonly leaf: Digest;
  /** C2SP's tlog-proof. */
  readonly proof: string;
  /** The name that the log of the worker has which gave it, by its certificate; null for one that is no worker's. */
  readonly from: string | null;
}

export interface Traffic {
  readonly sentFrameBytes: number;
  readonly sentBytes: number;
  readonly receivedFrameBytes: number;
  readonly receivedBytes: number;
}

export interface RemoteOptions {
  /** Aborting it cancels the job on the worker. */
  readonly signal: AbortSignal;
  /** Called for each worker that is given the job: one that fails is followed by the next, or by itself. */
  readonly onSent?: () => void;
  readonly onProgress?: (progress: RemoteProgress) => void;
}

/** What the rest of the daemon needs of a worker; `WorkerClient` is one. */
export interface RemoteWorker {
  /**
   * Throws HpccError: the worker's code and words when the job ended without a result; `job.cancelled` after an abort;
   * `peer.unavailable` when the stream broke. Any number may run; those above the worker's limit wait here.
   */
  compile(job: RemoteJob, options: RemoteOptions): Promise<RemoteResult>;
}

/** The way to whichever worker takes a job. */
export interface RemoteWorkers extends RemoteWorker {
  /** Whether a worker is there that would be given a job, asked before anything is made for one. Answers at once but for the first call. */
  available(signal: AbortSignal): Promise<boolean>;
}

/** A job's end as the worker told it. */
export function workersWord(code: ErrorCode, message: string): HpccError {
  return new HpccError(code, `the worker: ${message}`, { details: { from: "worker" } });
}

/** Whether a job reached a worker and failed there, which says nothing about the way to it. */
export function isWorkersWord({ details }: HpccError): boolean {
  return details["from"] === "worker";
}
