// The sections of an ELF file, 64 or 32 bits, little endian. Pure. UNTRUSTED: the bytes, what a guest left; what does not hold
// together is no ELF file.
import { Buffer } from "node:buffer";

export interface ElfSection {
  readonly name: string;
  readonly offset: number;
  /** In the file; 0 for one that has no bytes there. */
  readonly size: number;
}

/** More sections than this are not read. */
export const SECTIONS_MAX = 100_000;
const NAME_LENGTH_MAX = 256;
const MAGIC = 0x46_4c_45_7f;
const LITTLE_ENDIAN = 1;
const NOBITS = 8;
/** In place of a number of sections, or an index, that does not fit. */
const EXTENDED_INDEX = 0xffff;

interface Layout {
  readonly headerBytes: number;
  readonly entryBytes: number;
  /** Of the file's header: where the section headers begin; size of one, how many, which has the names (u16 each). */
  readonly tableAt: number;
  readonly entrySizeAt: number;
  /** Of a section's header. */
  readonly offsetAt: number;
  readonly sizeAt: number;
  readonly linkAt: number;
  readonly word: (bytes: Buffer, at: number) => number;
}

const LAYOUTS: ReadonlyMap<number, Layout> = new Map([
  [
    1,
    {
      headerBytes: 52,
      entryBytes: 40,
      tableAt: 32,
      entrySizeAt: 46,
      offsetAt: 16,
      sizeAt: 20,
      linkAt: 24,
      word: (bytes, at) => bytes.readUInt32LE(at),
    },
  ],
  [
    2,
    {
      headerBytes: 64,
      entryBytes: 64,
      tableAt: 40,
      entrySizeAt: 58,
      offsetAt: 24,
      sizeAt: 32,
      linkAt: 40,
      word: (bytes, at) => Number(bytes.readBigUInt64LE(at)),
    },
  ],
]);

interface Header {
  readonly name: number;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
}

/** Null for what is no such file, or lies about itself. */
export function elfSections(content: Uint8Array): ElfSection[] | null {
  const bytes = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  if (bytes.length < 16 || bytes.readUInt32LE(0) !== MAGIC || bytes[5] !== LITTLE_ENDIAN) return null;
  const layout = LAYOUTS.get(bytes[4]!);
  if (layout === undefined || bytes.length < layout.headerBytes) return null;
  const headers = headersOf(bytes, layout);
  if (headers === null) return null;
  const { table, namesIndex } = headers;
  const names = table[namesIndex];
  if (names === undefined || names.type === NOBITS) return null;
  const sections: ElfSection[] = [];
  for (const { name, type, offset, size } of table) {
    const read = nameAt(bytes, names, name);
    if (read === null) return null;
    sections.push({ name: read, offset, size: type === NOBITS ? 0 : size });
  }
  return sections;
}

function headersOf(bytes: Buffer, layout: Layout): { table: Header[]; namesIndex: number } | null {
  const { tableAt, entrySizeAt, entryBytes, word } = layout;
  const start = word(bytes, tableAt);
  const entrySize = bytes.readUInt16LE(entrySizeAt);
  if (start === 0 || entrySize < entryBytes || start + entrySize > bytes.length) return null;
  const first = headerAt(bytes, start, layout);
  const told = { count: bytes.readUInt16LE(entrySizeAt + 2), names: bytes.readUInt16LE(entrySizeAt + 4) };
  const count = told.count === 0 ? first.size : told.count;
  if (count > SECTIONS_MAX || start + count * entrySize > bytes.length) return null;
  const table: Header[] = [];
  for (let index = 0; index < count; index++) {
    const header = headerAt(bytes, start + index * entrySize, layout);
    // The first one is empty, and says what does not fit elsewhere.
    const inFile = index === 0 ? { ...header, offset: 0, size: 0 } : header;
    if (inFile.type !== NOBITS && inFile.offset + inFile.size > bytes.length) return null;
    table.push(inFile);
  }
  return { table, namesIndex: told.names === EXTENDED_INDEX ? first.link : told.names };
}

function headerAt(bytes: Buffer, at: number, { offsetAt, sizeAt, linkAt, word }: Layout): Header {
  return {
    name: bytes.readUInt32LE(at),
    type: bytes.readUInt32LE(at + 4),
    offset: word(bytes, at + offsetAt),
    size: word(bytes, at + sizeAt),
    link: bytes.readUInt32LE(at + linkAt),
  };
}

function nameAt(bytes: Buffer, names: Header, at: number): string | null {
  if (names.size === 0) return at === 0 ? "" : null;
  if (at >= names.size) return null;
  const start = names.offset + at;
  const end = bytes.subarray(start, Math.min(names.offset + names.size, start + NAME_LENGTH_MAX)).indexOf(0);
  return bytes.toString("latin1", start, end < 0 ? start + NAME_LENGTH_MAX : start + end);
}
