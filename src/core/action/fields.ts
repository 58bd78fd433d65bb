// Length-prefixed tagged fields, the form of manifests and of what an action key hashes: u8 tag, u32 LE length, bytes.
// A record is a sequence of fields in one fixed order, so each value has exactly one encoding.
import { Buffer } from "node:buffer";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { assert, HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../digest/digest.ts";

const FIELD_HEADER_BYTES = 5;
const DIGEST_BYTES = 32;

/** Writes fields in the order of the calls. */
export class FieldWriter {
  readonly #parts: Uint8Array[] = [];

  bytes(tag: number, value: Uint8Array): this {
    const header = Buffer.alloc(FIELD_HEADER_BYTES);
    header.writeUInt8(tag, 0);
    header.writeUInt32LE(value.length, 1);
    this.#parts.push(header, value);
    return this;
  }

  byteString(tag: number, value: ByteString): this {
    return this.bytes(tag, bytesOf(value));
  }

  /** ASCII text. */
  ascii(tag: number, value: string): this {
    return this.bytes(tag, Buffer.from(value, "latin1"));
  }

  u32(tag: number, value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value, 0);
    return this.bytes(tag, bytes);
  }

  u64(tag: number, value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, "a u64 field takes a safe integer");
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value), 0);
    return this.bytes(tag, bytes);
  }

  /** The 32 raw bytes of a digest. */
  digest(tag: number, value: Digest): this {
    return this.bytes(tag, Buffer.from(digestHex(value), "hex"));
  }

  record(tag: number, write: (fields: FieldWriter) => void): this {
    const inner = new FieldWriter();
    write(inner);
    return this.bytes(tag, inner.finish());
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

/** Reads fields in the order of the calls; throws `argument.invalid` at the first byte that does not fit. */
export class FieldReader {
  readonly #bytes: Buffer;
  readonly #what: string;
  #offset = 0;

  /** UNTRUSTED: `bytes` may be anybody's. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
  }

  /** Tag of the next field; null at the end. */
  peek(): number | null {
    return this.#offset < this.#bytes.length ? this.#bytes.readUInt8(this.#offset) : null;
  }

  bytes(tag: number): Uint8Array {
    const start = this.#offset + FIELD_HEADER_BYTES;
    if (start > this.#bytes.length) this.fail("is cut short");
    if (this.peek() !== tag) this.fail(`has field ${this.peek()} where field ${tag} belongs`);
    const length = this.#bytes.readUInt32LE(this.#offset + 1);
    if (length > this.#bytes.length - start) this.fail("is cut short");
    this.#offset = start + length;
    return this.#bytes.subarray(start, this.#offset);
  }

  byteString(tag: number): ByteString {
    return byteStringOf(this.bytes(tag));
  }

  u32(tag: number): number {
    return this.#fixed(tag, 4).readUInt32LE(0);
  }

  u64(tag: number): number {
    const value = this.#fixed(tag, 8).readBigUInt64LE(0);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`has too large a number in field ${tag}`);
    return Number(value);
  }

  flag(tag: number): boolean {
    const value = this.u32(tag);
    if (value > 1) this.fail(`has neither 0 nor 1 in field ${tag}`);
    return value === 1;
  }

  digest(tag: number): Digest {
    return `sha256:${this.#fixed(tag, DIGEST_BYTES).toString("hex")}` as Digest;
  }

  record<T>(tag: number, read: (fields: FieldReader) => T): T {
    const inner = new FieldReader(this.bytes(tag), this.#what);
    const value = read(inner);
    inner.end();
    return value;
  }

  /** States that nothing follows. */
  end(): void {
    if (this.#offset !== this.#bytes.length) this.fail("has more fields than belong there");
  }

  fail(problem: string): never {
    throw new HpccError("argument.invalid", `${this.#what} ${problem}`);
  }

  #fixed(tag: number, length: number): Buffer {
    const bytes = this.bytes(tag);
    if (bytes.length !== length) this.fail(`has ${bytes.length} bytes in field ${tag} where ${length} belong`);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}
