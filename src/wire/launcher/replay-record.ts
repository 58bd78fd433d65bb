// Replay records: what a call depended on and what came of it, for a launcher that answers the next such call without the daemon
// (docs/specs/replay.md). Written by the daemon, read by the launcher, and by the daemon where hits are counted.
// UNTRUSTED: whoever could write the record's file (the decoder)
import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { absolute, parseFrame } from "./decode.ts";
import { codingError, FieldReader, FieldWriter } from "./fields.ts";
import {
  ITEM_BYTES_MAX,
  OUTPUT_FILES_MAX,
  PATH_BYTES_MAX,
  REPLAY_BYTES_MAX,
  REPLAY_NAMES_MAX,
  REPLAY_VERSION,
  TEXT_BYTES_MAX,
} from "./limits.ts";
import { type CallMessage, OUTPUT_MANNERS, type OutputManner, REPLAY_NAME_TYPE, REPLAY_TYPE } from "./messages.ts";
import { countsForReplay, variableName } from "./replay-environment.ts";

/** What PWD says of the working folder: compilers take its spelling where it leads there. */
export type PwdState = "none" | "leads" | "misleads";

/** What a launcher sees of a call before it parses anything. */
export interface ReplayCall
  extends Pick<CallMessage, "launcherVersion" | "argv" | "cwd" | "environment" | "umask" | "terminal"> {
  readonly mountNamespace: CallMessage["mountNamespace"];
  readonly user: number;
  /** Effective and supplementary ones, in any order. */
  readonly groups: readonly number[];
  readonly pwd: PwdState;
}

/** What stat tells of a file or folder that must not have changed. */
export interface ReplayStamp {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Type and permissions. A link's type asks for the link itself. */
  readonly mode: bigint;
}

export interface StampedPath {
  readonly path: ByteString;
  readonly stamp: ReplayStamp;
}

/** A folder that must be there and be this one, whatever is in it. */
export interface ReplayPlace {
  readonly path: ByteString;
  readonly dev: bigint;
  readonly ino: bigint;
}

export interface ReplayOutput {
  /** As the caller spelled it. */
  readonly destination: ByteString;
  /** The store's file. */
  readonly kept: StampedPath;
  readonly executable: boolean;
  readonly manner: OutputManner;
  readonly digest: Digest;
}

export interface ReplayRecord {
  readonly name: Digest;
  /** Milliseconds since 1970. */
  readonly recordedMs: number;
  readonly stamps: readonly StampedPath[];
  /** Absolute paths at which there must be nothing. */
  readonly absent: readonly ByteString[];
  readonly places: readonly ReplayPlace[];
  readonly outputs: readonly ReplayOutput[];
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly project: ByteString | null;
  readonly source: ByteString;
  readonly output: ByteString;
  /** What the store knows the call by. */
  readonly call: Digest | null;
}

const PWD_NUMBERS = { none: 0, leads: 1, misleads: 2 } as const satisfies Record<PwdState, number>;
const DIGEST_BYTES = 32;
const CHECKSUM_BYTES = 4;
/** dev, ino, size, mtime, ctime: u64 each; mode: u32. */
const STAMP_BYTES = 44;
/** dev, ino: u64 each. */
const PLACE_BYTES = 16;

/** The bytes whose SHA-256 is the name of the call's record. */
export function encodeReplayName(call: ReplayCall): Buffer {
  const entries = call.environment
    .map((entry) => ({ entry, name: variableName(entry) }))
    .filter(({ name }) => countsForReplay(name))
    // Of two entries of one name the first counts: their order stays.
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .map(({ entry }) => entry);
  const groups = [...new Set(call.groups)].sort((a, b) => a - b);
  const codedGroups = Buffer.alloc(groups.length * 4);
  for (const [index, group] of groups.entries()) codedGroups.writeUInt32LE(group, index * 4);
  const { terminal } = call;
  const bits = (terminal.stdin ? 1 : 0) | (terminal.stdout ? 2 : 0) | (terminal.stderr ? 4 : 0);
  const fields = new FieldWriter()
    .u32(1, REPLAY_VERSION)
    .text(2, call.launcherVersion, TEXT_BYTES_MAX)
    .strings(3, call.argv, ITEM_BYTES_MAX)
    .string(4, call.cwd, PATH_BYTES_MAX)
    .strings(5, entries, ITEM_BYTES_MAX)
    .u32(6, call.umask)
    .u8(7, bits);
  if (terminal.columns !== null) fields.u32(8, terminal.columns);
  return fields
    .u32(9, call.user)
    .raw(10, codedGroups)
    .u64(11, call.mountNamespace.dev)
    .u64(12, call.mountNamespace.ino)
    .u8(13, PWD_NUMBERS[call.pwd])
    .frame(REPLAY_NAME_TYPE);
}

/** The name of the call's record. */
export function replayName(call: ReplayCall): Digest {
  return `sha256:${createHash("sha256").update(encodeReplayName(call)).digest("hex")}` as Digest;
}

/** The bytes of a record's file. Throws `peer.protocol` for a record that the decoder would refuse. */
export function encodeReplayRecord(record: ReplayRecord): Buffer {
  for (const items of [record.stamps, record.absent, record.places])
    if (items.length > REPLAY_NAMES_MAX) throw codingError("value-limit", `over ${REPLAY_NAMES_MAX} items`);
  if (record.outputs.length > OUTPUT_FILES_MAX) throw codingError("value-limit", `over ${OUTPUT_FILES_MAX} outputs`);
  for (const path of [record.project, record.source, record.output]) if (path !== null) absolute(path);
  const fields = new FieldWriter()
    .u32(1, REPLAY_VERSION)
    .raw(2, digestBytes(record.name))
    .u64(3, BigInt(record.recordedMs))
    .list(4, record.stamps.map(stampedBytes), REPLAY_BYTES_MAX)
    .list(5, record.absent.map(terminated), REPLAY_BYTES_MAX)
    .list(6, record.places.map(placeBytes), REPLAY_BYTES_MAX)
    .list(7, record.outputs.map(outputBytes), REPLAY_BYTES_MAX)
    .raw(8, record.stdout)
    .raw(9, record.stderr);
  if (record.project !== null) fields.string(10, record.project, PATH_BYTES_MAX);
  fields.string(11, record.source, PATH_BYTES_MAX).string(12, record.output, PATH_BYTES_MAX);
  if (record.call !== null) fields.raw(13, digestBytes(record.call));
  const frame = fields.frame(REPLAY_TYPE);
  const checksum = Buffer.alloc(CHECKSUM_BYTES);
  checksum.writeUInt32LE(crc32(frame));
  const file = Buffer.concat([frame, checksum]);
  if (file.length > REPLAY_BYTES_MAX) throw codingError("frame-too-long", `over ${REPLAY_BYTES_MAX} bytes`);
  return file;
}

function digestBytes(digest: Digest): Buffer {
  return Buffer.from(digestHex(digest), "hex");
}

/** A path and one zero byte, so that the launcher hands it to the kernel where it lies. */
function terminated(path: ByteString): Buffer {
  if (path.length > PATH_BYTES_MAX) throw codingError("value-limit", "REPLAY, path");
  if (path.includes("\0")) throw codingError("value-nul", "REPLAY, path");
  absolute(path);
  return bytesOf(`${path}\0` as ByteString);
}

function stampedBytes({ path, stamp }: StampedPath): Buffer {
  const head = Buffer.alloc(STAMP_BYTES);
  const { dev, ino, size, mtimeNs, ctimeNs, mode } = stamp;
  for (const [index, value] of [dev, ino, size].entries()) head.writeBigUInt64LE(value, index * 8);
  head.writeBigInt64LE(mtimeNs, 24);
  head.writeBigInt64LE(ctimeNs, 32);
  head.writeUInt32LE(Number(mode), 40);
  return Buffer.concat([head, terminated(path)]);
}

function placeBytes({ path, dev, ino }: ReplayPlace): Buffer {
  const head = Buffer.alloc(PLACE_BYTES);
  head.writeBigUInt64LE(dev, 0);
  head.writeBigUInt64LE(ino, 8);
  return Buffer.concat([head, terminated(path)]);
}

function outputBytes(output: ReplayOutput): Buffer {
  if (output.destination === "") throw codingError("value-range", "REPLAY, an empty destination");
  return new FieldWriter()
    .string(1, output.destination, PATH_BYTES_MAX)
    .raw(2, stampedBytes(output.kept))
    .u8(3, output.executable ? 1 : 0)
    .u8(4, OUTPUT_MANNERS.indexOf(output.manner))
    .raw(5, digestBytes(output.digest))
    .finish();
}

/** Decodes a record's file. Throws `peer.protocol` with `details.fault` on anything that is none, or of another version. */
export function decodeReplayRecord(file: Uint8Array): ReplayRecord {
  if (file.length > REPLAY_BYTES_MAX) throw codingError("frame-too-long", `over ${REPLAY_BYTES_MAX} bytes`);
  if (file.length < CHECKSUM_BYTES) throw codingError("frame-empty", "REPLAY");
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const coded = bytes.subarray(0, -CHECKSUM_BYTES);
  const frame = parseFrame(coded);
  if (frame.type !== REPLAY_TYPE) throw codingError("type-unknown", `type ${frame.type}`);
  if (crc32(coded) !== bytes.readUInt32LE(coded.length)) throw codingError("checksum", "REPLAY");
  const fields = new FieldReader(frame.fields, "REPLAY");
  if (fields.u32(1) !== REPLAY_VERSION) throw codingError("value-range", "REPLAY, tag 1");
  const items = (tag: number) => fields.list(tag, REPLAY_NAMES_MAX, REPLAY_BYTES_MAX);
  const record: ReplayRecord = {
    name: decodeDigest(fields.bytes(2)),
    recordedMs: fields.count(3),
    stamps: items(4).map(decodeStamped),
    absent: items(5).map(decodeTerminated),
    places: items(6).map(decodePlace),
    outputs: fields.list(7, OUTPUT_FILES_MAX, REPLAY_BYTES_MAX).map(decodeOutput),
    stdout: fields.bytes(8),
    stderr: fields.bytes(9),
    project: optionally(fields.optionalString(10, PATH_BYTES_MAX), absolute),
    source: absolute(fields.string(11, PATH_BYTES_MAX)),
    output: absolute(fields.string(12, PATH_BYTES_MAX)),
    call: optionally(fields.optionalBytes(13), decodeDigest),
  };
  fields.end();
  return record;
}

function optionally<T, U>(value: T | null, decode: (value: T) => U): U | null {
  return value === null ? null : decode(value);
}

function decodeDigest(bytes: Buffer): Digest {
  if (bytes.length !== DIGEST_BYTES) throw codingError("field-size", "REPLAY, digest");
  return `sha256:${bytes.toString("hex")}` as Digest;
}

function decodeTerminated(bytes: Buffer): ByteString {
  if (bytes.at(-1) !== 0) throw codingError("field-size", "REPLAY, a path without its end");
  const path = bytes.subarray(0, -1);
  if (path.length > PATH_BYTES_MAX) throw codingError("value-limit", "REPLAY, path");
  if (path.includes(0)) throw codingError("value-nul", "REPLAY, path");
  return absolute(byteStringOf(path));
}

function decodeStamped(bytes: Buffer): StampedPath {
  if (bytes.length < STAMP_BYTES) throw codingError("field-size", "REPLAY, stamp");
  return {
    path: decodeTerminated(bytes.subarray(STAMP_BYTES)),
    stamp: {
      dev: bytes.readBigUInt64LE(0),
      ino: bytes.readBigUInt64LE(8),
      size: bytes.readBigUInt64LE(16),
      mtimeNs: bytes.readBigInt64LE(24),
      ctimeNs: bytes.readBigInt64LE(32),
      mode: BigInt(bytes.readUInt32LE(40)),
    },
  };
}

function decodePlace(bytes: Buffer): ReplayPlace {
  if (bytes.length < PLACE_BYTES) throw codingError("field-size", "REPLAY, place");
  return {
    path: decodeTerminated(bytes.subarray(PLACE_BYTES)),
    dev: bytes.readBigUInt64LE(0),
    ino: bytes.readBigUInt64LE(8),
  };
}

function decodeOutput(bytes: Buffer): ReplayOutput {
  const fields = new FieldReader(bytes, "REPLAY, output");
  const output = {
    destination: fields.string(1, PATH_BYTES_MAX),
    kept: decodeStamped(fields.bytes(2)),
    executable: fields.u8(3, 1) === 1,
    manner: OUTPUT_MANNERS[fields.u8(4, 2)]!,
    digest: decodeDigest(fields.bytes(5)),
  };
  fields.end();
  if (output.destination === "") throw codingError("value-range", "REPLAY, an empty destination");
  return output;
}
