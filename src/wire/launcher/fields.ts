// Coding of frames and fields: `u32 LE length, u8 type, (u8 tag, u32 LE length, bytes)*`, tags ascending. Owns bounds and
// the names of coding faults; knows no message.
// UNTRUSTED: launcher
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { FRAME_BYTES_MAX, LIST_BYTES_MAX, LIST_ITEMS_MAX } from "./limits.ts";

/** What can be wrong with a frame; the names are part of the protocol's specification. */
export type CodingFault =
  | "frame-empty"
  | "frame-too-long"
  | "frame-length"
  | "type-unknown"
  | "tag-unknown"
  | "tag-order"
  | "field-truncated"
  | "field-size"
  | "field-missing"
  | "list-truncated"
  | "value-limit"
  | "value-nul"
  | "value-range"
  | "text-invalid"
  | "checksum";

/** The error of a frame that breaks the protocol; `details.fault` names how. */
export function codingError(fault: CodingFault, what: string): HpccError {
  return new HpccError("peer.protocol", `launcher protocol: ${fault}: ${what}`, { details: { fault } });
}

const FIELD_HEADER_BYTES = 5;
const LENGTH_BYTES = 4;
const BYTE_MAX = 0xff;
const U32_MAX = 0xffff_ffff;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

/** Collects the fields of a frame or group in ascending order of tags. Throws on values that the protocol cannot carry. */
export class FieldWriter {
  readonly #parts: Uint8Array[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  raw(tag: number, value: Uint8Array): this {
    const header = Buffer.alloc(FIELD_HEADER_BYTES);
    header.writeUInt8(tag, 0);
    header.writeUInt32LE(value.byteLength, 1);
    this.#parts.push(header, value);
    this.#bytes += FIELD_HEADER_BYTES + value.byteLength;
    if (this.#bytes > FRAME_BYTES_MAX) throw codingError("frame-too-long", `over ${FRAME_BYTES_MAX} bytes`);
    return this;
  }

  u8(tag: number, value: number): this {
    if (!Number.isInteger(value) || value < 0 || value > BYTE_MAX)
      throw codingError("value-range", `tag ${tag}: ${value}`);
    return this.raw(tag, Uint8Array.of(value));
  }

  u32(tag: number, value: number): this {
    if (!Number.isInteger(value) || value < 0 || value > U32_MAX)
      throw codingError("value-range", `tag ${tag}: ${value}`);
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.raw(tag, bytes);
  }

  u64(tag: number, value: bigint): this {
    if (value < 0n || value > U64_MAX) throw codingError("value-range", `tag ${tag}: ${value}`);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return this.raw(tag, bytes);
  }

  /** A byte string without zero bytes, of at most `max` bytes. */
  string(tag: number, value: ByteString, max: number): this {
    return this.raw(tag, checkedBytes(tag, value, max));
  }

  /** Text as UTF-8. */
  text(tag: number, value: string, max: number): this {
    const bytes = Buffer.from(value, "utf8");
    if (bytes.length > max) throw codingError("value-limit", `tag ${tag}: text over ${max} bytes`);
    return this.raw(tag, bytes);
  }

  strings(tag: number, values: readonly ByteString[], itemMax: number): this {
    return this.list(
      tag,
      values.map((value) => checkedBytes(tag, value, itemMax)),
      LIST_BYTES_MAX,
    );
  }

  group(tag: number, group: FieldWriter): this {
    return this.raw(tag, group.finish());
  }

  list(tag: number, items: readonly Uint8Array[], bytesMax: number): this {
    if (items.length > LIST_ITEMS_MAX) throw codingError("value-limit", `tag ${tag}: over ${LIST_ITEMS_MAX} items`);
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for (const item of items) {
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt32LE(item.byteLength);
      parts.push(length, item);
      bytes += LENGTH_BYTES + item.byteLength;
      if (bytes > bytesMax) throw codingError("value-limit", `tag ${tag}: list over ${bytesMax} bytes`);
    }
    return this.raw(tag, Buffer.concat(parts, bytes));
  }

  /** The fields' bytes, for a group. */
  finish(): Buffer {
    return Buffer.concat(this.#parts, this.#bytes);
  }

  /** The whole frame with its length and type. */
  frame(type: number): Buffer {
    const length = this.#bytes + 1;
    if (length > FRAME_BYTES_MAX) throw codingError("frame-too-long", `over ${FRAME_BYTES_MAX} bytes`);
    const header = Buffer.alloc(LENGTH_BYTES + 1);
    header.writeUInt32LE(length, 0);
    header.writeUInt8(type, LENGTH_BYTES);
    return Buffer.concat([header, ...this.#parts], LENGTH_BYTES + length);
  }
}

function checkedBytes(tag: number, value: ByteString, max: number): Buffer {
  if (value.length > max) throw codingError("value-limit", `tag ${tag}: over ${max} bytes`);
  if (value.includes("\0")) throw codingError("value-nul", `tag ${tag}`);
  for (let index = 0; index < value.length; index++)
    if (value.charCodeAt(index) > BYTE_MAX) throw codingError("value-range", `tag ${tag}: not a byte string`);
  return bytesOf(value);
}

/** The fields of a frame or group; each is taken once, and `end` refuses those that nobody took. */
export class FieldReader {
  readonly #fields = new Map<number, Buffer>();
  readonly #where: string;

  constructor(bytes: Uint8Array, where: string) {
    this.#where = where;
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let offset = 0;
    let lastTag = -1;
    while (offset < buffer.length) {
      if (buffer.length - offset < FIELD_HEADER_BYTES) throw codingError("field-truncated", where);
      const tag = buffer.readUInt8(offset);
      const length = buffer.readUInt32LE(offset + 1);
      offset += FIELD_HEADER_BYTES;
      if (buffer.length - offset < length) throw codingError("field-truncated", `${where}, tag ${tag}`);
      if (tag <= lastTag) throw codingError("tag-order", `${where}, tag ${tag}`);
      lastTag = tag;
      this.#fields.set(tag, buffer.subarray(offset, offset + length));
      offset += length;
    }
  }

  #take(tag: number): Buffer | null {
    const value = this.#fields.get(tag) ?? null;
    this.#fields.delete(tag);
    return value;
  }

  #missing(tag: number): HpccError {
    return codingError("field-missing", `${this.#where}, tag ${tag}`);
  }

  #fault(fault: CodingFault, tag: number): HpccError {
    return codingError(fault, `${this.#where}, tag ${tag}`);
  }

  u8(tag: number, max: number): number {
    const bytes = this.#take(tag);
    if (bytes === null) throw this.#missing(tag);
    if (bytes.length !== 1) throw this.#fault("field-size", tag);
    const value = bytes.readUInt8();
    if (value > max) throw this.#fault("value-range", tag);
    return value;
  }

  optionalU32(tag: number, max: number = U32_MAX): number | null {
    const bytes = this.#take(tag);
    if (bytes === null) return null;
    if (bytes.length !== 4) throw this.#fault("field-size", tag);
    const value = bytes.readUInt32LE();
    if (value > max) throw this.#fault("value-range", tag);
    return value;
  }

  u32(tag: number, max: number = U32_MAX): number {
    const value = this.optionalU32(tag, max);
    if (value === null) throw this.#missing(tag);
    return value;
  }

  optionalU64(tag: number): bigint | null {
    const bytes = this.#take(tag);
    if (bytes === null) return null;
    if (bytes.length !== 8) throw this.#fault("field-size", tag);
    return bytes.readBigUInt64LE();
  }

  u64(tag: number): bigint {
    const value = this.optionalU64(tag);
    if (value === null) throw this.#missing(tag);
    return value;
  }

  /** A u64 that fits a number: counters of time and memory. */
  count(tag: number): number {
    const value = this.u64(tag);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#fault("value-range", tag);
    return Number(value);
  }

  optionalString(tag: number, max: number): ByteString | null {
    const bytes = this.#take(tag);
    return bytes === null ? null : this.#string(tag, bytes, max);
  }

  #string(tag: number, bytes: Buffer, max: number): ByteString {
    if (bytes.length > max) throw this.#fault("value-limit", tag);
    if (bytes.includes(0)) throw this.#fault("value-nul", tag);
    return byteStringOf(bytes);
  }

  string(tag: number, max: number): ByteString {
    const value = this.optionalString(tag, max);
    if (value === null) throw this.#missing(tag);
    return value;
  }

  optionalText(tag: number, max: number): string | null {
    const bytes = this.#take(tag);
    if (bytes === null) return null;
    if (bytes.length > max) throw this.#fault("value-limit", tag);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch (cause) {
      if (cause instanceof TypeError) throw this.#fault("text-invalid", tag);
      throw cause;
    }
  }

  text(tag: number, max: number): string {
    const value = this.optionalText(tag, max);
    if (value === null) throw this.#missing(tag);
    return value;
  }

  optionalBytes(tag: number): Buffer | null {
    return this.#take(tag);
  }

  bytes(tag: number): Buffer {
    const bytes = this.#take(tag);
    if (bytes === null) throw this.#missing(tag);
    return bytes;
  }

  optionalList(tag: number, itemsMax: number, bytesMax: number): Buffer[] | null {
    const bytes = this.#take(tag);
    if (bytes === null) return null;
    if (bytes.length > bytesMax) throw this.#fault("value-limit", tag);
    const items: Buffer[] = [];
    let offset = 0;
    while (offset < bytes.length) {
      if (bytes.length - offset < LENGTH_BYTES) throw this.#fault("list-truncated", tag);
      const length = bytes.readUInt32LE(offset);
      offset += LENGTH_BYTES;
      if (bytes.length - offset < length) throw this.#fault("list-truncated", tag);
      if (items.length === itemsMax) throw this.#fault("value-limit", tag);
      items.push(bytes.subarray(offset, offset + length));
      offset += length;
    }
    return items;
  }

  list(tag: number, itemsMax: number, bytesMax: number): Buffer[] {
    const items = this.optionalList(tag, itemsMax, bytesMax);
    if (items === null) throw this.#missing(tag);
    return items;
  }

  optionalStrings(tag: number, itemMax: number): ByteString[] | null {
    const items = this.optionalList(tag, LIST_ITEMS_MAX, LIST_BYTES_MAX);
    return items === null ? null : items.map((item) => this.#string(tag, item, itemMax));
  }

  strings(tag: number, itemMax: number): ByteString[] {
    const items = this.optionalStrings(tag, itemMax);
    if (items === null) throw this.#missing(tag);
    return items;
  }

  optionalGroup(tag: number): FieldReader | null {
    const bytes = this.#take(tag);
    return bytes === null ? null : new FieldReader(bytes, `${this.#where}, group ${tag}`);
  }

  group(tag: number): FieldReader {
    const group = this.optionalGroup(tag);
    if (group === null) throw this.#missing(tag);
    return group;
  }

  /** Refuses fields that this version does not know. */
  end(): void {
    for (const tag of this.#fields.keys()) throw this.#fault("tag-unknown", tag);
  }
}
