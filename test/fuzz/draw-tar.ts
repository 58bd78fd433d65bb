// Tar archives as programs make them and as nobody should: old, POSIX's and GNU's heads, PAX records, long names, sparse files, links,
// whiteouts, devices, numbers in every form.
import type { Draw } from "./draw.ts";

const BLOCK = 512;
const FLAGS = [
  "0",
  "0",
  "0",
  "0",
  "5",
  "5",
  "1",
  "2",
  "2",
  "\0",
  "7",
  "3",
  "4",
  "6",
  "S",
  "x",
  "g",
  "L",
  "K",
  "D",
  "Z",
];
const PARTS = ["usr", "bin", "lib", "a", "b", "etc", "gcc", "x".repeat(100), "\u00ff\u00fe", "c d", "n\nl", "-rf", "*"];
const NAMES = ["..", ".", "", "/", ".wh.a", ".wh..wh..opq", ".wh..wh.plnk", ".wh.", ".wh...", "\0a", "y".repeat(300)];
const KEYS = ["path", "linkpath", "size", "mtime", "uid", "SCHILY.xattr.user.a", "SCHILY.xattr.security.capability"];
const SPARSE_KEYS = [
  "GNU.sparse.major",
  "GNU.sparse.map",
  "GNU.sparse.name",
  "GNU.sparse.realsize",
  "GNU.sparse.numblocks",
];
const MAGICS = [
  "ustar\x0000",
  "ustar\x0000",
  "ustar\x0000",
  "ustar  \0",
  "\0\0\0\0\0\0\0\0",
  "ustar\x0001",
  "USTAR\x0000",
];

/** A path, of the image or not. `outside` is a path that nothing may reach. */
export function drawPath(draw: Draw, outside: string): string {
  if (draw.once(40)) return draw.of([outside, `..${outside}`, `usr/..${outside}`, `/${outside}`]);
  const parts = Array.from({ length: 1 + draw.below(draw.once(30) ? 40 : 4) }, () =>
    draw.once(14) ? draw.of(NAMES) : draw.of(PARTS),
  );
  return parts.join("/") + (draw.once(6) ? "/" : "");
}

function number(draw: Draw, value: number, width: number): Buffer {
  const field = Buffer.alloc(width);
  switch (draw.once(12) ? draw.below(6) : 5) {
    case 0:
      field.writeUInt8(draw.of([0x80, 0xff, 0x81]), 0);
      field.writeUInt32BE(value >>> 0, width - 4);
      return field;
    case 1:
      return Buffer.alloc(width, 0x37);
    case 2:
      field.write(" ".repeat(width), "latin1");
      return field;
    case 3:
      field.write(`-${value.toString(8)}`, "latin1");
      return field;
    case 4:
      field.write(value.toString(8).padStart(width, " "), "latin1");
      return field;
    default:
      field.write(
        `${value
          .toString(8)
          .padStart(width - 1, "0")
          .slice(-(width - 1))}\0`,
        "latin1",
      );
      return field;
  }
}

interface Head {
  readonly name: string;
  readonly flag: string;
  readonly link: string;
  readonly sizeBytes: number;
}

function head(draw: Draw, { name, flag, link, sizeBytes }: Head): Buffer {
  const block = Buffer.alloc(BLOCK);
  block.write(name, 0, 100, "latin1");
  number(draw, draw.of([0o644, 0o755, 0o4755, 0o7777, 0]), 8).copy(block, 100);
  number(draw, 0, 8).copy(block, 108);
  number(draw, 0, 8).copy(block, 116);
  number(draw, sizeBytes, 12).copy(block, 124);
  number(draw, 7, 12).copy(block, 136);
  block.write("        ", 148, "latin1");
  block.write(flag, 156, "latin1");
  block.write(link, 157, 100, "latin1");
  block.write(draw.once(10) ? draw.of(MAGICS) : "ustar\x0000", 257, "latin1");
  if (draw.once(20)) block.write(draw.of(["prefix", "..", "/abs", "tar\0"]), 345, "latin1");
  if (draw.once(60)) block.write("tar\0", 508, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0) + (draw.once(40) ? 1 : 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
}

function record(draw: Draw, key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${draw.once(25) ? draw.of([0, length - 1, length + 1, 1e9, -1]) : length}${rest}`;
}

function records(draw: Draw, outside: string, sizeBytes: number): Buffer {
  const made = draw.list(4, () => {
    const key = draw.of(draw.once(6) ? SPARSE_KEYS : KEYS);
    const values: Record<string, () => string> = {
      path: () => drawPath(draw, outside),
      linkpath: () => drawPath(draw, outside),
      size: () => (draw.once(4) ? draw.of(["-1", "", "9".repeat(30), "1e3", "0x10"]) : String(sizeBytes)),
    };
    return record(draw, key, values[key]?.() ?? draw.of(["0", "1.5", "", "\0\u0001\u00ff", "v".repeat(300)]));
  });
  return Buffer.from(made.join(""), "latin1");
}

/** A member with what may stand before it. */
function member(draw: Draw, outside: string): Buffer {
  const flag = draw.once(3) ? draw.of(FLAGS) : draw.of(["0", "0", "5", "2", "1"]);
  const hasContent = flag === "0" || flag === "\0" || flag === "7" || draw.once(20);
  const content = hasContent ? draw.bytes(draw.once(30) ? 3000 : 60) : Buffer.alloc(0);
  const sizeBytes = draw.once(50) ? draw.of([0, 1, 511, 513, 0o77777777777, content.length + 1]) : content.length;
  const parts: Buffer[] = [];
  const before = (type: string, bytes: Buffer) => {
    const named = { name: "././@LongLink", flag: type, link: "", sizeBytes: draw.once(50) ? 2 ** 21 : bytes.length };
    parts.push(head(draw, named), padded(bytes));
  };
  if (draw.once(5)) before("x", records(draw, outside, sizeBytes));
  if (draw.once(40)) before("g", records(draw, outside, sizeBytes));
  if (draw.once(20)) before("L", Buffer.from(`${drawPath(draw, outside)}\0`, "latin1"));
  if (draw.once(30)) before("K", Buffer.from(`${drawPath(draw, outside)}\0`, "latin1"));
  const name = drawPath(draw, outside);
  const link = flag === "1" || flag === "2" || draw.once(20) ? drawPath(draw, outside) : "";
  parts.push(head(draw, { name, flag, link, sizeBytes }), padded(content));
  return Buffer.concat(parts);
}

/** An archive. */
export function drawTar(draw: Draw, outside: string): Buffer {
  const members = draw.list(draw.once(10) ? 40 : 8, () => member(draw, outside));
  const end = draw.once(12)
    ? draw.of([Buffer.alloc(0), Buffer.alloc(BLOCK), draw.bytes(700)])
    : Buffer.alloc(2 * BLOCK);
  return Buffer.concat([...members, end]);
}

/** One that is as it should be: a tree of files, folders and links that no reader minds. */
export function plainTar(draw: Draw): Buffer {
  const parts: Buffer[] = [];
  const put = (name: string, flag: string, link: string, content: Buffer) => {
    const block = Buffer.alloc(BLOCK);
    block.write(name, 0, 100, "latin1");
    block.write("0000755\x000000000\x000000000\0", 100, "latin1");
    block.write(`${content.length.toString(8).padStart(11, "0")}\x0000000000007\0        `, 124, "latin1");
    block.write(flag, 156, "latin1");
    block.write(link, 157, 100, "latin1");
    block.write("ustar\x0000", 257, "latin1");
    const sum = block.reduce((total, byte) => total + byte, 0);
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    parts.push(block, padded(content));
  };
  for (let at = draw.below(5); at >= 0; at -= 1) {
    put(`d${at}`, "5", "", Buffer.alloc(0));
    put(`d${at}/f`, "0", "", draw.bytes(200));
    if (draw.once(2)) put(`d${at}/s`, "2", draw.of(["f", "../d0/f", "/etc/passwd", "../../../.."]), Buffer.alloc(0));
    if (draw.once(3)) put(`d${at}/h`, "1", `d${at}/f`, Buffer.alloc(0));
    if (draw.once(4)) put(`d${at}/.wh.${draw.of(["f", "s", "x"])}`, "0", "", Buffer.alloc(0));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}
