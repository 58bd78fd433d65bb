// What is known of a call once it was answered: what it read, what it sought in vain, what came of it. Replay records and the history of
// calls are made of it, whichever tier answered. UNTRUSTED: paths and words are a checkout's.
import type { ByteString } from "../../base/byte-string.ts";
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { CallMessage, OutputManner } from "../../wire/launcher/messages.ts";
import type { CallOutcome } from "../control/call-counts.ts";
import type { ReplayUse } from "../replay/hit-log.ts";
import type { FolderState } from "./folder-state.ts";

/** What tells a file from one that was changed or replaced, without reading it; as stat gives it, links followed. */
export interface FileStamp {
  readonly dev: bigint;
  readonly ino: bigint;
  /** In bytes. */
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Type and permissions. */
  readonly mode: bigint;
}

/** A regular file that the compile read. */
export interface CallInput {
  /** On the host, absolute, as the compiler opened it: links not resolved. */
  readonly path: ByteString;
  readonly digest: Digest;
  /** Taken of the very bytes that the digest is of. */
  readonly stamp: FileStamp;
}

/** Names that the compile sought in a folder and did not find, `a/b.h` too; a file there would change the result. */
export interface AbsentNames {
  /** On the host, absolute; need not exist itself. */
  readonly folder: ByteString;
  readonly names: readonly ByteString[];
}

/** A folder that the compiler looks for headers in. */
export interface SearchedState {
  /** On the host, absolute. */
  readonly path: ByteString;
  /** When the call was looked up. */
  readonly state: FolderState;
}

/** An output that lies in the local store. */
export interface KeptOutput {
  /** As the caller spells it; relative to the call's working folder. */
  readonly destination: ByteString;
  readonly digest: Digest;
  /** The store's file with these bytes; null when nothing is kept on this machine. */
  readonly path: ByteString | null;
  readonly executable: boolean;
  readonly manner: OutputManner;
}

/** What a successful call leaves; failures are not kept. */
export interface KeptResult {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly outputs: readonly KeptOutput[];
}

/** The compiler as a call found it. */
export interface CallCompiler {
  /** Digest of all that it is made of: the image's, or that of driver, compilers, assembler and specs on this machine. */
  readonly identity: Digest;
  readonly image: Digest | null;
  /** Files of this machine whose change makes it another one; none with an image. */
  readonly files: readonly CallInput[];
  /** Folders of this machine whose names decide where it searches, absolute; they need not be there. */
  readonly places?: readonly ByteString[];
}

export interface AnsweredCall {
  readonly message: CallMessage;
  /** Root of the project, links resolved; null outside of any. */
  readonly project: ByteString | null;
  readonly outcome: CallOutcome;
  /** Why it was compiled here with nothing kept; null otherwise. */
  readonly reason: BypassReason | null;
  readonly detail: ByteString | null;
  /** Null when the call ended before that was known. */
  readonly compiler: CallCompiler | null;
  /** Source and main output on the host, absolute; null when the call was not understood. */
  readonly source: ByteString | null;
  readonly output: ByteString | null;
  /** Of the command line, without the names of source and outputs, in its order: what explain holds against the call before. */
  readonly words: readonly ByteString[];
  /** Variables that went into the key, by name. */
  readonly environment: ReadonlyMap<string, ByteString>;
  /** Digest of all that the result depends on beside files: two calls with the same one differ in files alone. */
  readonly callDigest: Digest | null;
  /** Source first, then in the order of reading; empty when unknown. Files of an image are left out. */
  readonly inputs: readonly CallInput[];
  readonly absent: readonly AbsentNames[];
  /** Compilers say when one is missing or none. Folders of an image are left out. */
  readonly searched: readonly SearchedState[];
  /** Configuration files that the call depends on, those that are absent with a null stamp. */
  readonly configuration: readonly { readonly path: ByteString; readonly stamp: FileStamp | null }[];
  /** Null unless the call ended well and may be answered so again. */
  readonly result: KeptResult | null;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly durationMs: number;
}

/** Told of each call after its answer went out; must not throw, and must not hold up the daemon. */
export interface CallObserver {
  answered(call: AnsweredCall): void;
  /** Told, some time later, of calls that launchers answered alone; must not throw either. */
  replayed?(uses: readonly ReplayUse[]): void;
  /** Writes down what it holds back, for somebody who is about to read it. */
  flush?(): void;
}
