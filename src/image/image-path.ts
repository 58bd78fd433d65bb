// Resolves paths inside an unpacked image: links lead within its root, never to the host's files.
import { lstatSync, readlinkSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";

const LINKS_MAX = 40;

/**
 * The path with all links resolved, absolute in the image; null when it leads to nothing. `rootfs` is the host path of the
 * unpacked image, `path` absolute in it.
 */
export function resolveInImage(rootfs: ByteString, path: ByteString): ByteString | null {
  let links = 0;
  const pending = components(path);
  let at = "" as ByteString;
  for (let component = pending.shift(); component !== undefined; component = pending.shift()) {
    if (component === "..") {
      at = at.slice(0, Math.max(0, at.lastIndexOf("/"))) as ByteString;
      continue;
    }
    const next = `${at}/${component}` as ByteString;
    const host = bytesOf((rootfs + next) as ByteString);
    const found = lstatSync(host, { throwIfNoEntry: false });
    if (found === undefined || (pending.length > 0 && !found.isDirectory() && !found.isSymbolicLink())) return null;
    if (found.isSymbolicLink()) {
      links += 1;
      if (links > LINKS_MAX) return null;
      const target = byteStringOf(readlinkSync(host, { encoding: "buffer" }));
      if (target.startsWith("/")) at = "" as ByteString;
      pending.unshift(...components(target));
    } else at = next;
  }
  return at === "" ? ("/" as ByteString) : at;
}

function components(path: string): ByteString[] {
  return path.split("/").filter((component) => component !== "" && component !== ".") as ByteString[];
}
