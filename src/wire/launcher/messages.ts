// Messages between launcher and daemon as types. Their bytes are docs/specs/launcher-protocol.md's business.
import type { ByteString } from "../../base/byte-string.ts";

/** First message of a compile call, launcher to daemon. */
export interface CallMessage {
  readonly type: "call";
  readonly protocolVersion: number;
  readonly launcherVersion: string;
  /** Device and inode of the caller's /proc/self/ns/mnt. */
  readonly mountNamespace: { readonly dev: bigint; readonly ino: bigint };
  /** argv[0] is the compiler as the caller named it; the launcher's own name is gone. Never empty. */
  readonly argv: readonly ByteString[];
  /** What getcwd gave. The caller's spelling is PWD in the environment. */
  readonly cwd: ByteString;
  /** Entries `NAME=value` in the caller's order; an entry need not hold `=`. */
  readonly environment: readonly ByteString[];
  readonly umask: number;
  readonly terminal: Terminal;
  readonly pid: number;
  /** The real compiler of that name on the caller's PATH, past every launcher; null when there is none. */
  readonly hostCompiler: ByteString | null;
  /** `command`: argv is a command, to be run with the image's files around it. `inside`: a compile of such a command. */
  readonly errand?: Errand;
}

export type Errand = "command" | "inside";

export interface Terminal {
  readonly stdin: boolean;
  readonly stdout: boolean;
  readonly stderr: boolean;
  /** Width of stderr's terminal; null when it is none or has no size. */
  readonly columns: number | null;
}

/** A kept namespace, by a process in it. The launcher enters it only if the inodes are those. */
export interface NamespaceRef {
  readonly holderPid: number;
  /** Inode of /proc/<pid>/ns/user; null when the holder is in the caller's own user namespace (root). */
  readonly userNamespaceIno: bigint | null;
  /** Inode of /proc/<pid>/ns/mnt. */
  readonly mountNamespaceIno: bigint;
}

export type StreamPolicy =
  | { readonly kind: "inherit" }
  | { readonly kind: "discard" }
  /** Created by the launcher outside of the namespace, O_EXCL, mode 0600. */
  | { readonly kind: "file"; readonly path: ByteString }
  /** The same, of what is said to a terminal that is as wide as the launcher's standard error. */
  | { readonly kind: "terminal"; readonly path: ByteString };

/** Daemon to launcher: run a program as your child and tell its end. At most one at a time. */
export interface RunMessage {
  readonly type: "run";
  readonly id: number;
  /** Absolute path in the namespace. */
  readonly program: ByteString;
  readonly argv: readonly ByteString[];
  readonly environment: readonly ByteString[];
  /** Absolute path in the namespace. */
  readonly cwd: ByteString;
  readonly namespace: NamespaceRef | null;
  readonly stdin: "inherit" | "null";
  readonly stdout: StreamPolicy;
  readonly stderr: StreamPolicy;
  /** The child and its descendants are killed after this; null for none. */
  readonly timeLimitMs: number | null;
}

export type RunFailure = "namespace" | "program" | "cwd" | "capture" | "time-limit" | "spawn";

export type RunOutcome =
  | { readonly kind: "exited"; readonly code: number }
  | { readonly kind: "signaled"; readonly signal: number }
  /** The program did not run to its end; errno is 0 when no system call failed. */
  | { readonly kind: "failed"; readonly failure: RunFailure; readonly errno: number };

/** Launcher to daemon: the end of a RUN. */
export interface RanMessage {
  readonly type: "ran";
  readonly id: number;
  readonly outcome: RunOutcome;
  readonly usage: {
    readonly userUs: number;
    readonly systemUs: number;
    readonly maxRssKiB: number;
    readonly wallUs: number;
  };
}

/** Daemon to launcher: still working. */
export interface WaitMessage {
  readonly type: "wait";
  /** What on, for a person at a terminal; null for nothing to be said. */
  readonly doing: string | null;
}

/** Bytes in the frame or in a file that the launcher can read. */
export type Content =
  | { readonly kind: "inline"; readonly bytes: Uint8Array }
  | { readonly kind: "file"; readonly path: ByteString };

/**
 * Whose habits a destination that exists meets. `assembler` (GNU as): a link or a non-empty file is unlinked and made
 * anew. `text` (cc1's -S, -E, -MF): written through links, into the file that is there, whose mode stays. `clang`:
 * renamed over, refused when the old file cannot be written.
 */
export type OutputManner = "assembler" | "text" | "clang";

export interface OutputFile {
  /** As the caller spelled it; relative to the call's cwd. */
  readonly destination: ByteString;
  readonly content: Content;
  readonly executable: boolean;
  readonly manner: OutputManner;
}

/** Daemon to launcher, final: write these and end with this exit code. */
export interface OutputsMessage {
  readonly type: "outputs";
  readonly exitCode: number;
  readonly stdout: Content | null;
  readonly stderr: Content | null;
  readonly files: readonly OutputFile[];
  /** Files that a failing compile removes, as the caller spelled them; never empty. */
  readonly removals?: readonly ByteString[];
}

/** Daemon to launcher, final: become this program. */
export interface ExecMessage {
  readonly type: "exec";
  readonly namespace: NamespaceRef | null;
  /** `host`: the real compiler of the call's name on the caller's PATH. */
  readonly program: { readonly kind: "host" } | { readonly kind: "path"; readonly path: ByteString };
  /** null: the call's own. */
  readonly argv: readonly ByteString[] | null;
  /** null: the call's own. */
  readonly environment: readonly ByteString[] | null;
  /** null: the call's own. */
  readonly cwd: ByteString | null;
  /** One line for stderr before the program starts, without its newline. */
  readonly warning: string | null;
}

/** First message of a control connection: a request of a sub-command, JSON. */
export interface ControlMessage {
  readonly type: "control";
  readonly protocolVersion: number;
  /** Parsed JSON; not validated beyond that. */
  readonly request: unknown;
}

/** The daemon's answer to a control request. */
export interface ReplyMessage {
  readonly type: "reply";
  readonly reply: unknown;
}

/** Daemon to any peer, final: not served, for example another version. Its bytes never change. */
export interface RefuseMessage {
  readonly type: "refuse";
  readonly protocolVersion: number;
  readonly reason: string;
}

/** Launcher to daemon after OUTPUTS or an EXEC that failed: what became of it. Best effort. */
export interface DoneMessage {
  readonly type: "done";
  readonly result: { readonly kind: "written" } | { readonly kind: "fell-back"; readonly reason: string };
}

export type LauncherMessage = CallMessage | RanMessage | DoneMessage | ControlMessage;
export type DaemonMessage = RunMessage | WaitMessage | OutputsMessage | ExecMessage | ReplyMessage | RefuseMessage;
export type Message = LauncherMessage | DaemonMessage;

/** Type bytes of the frames. */
export const FRAME_TYPES = {
  call: 1,
  run: 2,
  ran: 3,
  wait: 4,
  outputs: 5,
  exec: 6,
  control: 7,
  reply: 8,
  refuse: 9,
  done: 10,
} as const satisfies Record<Message["type"], number>;

/** Type byte of a plan file. */
export const PLAN_TYPE = 64;
/** Type byte of a replay record. */
export const REPLAY_TYPE = 65;
/** Type byte of the frame whose digest is a replay record's name. */
export const REPLAY_NAME_TYPE = 66;

/** Errands in the order of their numbers, from 1; a compile has none. */
export const ERRANDS = ["command", "inside"] as const satisfies readonly Errand[];
/** Failures in the order of their numbers, from 1. */
export const RUN_FAILURES = [
  "namespace",
  "program",
  "cwd",
  "capture",
  "time-limit",
  "spawn",
] as const satisfies readonly RunFailure[];
/** Manners in the order of their numbers, from 0. */
export const OUTPUT_MANNERS = ["assembler", "text", "clang"] as const satisfies readonly OutputManner[];
