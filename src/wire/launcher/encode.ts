// Messages to frames.
import type { ByteString } from "../../base/byte-string.ts";
import { codingError, FieldWriter } from "./fields.ts";
import {
  FRAME_BYTES_MAX,
  ITEM_BYTES_MAX,
  JSON_BYTES_MAX,
  OUTPUT_FILES_MAX,
  PATH_BYTES_MAX,
  TEXT_BYTES_MAX,
} from "./limits.ts";
import {
  type CallMessage,
  type Content,
  ERRANDS,
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
  type StreamPolicy,
} from "./messages.ts";

/** The frame of a message. Throws `peer.protocol` when a value is over its limit. */
export function encodeMessage(message: Message): Buffer {
  return fieldsOf(message).frame(FRAME_TYPES[message.type]);
}

function fieldsOf(message: Message): FieldWriter {
  switch (message.type) {
    case "call":
      return callFields(message);
    case "run":
      return runFields(message);
    case "ran":
      return ranFields(message);
    case "wait":
      return message.doing === null ? new FieldWriter() : new FieldWriter().text(1, message.doing, TEXT_BYTES_MAX);
    case "outputs":
      return outputsFields(message);
    case "exec":
      return execFields(message);
    case "control":
      return new FieldWriter().u32(1, message.protocolVersion).text(2, JSON.stringify(message.request), JSON_BYTES_MAX);
    case "reply":
      return new FieldWriter().text(1, JSON.stringify(message.reply), JSON_BYTES_MAX);
    case "refuse":
      return new FieldWriter().u32(1, message.protocolVersion).text(2, message.reason, TEXT_BYTES_MAX);
    case "done": {
      if (message.result.kind === "written") return new FieldWriter().u8(1, 0);
      return new FieldWriter().u8(1, 1).text(2, message.result.reason, TEXT_BYTES_MAX);
    }
  }
}

function callFields(call: CallMessage): FieldWriter {
  if (call.argv.length === 0) throw codingError("value-range", "empty argv");
  if (call.umask > 0o777) throw codingError("value-range", "umask");
  const { stdin, stdout, stderr, columns } = call.terminal;
  const fields = new FieldWriter()
    .u32(1, call.protocolVersion)
    .text(2, call.launcherVersion, TEXT_BYTES_MAX)
    .u64(3, call.mountNamespace.dev)
    .u64(4, call.mountNamespace.ino)
    .strings(5, call.argv, ITEM_BYTES_MAX)
    .string(6, call.cwd, PATH_BYTES_MAX)
    .strings(7, call.environment, ITEM_BYTES_MAX)
    .u32(8, call.umask)
    .u8(9, (stdin ? 1 : 0) | (stdout ? 2 : 0) | (stderr ? 4 : 0));
  if (columns !== null) fields.u32(10, columns);
  fields.u32(11, call.pid);
  if (call.hostCompiler !== null) fields.string(12, call.hostCompiler, PATH_BYTES_MAX);
  if (call.errand !== undefined) fields.u8(13, ERRANDS.indexOf(call.errand) + 1);
  return fields;
}

function runFields(run: RunMessage): FieldWriter {
  if (run.argv.length === 0) throw codingError("value-range", "empty argv");
  const fields = new FieldWriter()
    .u32(1, run.id)
    .string(2, run.program, PATH_BYTES_MAX)
    .strings(3, run.argv, ITEM_BYTES_MAX)
    .strings(4, run.environment, ITEM_BYTES_MAX)
    .string(5, run.cwd, PATH_BYTES_MAX);
  if (run.namespace !== null) fields.group(6, namespaceFields(run.namespace));
  fields
    .u8(7, run.stdin === "inherit" ? 0 : 1)
    .group(8, streamFields(run.stdout))
    .group(9, streamFields(run.stderr));
  if (run.timeLimitMs !== null) fields.u32(10, run.timeLimitMs);
  return fields;
}

/** The fields of a namespace reference; plan files hold one too. */
export function namespaceFields(namespace: NamespaceRef): FieldWriter {
  const fields = new FieldWriter().u32(1, namespace.holderPid);
  if (namespace.userNamespaceIno !== null) fields.u64(2, namespace.userNamespaceIno);
  return fields.u64(3, namespace.mountNamespaceIno);
}

function streamFields(stream: StreamPolicy): FieldWriter {
  switch (stream.kind) {
    case "inherit":
      return new FieldWriter().u8(1, 0);
    case "discard":
      return new FieldWriter().u8(1, 1);
    case "file":
      return new FieldWriter().u8(1, 2).string(2, stream.path, PATH_BYTES_MAX);
    case "terminal":
      return new FieldWriter().u8(1, 3).string(2, stream.path, PATH_BYTES_MAX);
  }
}

function ranFields(ran: RanMessage): FieldWriter {
  const fields = new FieldWriter().u32(1, ran.id);
  switch (ran.outcome.kind) {
    case "exited":
      fields.u8(2, 0).u32(3, ran.outcome.code);
      break;
    case "signaled":
      fields.u8(2, 1).u32(3, ran.outcome.signal);
      break;
    case "failed":
      fields
        .u8(2, 2)
        .u32(3, ran.outcome.errno)
        .u8(4, RUN_FAILURES.indexOf(ran.outcome.failure) + 1);
      break;
  }
  return fields
    .u64(5, BigInt(ran.usage.userUs))
    .u64(6, BigInt(ran.usage.systemUs))
    .u64(7, BigInt(ran.usage.maxRssKiB))
    .u64(8, BigInt(ran.usage.wallUs));
}

function contentFields(content: Content): FieldWriter {
  if (content.kind === "inline") return new FieldWriter().raw(1, content.bytes);
  return new FieldWriter().string(2, content.path, PATH_BYTES_MAX);
}

function outputsFields(outputs: OutputsMessage): FieldWriter {
  if (outputs.exitCode > 255) throw codingError("value-range", "exit code");
  if (outputs.files.length > OUTPUT_FILES_MAX) throw codingError("value-limit", "output files");
  const fields = new FieldWriter().u32(1, outputs.exitCode);
  if (outputs.stdout !== null) fields.group(2, contentFields(outputs.stdout));
  if (outputs.stderr !== null) fields.group(3, contentFields(outputs.stderr));
  fields.list(
    4,
    outputs.files.map((file) => outputFileFields(file).finish()),
    FRAME_BYTES_MAX,
  );
  const { removals } = outputs;
  if (removals === undefined) return fields;
  if (removals.length > OUTPUT_FILES_MAX) throw codingError("value-limit", "removals");
  if (removals.length === 0 || removals.includes("" as ByteString)) throw codingError("value-range", "removals");
  return fields.strings(5, removals, PATH_BYTES_MAX);
}

function outputFileFields(file: OutputFile): FieldWriter {
  return new FieldWriter()
    .string(1, file.destination, PATH_BYTES_MAX)
    .group(2, contentFields(file.content))
    .u8(3, file.executable ? 1 : 0)
    .u8(4, OUTPUT_MANNERS.indexOf(file.manner));
}

function execFields(exec: ExecMessage): FieldWriter {
  if (exec.argv?.length === 0) throw codingError("value-range", "empty argv");
  const fields = new FieldWriter();
  if (exec.namespace !== null) fields.group(1, namespaceFields(exec.namespace));
  if (exec.program.kind === "path") fields.string(2, exec.program.path, PATH_BYTES_MAX);
  if (exec.argv !== null) fields.strings(3, exec.argv, ITEM_BYTES_MAX);
  if (exec.environment !== null) fields.strings(4, exec.environment, ITEM_BYTES_MAX);
  if (exec.cwd !== null) fields.string(5, exec.cwd, PATH_BYTES_MAX);
  if (exec.warning !== null) fields.text(6, exec.warning, TEXT_BYTES_MAX);
  return fields;
}
