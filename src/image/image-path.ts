// Resolves paths inside an unpacked image: links lead within its root, never to the host's files.
import { lstatSync, readlinkSync, type Stats } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";

const LINKS_MAX = 40;
const UNREACHABLE: ReadonlySet<string> = new Set(["ENAMETOOLONG", "EACCES", "ELOOP"]);

/** What there is at a host path; nothing also where it cannot be looked at: a name that is too long, a folder without rights. */
function statusOf(host: Buffer): Stats | undefined {
  try {
    return lstatSync(host, { throwIfNoEntry: false });
  } catch (error) {
    if (UNREACHABLE.has((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}

/**
 * The path with all links resolved, absolute in the image; null when it leads to nothing that can be looked at. `rootfs` is the host path of the
 * unpacked image, `path` absolute in it.
 */
export function resolveInImage(rootfs: ByteString, path: ByteString): ByteString | null {
  if (path.includes("\0")) return null;
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
    const found = statusOf(host);
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
