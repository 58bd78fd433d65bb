// Reads a tar archive as a stream of members: ustar with PAX records, and GNU's long names. UNTRUSTED: registry. Names are
// bytes. Whatever is not exactly the format is refused, and so is what other readers of images take
// differently: an image is the same tree to everybody. Every member makes progress by at least a block. Pure. Format:
// POSIX.1-2017, pax, and GNU tar's manual, "Basic Tar Format".
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { quoteName } from "./entry-path.ts";

/** A member as its headers say. */
export interface TarEntry {
  /** Type flag of the header; of the old NUL, "5" for a name that ends in a slash and else "0". */
  readonly flag: string;
  readonly name: ByteString;
  readonly link: ByteString;
  readonly mode: number;
  readonly sizeBytes: number;
  /** Whether a PAX record makes it one of GNU's sparse files, whose content is a map and pieces. */
  readonly sparse: boolean;
  /** The content, in order; what is left unread is skipped. Of use until the next entry is asked for. */
  readonly body: AsyncIterable<Buffer>;
}

/** What headers before a member's own say of it; null where they say nothing. */
interface Extended {
  readonly name: ByteString | null;
  readonly link: ByteString | null;
  readonly sizeBytes: number | null;
  readonly sparse: boolean;
}

const NOTHING_SAID: Extended = { name: null, link: null, sizeBytes: null, sparse: false };

const BLOCK_BYTES = 512;
/** Largest extended header: PAX records or a long name. Go's archive/tar has the same limit. */
export const EXTENDED_BYTES_MAX = 1024 * 1024;
/** Global headers of an archive; one is usual, by `git archive`. */
const GLOBALS_MAX = 100;
const MAGICS: readonly string[] = ["ustar\x00", "ustar "];
const PREFIX_MAGIC = "ustar\x00";
/** At the end of a header of Schily's tar, whose prefix is shorter. */
const STAR_MAGIC = "tar\x00";

function invalid(what: string): HpccError {
  return new HpccError("image.invalid", `the tar archive ${what}`);
}

/** Bytes of a stream, by the number that is wanted. */
class ByteSource {
  readonly #chunks: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);
  /** Bytes taken so far. */
  offset = 0;

  constructor(chunks: AsyncIterable<Buffer>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next bytes, at least one and at most `sizeMax`; null at the end. */
  async some(sizeMax: number): Promise<Buffer | null> {
    while (this.#held.length === 0) {
      const next = await this.#chunks.next();
      if (next.done === true) return null;
      this.#held = next.value;
    }
    const part = this.#held.subarray(0, sizeMax);
    this.#held = this.#held.subarray(part.length);
    this.offset += part.length;
    return part;
  }

  /** Exactly `size` bytes (at least one); null when the stream has ended before the first. */
  async exactly(size: number): Promise<Buffer | null> {
    const parts: Buffer[] = [];
    let left = size;
    while (left > 0) {
      const part = await this.some(left);
      if (part === null) {
        if (left === size) return null;
        throw invalid("ends in the middle of a block");
      }
      if (part.length === size) return part;
      parts.push(part);
      left -= part.length;
    }
    return Buffer.concat(parts);
  }

  async skip(size: number): Promise<void> {
    for await (const part of this.limited(size)) void part;
  }

  /** The next `size` bytes, as they come. */
  async *limited(size: number): AsyncGenerator<Buffer, void, void> {
    for (let left = size; left > 0; ) {
      const part = await this.some(left);
      if (part === null) throw invalid("ends in the middle of a member's content");
      left -= part.length;
      yield part;
    }
  }
}

/** A field of text: up to its first NUL. */
function textField(block: Buffer, at: number, length: number): ByteString {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return byteStringOf(end === -1 ? field : field.subarray(0, end));
}

/** A field of a number: octal digits, or GNU's big-endian binary behind a set top bit. */
function numberField(block: Buffer, at: number, length: number, what: string): number {
  const field = block.subarray(at, at + length);
  let value = 0;
  if (field[0]! >= 0x80) {
    value = field[0]! & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
  } else {
    const digits = /^[ \0]*([0-7]*)(?:[ \0]|$)/.exec(field.toString("latin1"))?.[1];
    if (digits === undefined) throw invalid(`has a ${what} that is no number`);
    value = digits === "" ? 0 : Number.parseInt(digits, 8);
  }
  if (!Number.isSafeInteger(value)) throw invalid(`has a ${what} that is too large`);
  return value;
}

/** PAX records: `length key=value\n`, the length counting the whole record in bytes. */
function parsePax(bytes: Buffer): Extended {
  let said = NOTHING_SAID;
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = space === -1 ? "" : bytes.toString("latin1", at, Math.min(space, at + 16));
    const end = /^[1-9][0-9]*$/.test(digits) ? at + Number(digits) : Number.NaN;
    const equals = bytes.indexOf(0x3d, space);
    if (!(end <= bytes.length) || equals === -1 || equals >= end - 1 || equals <= space + 1 || bytes[end - 1] !== 0x0a)
      throw invalid("has a PAX header that cannot be read");
    said = applyPax(
      said,
      bytes.toString("latin1", space + 1, equals),
      byteStringOf(bytes.subarray(equals + 1, end - 1)),
    );
    at = end;
  }
  return said;
}

/** One record more. An empty value takes back what one before it said. */
function applyPax(said: Extended, key: string, value: ByteString): Extended {
  const text = value === "" ? null : value;
  switch (key) {
    case "path":
      return { ...said, name: text };
    case "linkpath":
      return { ...said, link: text };
    case "size":
      if (!/^[0-9]{0,15}$/.test(value)) throw invalid(`has the PAX size ${quoteName(value)}`);
      return { ...said, sizeBytes: text === null ? null : Number(text) };
    default:
      return key.startsWith("GNU.sparse.") ? { ...said, sparse: true } : said;
  }
}

/** A header block, checked; null for a block of zeros. */
function parseHeader(block: Buffer): Omit<TarEntry, "sparse" | "body"> | null {
  // The checksum's own field counts as spaces. An index loop: this runs for each of a million entries.
  let sum = 8 * 0x20;
  for (let at = 0; at < BLOCK_BYTES; at += 1) if (at < 148 || at >= 156) sum += block[at]!;
  if (sum === 8 * 0x20 && block.every((byte) => byte === 0)) return null;
  if (numberField(block, 148, 8, "checksum") !== sum) throw invalid("has a header whose checksum is wrong");
  const magic = block.toString("latin1", 257, 263);
  if (!MAGICS.includes(magic)) throw invalid("has a header of an unknown format");
  if (block.toString("latin1", 508) === STAR_MAGIC) throw invalid("has a header of an unknown format");
  const prefix = magic === PREFIX_MAGIC ? textField(block, 345, 155) : "";
  const name = textField(block, 0, 100);
  return {
    flag: String.fromCharCode(block[156]!),
    name: prefix === "" ? name : (`${prefix}/${name}` as ByteString),
    link: textField(block, 157, 100),
    mode: numberField(block, 100, 8, "mode"),
    sizeBytes: numberField(block, 124, 12, "size"),
  };
}

function paddingBytes(sizeBytes: number): number {
  return (BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** The content of an extended header. */
async function readExtended(source: ByteSource, sizeBytes: number): Promise<Buffer> {
  if (sizeBytes > EXTENDED_BYTES_MAX) throw invalid(`has an extended header of more than ${EXTENDED_BYTES_MAX} bytes`);
  const bytes = sizeBytes === 0 ? Buffer.alloc(0) : await source.exactly(sizeBytes);
  if (bytes === null) throw invalid("ends in the middle of an extended header");
  await source.skip(paddingBytes(sizeBytes));
  return bytes;
}

/**
 * The members of an archive, up to its end mark (two blocks of zeros) or the end of the bytes. UNTRUSTED: registry. What
 * follows the mark is read and ignored, as tar does.
 *
 * @throws HpccError `image.invalid` for bytes that are no such archive, and whatever `chunks` throws.
 */
export async function* readTar(chunks: AsyncIterable<Buffer>): AsyncGenerator<TarEntry, void, void> {
  const source = new ByteSource(chunks);
  let globals = 0;
  let pax: Extended | null = null;
  let longName: ByteString | null = null;
  let longLink: ByteString | null = null;
  for (let zeros = 0; zeros < 2; ) {
    const block = await source.exactly(BLOCK_BYTES);
    if (block === null) break;
    const header = parseHeader(block);
    if (header === null) {
      zeros += 1;
      continue;
    }
    if (zeros > 0) throw invalid("goes on after a block of zeros");
    switch (header.flag) {
      case "g":
        if (pax !== null || longName !== null || longLink !== null) throw invalid("has a global header after another");
        if ((globals += 1) > GLOBALS_MAX) throw invalid(`has more than ${GLOBALS_MAX} global headers`);
        checkGlobal(parsePax(await readExtended(source, header.sizeBytes)));
        continue;
      case "x":
        if (pax !== null) throw invalid("has two PAX headers of one member");
        pax = parsePax(await readExtended(source, header.sizeBytes));
        continue;
      case "L":
        if (longName !== null) throw invalid("has two long names of one member");
        longName = longText(await readExtended(source, header.sizeBytes));
        continue;
      case "K":
        if (longLink !== null) throw invalid("has two long links of one member");
        longLink = longText(await readExtended(source, header.sizeBytes));
        continue;
    }
    const said: Extended = pax ?? NOTHING_SAID;
    if ((said.name !== null && longName !== null) || (said.link !== null && longLink !== null))
      throw invalid("names a member in two ways");
    const name = said.name ?? longName ?? header.name;
    const sizeBytes = said.sizeBytes ?? header.sizeBytes;
    const end = source.offset + sizeBytes;
    yield {
      ...header,
      flag: plainFlag(header.flag, name),
      name,
      link: said.link ?? longLink ?? header.link,
      sizeBytes,
      sparse: said.sparse,
      body: source.limited(sizeBytes),
    };
    pax = longName = longLink = null;
    await source.skip(end - source.offset + paddingBytes(sizeBytes));
  }
  if (pax !== null || longName !== null || longLink !== null) throw invalid("ends after an extended header");
  while ((await source.some(Number.MAX_SAFE_INTEGER)) !== null);
}

/** Global records that say what members are: GNU tar heeds them, and the readers in Go leave them. */
function checkGlobal({ name, link, sizeBytes, sparse }: Extended): void {
  if (name !== null || link !== null || sizeBytes !== null || sparse)
    throw invalid("has a global header that speaks of names, sizes or holes");
}

/** A file whose name ends in a slash is a folder when its flag is the old NUL, and with "0" to GNU tar alone. */
function plainFlag(flag: string, name: ByteString): string {
  if (flag === "0" && name.endsWith("/")) throw invalid(`has the file ${quoteName(name)}, with a slash at its end`);
  if (flag !== "\0") return flag;
  return name.endsWith("/") ? "5" : "0";
}

/** The text of a GNU long name or link: up to its first NUL. */
function longText(bytes: Buffer): ByteString {
  return textField(bytes, 0, bytes.length);
}
