// Answered calls as a daemon would tell them, for tests of what is made of them.
import { ascii, type ByteString } from "../../src/base/byte-string.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { AnsweredCall, CallInput, FileStamp } from "../../src/daemon/call/answered-call.ts";
import { PROTOCOL_VERSION } from "../../src/wire/launcher/limits.ts";

export const STAMP: FileStamp = { dev: 1n, ino: 2n, size: 3n, mtimeNs: 4n, ctimeNs: 5n, mode: 0o100644n };

/** A file with that text. */
export function callInput(path: string, text: string): CallInput {
  return { path: ascii(path), digest: sha256(Buffer.from(text)), stamp: STAMP };
}

export interface CallShape {
  readonly source?: string;
  readonly output?: string;
  readonly words?: readonly string[];
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly inputs?: readonly CallInput[];
  /** Absolute paths. */
  readonly absent?: readonly string[];
  readonly kept?: boolean;
  readonly callText?: string | null;
}

const COMPILER = sha256(Buffer.from("gcc"));

/** A compile of /p/a.c to /p/a.o that read nothing else, unless told otherwise. */
export function answeredCall(shape: CallShape = {}, more: Partial<AnsweredCall> = {}): AnsweredCall {
  const source = shape.source ?? "/p/a.c";
  const words = (shape.words ?? ["-c", "-O2"]).map(ascii);
  const environment = Object.entries(shape.environment ?? {});
  const dependsOn = JSON.stringify([words, environment, shape.cwd]);
  return {
    message: {
      type: "call",
      protocolVersion: PROTOCOL_VERSION,
      launcherVersion: "test",
      mountNamespace: { dev: 1n, ino: 1n },
      argv: [ascii("gcc"), ...words, ascii(source)],
      cwd: ascii(shape.cwd ?? "/p"),
      environment: [],
      umask: 0o022,
      terminal: { stdin: false, stdout: false, stderr: false, columns: null },
      pid: 1,
      hostCompiler: null,
    },
    project: ascii("/p"),
    outcome: "local_compiled",
    reason: null,
    detail: null,
    compiler: { identity: COMPILER, image: null, files: [callInput("/usr/bin/gcc", "gcc")] },
    source: ascii(source),
    output: ascii(shape.output ?? source.replace(/c$/, "o")),
    words,
    environment: new Map(environment.map(([name, value]) => [name, ascii(value)])),
    callDigest: shape.callText === null ? null : sha256(Buffer.from(shape.callText ?? dependsOn)),
    inputs: shape.inputs ?? [callInput(source, "int a;")],
    absent: (shape.absent ?? []).map((path) => ({
      folder: ascii(path.slice(0, path.lastIndexOf("/")) || "/"),
      names: [path.slice(path.lastIndexOf("/") + 1) as ByteString],
    })),
    searched: [],
    configuration: [],
    result: shape.kept === false ? null : { stdout: new Uint8Array(), stderr: new Uint8Array(), outputs: [] },
    startedMs: 1_700_000_000_000,
    durationMs: 40,
    ...more,
  };
}
