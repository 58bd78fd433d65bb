// A call as a daemon that keeps results on this machine would have answered it, made of a real compile that is done: its inputs and outputs are
// files, its kept outputs copies of them.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, realpathSync, statSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import { type Digest, digestHex, sha256 } from "../../src/core/digest/digest.ts";
import type { AbsentNames, AnsweredCall, CallInput, FileStamp } from "../../src/daemon/call/answered-call.ts";
import type { LocalStore } from "../../src/store/local/local-store.ts";
import type { CallMessage, OutputManner } from "../../src/wire/launcher/messages.ts";

export function fileStamp(path: ByteString | string): FileStamp {
  const stat = statSync(Buffer.from(path, "latin1"), { bigint: true });
  const { dev, ino, size, mtimeNs, ctimeNs, mode } = stat;
  return { dev, ino, size, mtimeNs, ctimeNs, mode };
}

export function callInput(path: ByteString | string): CallInput {
  const stamp = fileStamp(path);
  return { path: path as ByteString, digest: sha256(readFileSync(Buffer.from(path, "latin1"))), stamp };
}

export interface AnsweredCallParts {
  readonly message: CallMessage;
  readonly source: string;
  /** Beside the source; relative to the working folder, or absolute. */
  readonly headers?: readonly string[];
  readonly absent?: readonly AbsentNames[];
  /** Relative to the working folder. */
  readonly outputs: readonly { readonly destination: string; readonly manner: OutputManner }[];
  /** Where copies of the outputs are kept. */
  readonly store: string;
  /** Beside the compiler itself. */
  readonly compilerFiles?: readonly string[];
  readonly stdout?: string;
  readonly stderr?: string;
  readonly startedMs: number;
}

export function answeredCall(parts: AnsweredCallParts): AnsweredCall {
  const { message, store } = parts;
  const absolute = (path: string) => (path.startsWith("/") ? path : `${message.cwd}/${path}`) as ByteString;
  mkdirSync(store, { recursive: true, mode: 0o700 });
  const outputs = parts.outputs.map(({ destination, manner }) => {
    const bytes = readFileSync(bytesOf(absolute(destination)));
    const digest = sha256(bytes);
    const path = join(store, digestHex(digest));
    copyFileSync(bytesOf(absolute(destination)), path);
    utimesSync(path, 1_000_000_000, 1_000_000_000);
    return { destination: destination as ByteString, digest, path: path as ByteString, executable: false, manner };
  });
  const compiler = realpathSync(absolute(message.hostCompiler!));
  return {
    message,
    project: null,
    outcome: "host",
    reason: null,
    detail: null,
    compiler: {
      identity: sha256(Buffer.from(compiler)),
      image: null,
      files: [compiler, ...(parts.compilerFiles ?? [])].map(callInput),
    },
    source: absolute(parts.source),
    output: absolute(outputs[0]!.destination),
    words: message.argv,
    environment: new Map(),
    callDigest: `sha256:${createHash("sha256").update(message.argv.join("\0")).digest("hex")}` as Digest,
    inputs: [parts.source, ...(parts.headers ?? [])].map((path) => callInput(absolute(path))),
    absent: parts.absent ?? [],
    searched: [],
    configuration: [],
    result: {
      stdout: Buffer.from(parts.stdout ?? "", "latin1"),
      stderr: Buffer.from(parts.stderr ?? "", "latin1"),
      outputs,
    },
    startedMs: parts.startedMs,
    durationMs: 1,
  };
}

/** The store of such calls, whose files are known by their path and told whole by their bytes. */
export function storeAt(store: string): Pick<LocalStore, "find"> {
  return {
    async find(digest) {
      const path = join(store, digestHex(digest));
      const bytes = readFileSync(path);
      return sha256(bytes) === digest ? { digest, sizeBytes: bytes.length, path: path as ByteString } : null;
    },
  };
}
