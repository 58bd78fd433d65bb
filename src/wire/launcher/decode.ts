// Frames to messages. A message of another version is told apart before anything else of it is read.
// UNTRUSTED: launcher
import type { ByteString } from "../../base/byte-string.ts";
import { codingError, FieldReader } from "./fields.ts";
import {
  FRAME_BYTES_MAX,
  ITEM_BYTES_MAX,
  JSON_BYTES_MAX,
  OUTPUT_FILES_MAX,
  PATH_BYTES_MAX,
  PROTOCOL_VERSION,
  TEXT_BYTES_MAX,
} from "./limits.ts";
import {
  type CallMessage,
  type Content,
  ERRANDS,
  type Errand,
  type ExecMessage,
  FRAME_TYPES,
  type Message,
  type NamespaceRef,
  OUTPUT_MANNERS,
  type OutputFile,
  type OutputsMessage,
  type RanMessage,
  RUN_FAILURES,
  type RunMessage,
  type RunOutcome,
  type StreamPolicy,
} from "./messages.ts";

/** A frame as the reader hands it out: its type byte and the bytes of its fields. */
export interface Frame {
  readonly type: number;
  readonly fields: Uint8Array;
}

/** A call or control request of a peer with another protocol version; answer it with `refuse`. */
export interface OtherVersionMessage {
  readonly type: "other-version";
  readonly protocolVersion: number;
}

const EXIT_CODE_MAX = 255;
const SIGNAL_MAX = 64;
const ERRNO_MAX = 4095;
const PID_MAX = 0x7fff_ffff;
const UMASK_MAX = 0o777;
const COLUMNS_MAX = 65_535;

/** Decodes one frame. Throws `peer.protocol` with `details.fault` on bytes that are no message. */
export function decodeMessage(frame: Frame): Message | OtherVersionMessage {
  switch (frame.type) {
    case FRAME_TYPES.call:
      return decodeVersioned(frame, "CALL", decodeCall);
    case FRAME_TYPES.run:
      return decodeFields(frame, "RUN", decodeRun);
    case FRAME_TYPES.ran:
      return decodeFields(frame, "RAN", decodeRan);
    case FRAME_TYPES.wait:
      return decodeFields(frame, "WAIT", (fields) => ({ type: "wait", doing: fields.optionalText(1, TEXT_BYTES_MAX) }));
    case FRAME_TYPES.outputs:
      return decodeFields(frame, "OUTPUTS", decodeOutputs);
    case FRAME_TYPES.exec:
      return decodeFields(frame, "EXEC", decodeExec);
    case FRAME_TYPES.control:
      return decodeVersioned(frame, "CONTROL", (fields, protocolVersion) => ({
        type: "control",
        protocolVersion,
        request: parseJson(fields.text(2, JSON_BYTES_MAX)),
      }));
    case FRAME_TYPES.reply:
      return decodeFields(frame, "REPLY", (fields) => ({
        type: "reply",
        reply: parseJson(fields.text(1, JSON_BYTES_MAX)),
      }));
    case FRAME_TYPES.refuse:
      return decodeFields(frame, "REFUSE", (fields) => ({
        type: "refuse",
        protocolVersion: fields.u32(1),
        reason: fields.text(2, TEXT_BYTES_MAX),
      }));
    case FRAME_TYPES.done:
      return decodeFields(frame, "DONE", (fields) => {
        if (fields.u8(1, 1) === 0) return { type: "done", result: { kind: "written" } };
        return { type: "done", result: { kind: "fell-back", reason: fields.text(2, TEXT_BYTES_MAX) } };
      });
    default:
      throw codingError("type-unknown", `type ${frame.type}`);
  }
}

/** Splits one whole frame, for files and tests; a socket is read with `FrameReader`. */
export function parseFrame(bytes: Uint8Array): Frame {
  if (bytes.byteLength < 5) throw codingError("frame-empty", "under 5 bytes");
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (length > FRAME_BYTES_MAX) throw codingError("frame-too-long", `${length} bytes`);
  if (length === 0) throw codingError("frame-empty", "no type byte");
  if (bytes.byteLength !== 4 + length) throw codingError("frame-length", "the frame's length is not that of its bytes");
  return { type: bytes[4]!, fields: bytes.subarray(5) };
}

function decodeFields<T>(frame: Frame, name: string, decode: (fields: FieldReader) => T): T {
  const fields = new FieldReader(frame.fields, name);
  const message = decode(fields);
  fields.end();
  return message;
}

function decodeVersioned<T>(
  frame: Frame,
  name: string,
  decode: (fields: FieldReader, protocolVersion: number) => T,
): T | OtherVersionMessage {
  const fields = new FieldReader(frame.fields, name);
  const protocolVersion = fields.u32(1);
  if (protocolVersion !== PROTOCOL_VERSION) return { type: "other-version", protocolVersion };
  const message = decode(fields, protocolVersion);
  fields.end();
  return message;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    if (cause instanceof SyntaxError) throw codingError("text-invalid", "no JSON");
    throw cause;
  }
}

function decodeCall(fields: FieldReader, protocolVersion: number): CallMessage {
  const launcherVersion = fields.text(2, TEXT_BYTES_MAX);
  const mountNamespace = { dev: fields.u64(3), ino: fields.u64(4) };
  const argv = nonEmpty(fields.strings(5, ITEM_BYTES_MAX));
  const cwd = absolute(fields.string(6, PATH_BYTES_MAX));
  const environment = fields.strings(7, ITEM_BYTES_MAX);
  const umask = fields.u32(8, UMASK_MAX);
  const terminalBits = fields.u8(9, 7);
  const columns = fields.optionalU32(10, COLUMNS_MAX);
  const pid = fields.u32(11, PID_MAX);
  const hostCompiler = fields.optionalString(12, PATH_BYTES_MAX);
  const errand = errandOf(fields.optionalBytes(13));
  return {
    type: "call",
    protocolVersion,
    launcherVersion,
    mountNamespace,
    argv,
    cwd,
    environment,
    umask,
    terminal: {
      stdin: (terminalBits & 1) !== 0,
      stdout: (terminalBits & 2) !== 0,
      stderr: (terminalBits & 4) !== 0,
      columns,
    },
    pid,
    hostCompiler,
    ...(errand === null ? {} : { errand }),
  };
}

function errandOf(bytes: Uint8Array | null): Errand | null {
  if (bytes === null) return null;
  if (bytes.byteLength !== 1) throw codingError("field-size", "CALL, tag 13");
  const errand = ERRANDS[bytes[0]! - 1];
  if (errand === undefined) throw codingError("value-range", "CALL, tag 13");
  return errand;
}

function nonEmpty(argv: ByteString[]): ByteString[] {
  if (argv.length === 0) throw codingError("value-range", "empty argv");
  return argv;
}

/** Refuses a path that is not absolute. */
export function absolute(path: ByteString): ByteString {
  if (!path.startsWith("/")) throw codingError("value-range", "a path that is not absolute");
  return path;
}

function decodeRun(fields: FieldReader): RunMessage {
  const id = fields.u32(1);
  const program = absolute(fields.string(2, PATH_BYTES_MAX));
  const argv = nonEmpty(fields.strings(3, ITEM_BYTES_MAX));
  const environment = fields.strings(4, ITEM_BYTES_MAX);
  const cwd = absolute(fields.string(5, PATH_BYTES_MAX));
  const namespace = decodeNamespace(fields.optionalGroup(6));
  const stdin = fields.u8(7, 1) === 0 ? "inherit" : "null";
  const stdout = decodeStream(fields.group(8));
  const stderr = decodeStream(fields.group(9));
  const timeLimitMs = fields.optionalU32(10);
  return { type: "run", id, program, argv, environment, cwd, namespace, stdin, stdout, stderr, timeLimitMs };
}

/** A namespace reference from its group; null when the group is absent. */
export function decodeNamespace(group: FieldReader | null): NamespaceRef | null {
  if (group === null) return null;
  const holderPid = group.u32(1, PID_MAX);
  const userNamespaceIno = group.optionalU64(2);
  const mountNamespaceIno = group.u64(3);
  group.end();
  return { holderPid, userNamespaceIno, mountNamespaceIno };
}

function decodeStream(group: FieldReader): StreamPolicy {
  const kind = group.u8(1, 3);
  const policy: StreamPolicy =
    kind === 0
      ? { kind: "inherit" }
      : kind === 1
        ? { kind: "discard" }
        : { kind: kind === 2 ? "file" : "terminal", path: absolute(group.string(2, PATH_BYTES_MAX)) };
  group.end();
  return policy;
}

function decodeRan(fields: FieldReader): RanMessage {
  const id = fields.u32(1);
  const outcome = decodeOutcome(fields);
  const usage = {
    userUs: fields.count(5),
    systemUs: fields.count(6),
    maxRssKiB: fields.count(7),
    wallUs: fields.count(8),
  };
  return { type: "ran", id, outcome, usage };
}

function decodeOutcome(fields: FieldReader): RunOutcome {
  const kind = fields.u8(2, 2);
  if (kind === 0) return { kind: "exited", code: fields.u32(3, EXIT_CODE_MAX) };
  if (kind === 1) return { kind: "signaled", signal: fields.u32(3, SIGNAL_MAX) };
  const errno = fields.u32(3, ERRNO_MAX);
  const failure = RUN_FAILURES[fields.u8(4, RUN_FAILURES.length) - 1];
  if (failure === undefined) throw codingError("value-range", "RAN, tag 4");
  return { kind: "failed", failure, errno };
}

function decodeContent(group: FieldReader): Content {
  const bytes = group.optionalBytes(1);
  const content: Content =
    bytes === null ? { kind: "file", path: absolute(group.string(2, PATH_BYTES_MAX)) } : { kind: "inline", bytes };
  group.end();
  return content;
}

function decodeOutputs(fields: FieldReader): OutputsMessage {
  const exitCode = fields.u32(1, EXIT_CODE_MAX);
  const stdout = fields.optionalGroup(2);
  const stderr = fields.optionalGroup(3);
  const files = fields.list(4, OUTPUT_FILES_MAX, FRAME_BYTES_MAX);
  const removals = fields.optionalStrings(5, PATH_BYTES_MAX);
  if (removals !== null && removals.length > OUTPUT_FILES_MAX) throw codingError("value-limit", "removals");
  if (removals?.length === 0 || removals?.includes("" as ByteString)) throw codingError("value-range", "removals");
  return {
    type: "outputs",
    exitCode,
    stdout: stdout === null ? null : decodeContent(stdout),
    stderr: stderr === null ? null : decodeContent(stderr),
    files: files.map((file) => decodeOutputFile(new FieldReader(file, "OUTPUTS, file"))),
    ...(removals === null ? {} : { removals }),
  };
}

function decodeOutputFile(fields: FieldReader): OutputFile {
  const destination = fields.string(1, PATH_BYTES_MAX);
  const content = decodeContent(fields.group(2));
  const executable = fields.u8(3, 1) === 1;
  const manner = OUTPUT_MANNERS[fields.u8(4, OUTPUT_MANNERS.length - 1)]!;
  fields.end();
  if (destination.length === 0) throw codingError("value-range", "an empty destination");
  return { destination, content, executable, manner };
}

function decodeExec(fields: FieldReader): ExecMessage {
  const namespace = decodeNamespace(fields.optionalGroup(1));
  const program = fields.optionalString(2, PATH_BYTES_MAX);
  const argv = fields.optionalStrings(3, ITEM_BYTES_MAX);
  const environment = fields.optionalStrings(4, ITEM_BYTES_MAX);
  const cwd = fields.optionalString(5, PATH_BYTES_MAX);
  const warning = fields.optionalText(6, TEXT_BYTES_MAX);
  return {
    type: "exec",
    namespace,
    program: program === null ? { kind: "host" } : { kind: "path", path: absolute(program) },
    argv: argv === null ? null : nonEmpty(argv),
    environment,
    cwd: cwd === null ? null : absolute(cwd),
    warning,
  };
}
