// Writes normalised tar members: owner 0:0, one modification time, no names of users, no extended attributes, so that the
// same tree gives the same bytes. Names are bytes. Pure.
import { type ByteString, bytesOf } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";

/** Modification time of every file of an image, in seconds; not 0, which some tools take for "no such file". */
export const IMAGE_MTIME_SECONDS = 1;

const BLOCK_BYTES = 512;
const SIZE_BYTES_MAX = 8 ** 11 - 1;
const NAME_FIELD_BYTES = 100;
const PREFIX_FIELD_BYTES = 155;

const TYPE_FLAGS = { file: "0", link: "1", symlink: "2", directory: "5", pax: "x" } as const;

export interface TarMember {
  /** Relative to the root, without leading or trailing slash. */
  readonly path: ByteString;
  readonly type: "file" | "link" | "symlink" | "directory";
  readonly mode: number;
  /** Zero but for files. */
  readonly sizeBytes: number;
  /** Target of a link (a member's path) or symlink (any text). */
  readonly link: ByteString | null;
}

interface Fields {
  readonly name: string;
  readonly prefix: string;
  readonly flag: string;
  readonly mode: number;
  readonly sizeBytes: number;
  readonly link: string;
}

function octal(value: number, width: number): string {
  return `${value.toString(8).padStart(width - 1, "0")}\0`;
}

function header(fields: Fields): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  block.write(fields.name, 0, "latin1");
  block.write(octal(fields.mode, 8), 100, "latin1");
  block.write(octal(0, 8), 108, "latin1");
  block.write(octal(0, 8), 116, "latin1");
  block.write(octal(fields.sizeBytes, 12), 124, "latin1");
  block.write(octal(IMAGE_MTIME_SECONDS, 12), 136, "latin1");
  block.write("        ", 148, "latin1");
  block.write(fields.flag, 156, "latin1");
  block.write(fields.link, 157, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  block.write(octal(0, 8), 329, "latin1");
  block.write(octal(0, 8), 337, "latin1");
  block.write(fields.prefix, 345, "latin1");
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

/** The name and prefix fields of a path; null when it fits in neither. */
function splitPath(path: string): { name: string; prefix: string } | null {
  if (path.length <= NAME_FIELD_BYTES) return { name: path, prefix: "" };
  for (let at = path.indexOf("/"); at !== -1 && at <= PREFIX_FIELD_BYTES; at = path.indexOf("/", at + 1)) {
    const name = path.slice(at + 1);
    if (at > 0 && name.length > 0 && name.length <= NAME_FIELD_BYTES) return { name, prefix: path.slice(0, at) };
  }
  return null;
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

/** The padding after a member's content. */
export function tarPadding(sizeBytes: number): Buffer {
  const over = sizeBytes % BLOCK_BYTES;
  return Buffer.alloc(over === 0 ? 0 : BLOCK_BYTES - over);
}

/** The end of an archive. */
export const TAR_END = Buffer.alloc(2 * BLOCK_BYTES);

/** Header of a member, after a PAX header when a name is too long for the old format. */
export function encodeTarHeader(member: TarMember): Buffer {
  if (member.sizeBytes > SIZE_BYTES_MAX)
    throw new HpccError("limit.exceeded", `a file of ${member.sizeBytes} bytes is too large for an image`);
  const path: string = member.type === "directory" ? `${member.path}/` : member.path;
  const link: string = member.link ?? "";
  const split = splitPath(path);
  let records = "";
  if (split === null) records += paxRecord("path", path);
  if (link.length > NAME_FIELD_BYTES) records += paxRecord("linkpath", link);
  const main = header({
    name: split?.name ?? path.slice(0, NAME_FIELD_BYTES),
    prefix: split?.prefix ?? "",
    flag: TYPE_FLAGS[member.type],
    mode: member.mode,
    sizeBytes: member.sizeBytes,
    link: link.slice(0, NAME_FIELD_BYTES),
  });
  if (records === "") return main;
  const pax = bytesOf(records as ByteString);
  const paxHeader = header({
    name: "PaxHeaders/long",
    prefix: "",
    flag: TYPE_FLAGS.pax,
    mode: 0o644,
    sizeBytes: pax.length,
    link: "",
  });
  return Buffer.concat([paxHeader, pax, tarPadding(pax.length), main]);
}
