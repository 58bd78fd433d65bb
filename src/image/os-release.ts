// Which system a root folder is of, by its os-release. UNTRUSTED: whoever made the image.
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { ascii, type ByteString, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import { resolveInImage } from "./image-path.ts";

const PLACES = ["/etc/os-release", "/usr/lib/os-release"].map(ascii);
const BYTES_MAX = 64 * 1024;
const FIELD = /^([A-Z_]{1,32})=(.{0,512})$/;

/** Fields by name, "ID", "VERSION_ID", "PRETTY_NAME", without their quotes; none where there is no such file. `root` is "" for this machine. */
export function readOsRelease(root: string): ReadonlyMap<string, string> {
  const folder = byteStringOfText(root);
  for (const place of PLACES) {
    const path = resolveInImage(folder, place);
    const text = path === null ? null : readSmallFile(bytesOf((folder + path) as ByteString));
    if (text === null) continue;
    const fields = new Map<string, string>();
    for (const line of text.split("\n")) {
      const [, name = "", value = ""] = FIELD.exec(line) ?? [];
      if (name !== "" && !fields.has(name)) fields.set(name, value.replace(/^(["'])(.*)\1$/, "$2"));
    }
    return fields;
  }
  return new Map();
}

/** Null for what is no file that can be read. */
function readSmallFile(path: Buffer): string | null {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    if (!fstatSync(file).isFile()) return null;
    const bytes = Buffer.alloc(BYTES_MAX);
    return bytes.toString("utf8", 0, readSync(file, bytes, 0, BYTES_MAX, 0));
  } finally {
    closeSync(file);
  }
}
