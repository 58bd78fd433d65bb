// A record of the local store as bytes (docs/specs/store.md): what it is about first, so that a walk need not read the rest, then what its
// writer keeps in it, and a SHA-256 of all that. UNTRUSTED: whoever can write the user's cache folder.
import { createHash } from "node:crypto";
import type { ByteString } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import type { Digest } from "../../core/digest/digest.ts";

/** What tells a kept file from one that was replaced, beside its name, size and time of change. */
export interface KeptStamp {
  readonly ino: bigint;
  readonly ctimeNs: bigint;
}

/** A file that a record uses. */
export interface UsedFile {
  readonly digest: Digest;
  /** Null when the file was gone already as the record was written. */
  readonly stamp: KeptStamp | null;
}

export interface RecordHead {
  readonly key: Digest;
  readonly project: ByteString | null;
  readonly files: readonly UsedFile[];
}

const SCHEMA = "hpcc.local.v1";
const CHECKSUM_BYTES = 32;
const STAMP_BYTES = 16;
const BODY_TAG = 5;
export const RECORD_FILES_MAX = 1_000;
export const RECORD_BYTES_MAX = 16 * 1024 * 1024;
/** Holds nearly every head. */
export const HEAD_BYTES = 8 * 1024;

export function encodeRecord(head: RecordHead, body: Uint8Array): Uint8Array {
  if (head.files.length > RECORD_FILES_MAX || body.length > RECORD_BYTES_MAX)
    throw new HpccError("limit.exceeded", `a record uses more than ${RECORD_FILES_MAX} files or is too long`);
  const fields = new FieldWriter().ascii(1, SCHEMA).digest(2, head.key);
  if (head.project !== null) fields.byteString(3, head.project);
  for (const { digest, stamp } of head.files)
    fields.record(4, (file) => {
      file.digest(1, digest);
      if (stamp !== null) file.bytes(2, encodeStamp(stamp));
    });
  const bytes = fields.bytes(BODY_TAG, body).finish();
  return Buffer.concat([bytes, checksum(bytes)]);
}

/** The whole record of a key; a string tells what is wrong with it. */
export function decodeRecord(key: Digest, entry: Buffer): { head: RecordHead; body: Uint8Array } | string {
  const fields = entry.subarray(0, Math.max(0, entry.length - CHECKSUM_BYTES));
  if (!checksum(fields).equals(entry.subarray(fields.length))) return "its checksum is wrong";
  return guarded(() => {
    const reader = new FieldReader(fields, "the record");
    const head = readHead(reader);
    if (head.key !== key) return "it belongs to another key";
    const body = Uint8Array.from(reader.bytes(BODY_TAG));
    reader.end();
    return { head, body };
  });
}

/** The head of a record from its first bytes; not checked against the checksum, so good for estimates alone. */
export function decodeHead(start: Uint8Array): RecordHead | string {
  return guarded(() => readHead(new FieldReader(start, "the record")));
}

function readHead(reader: FieldReader): RecordHead {
  if (reader.byteString(1) !== SCHEMA) reader.fail("has another schema");
  const key = reader.digest(2);
  const project = reader.peek() === 3 ? reader.byteString(3) : null;
  const files: UsedFile[] = [];
  while (reader.peek() === 4) {
    if (files.length === RECORD_FILES_MAX) reader.fail("uses too many files");
    files.push(
      reader.record(4, (file) => {
        const digest = file.digest(1);
        return { digest, stamp: file.peek() === 2 ? decodeStamp(file) : null };
      }),
    );
  }
  if (reader.peek() !== BODY_TAG) reader.fail("is cut short");
  return { key, project, files };
}

function encodeStamp({ ino, ctimeNs }: KeptStamp): Uint8Array {
  const bytes = Buffer.alloc(STAMP_BYTES);
  bytes.writeBigUInt64LE(BigInt.asUintN(64, ino), 0);
  bytes.writeBigInt64LE(BigInt.asIntN(64, ctimeNs), 8);
  return bytes;
}

function decodeStamp(reader: FieldReader): KeptStamp {
  const bytes = Buffer.from(reader.bytes(2));
  if (bytes.length !== STAMP_BYTES) reader.fail("has a stamp of another length");
  return { ino: bytes.readBigUInt64LE(0), ctimeNs: bytes.readBigInt64LE(8) };
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}

function guarded<T>(read: () => T | string): T | string {
  try {
    return read();
  } catch (error) {
    if (error instanceof HpccError) return error.message;
    throw error;
  }
}
