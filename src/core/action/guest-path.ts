// Paths in the guest: which ones a manifest or an action may name. Pure text; there is no file system here.
import type { ByteString } from "../../base/byte-string.ts";

const PATH_LENGTH_MAX = 4095;
/** One component after the other: no empty one, no "." or "..", no NUL, none of more than 255 bytes. */
const NORMAL = /^(?:\/(?!\.{1,2}(?:\/|$))[^/\0]{1,255})+$/;

/** Top-level names that always are the toolchain's or the sandbox's own; a job may use every other one. */
const RESERVED_NAMES: ReadonlySet<string> = new Set(
  "bin boot dev etc lib lib32 lib64 libo32 libx32 proc run sbin sys usr".split(" "),
);

/** True for an absolute path without empty, "." or ".." components, NUL, or a trailing slash. UNTRUSTED: anybody. */
export function isNormalPath(path: ByteString): boolean {
  return path.length <= PATH_LENGTH_MAX && NORMAL.test(path);
}

/** True for a path where a folder of a job may stand: a normal one, not at or below a reserved name. UNTRUSTED: anybody. */
export function isJobFolder(path: ByteString): boolean {
  return isNormalPath(path) && !RESERVED_NAMES.has(path.split("/", 2)[1]!);
}

/** True for a path where a file of a job may stand: below a top-level folder that is not reserved. UNTRUSTED: anybody. */
export function isJobPath(path: ByteString): boolean {
  return path.includes("/", 1) && isJobFolder(path);
}

/** Order of paths by their bytes; byte strings compare so. */
export function comparePaths(a: ByteString, b: ByteString): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Whether one of the paths, which stand in strict order of their bytes, is below another one. */
export function someNest(sorted: readonly ByteString[]): boolean {
  // In this order `/a.b` stands between `/a` and `/a/b`, but only paths that begin with `/a` do. Each path of this list
  // begins with the one before it, which it would be below, were it below an earlier one.
  const beginnings: ByteString[] = [];
  for (const path of sorted) {
    let last = beginnings.at(-1);
    for (; last !== undefined && !path.startsWith(last); last = beginnings.at(-1)) beginnings.pop();
    if (last !== undefined && path[last.length] === "/") return true;
    beginnings.push(path);
  }
  return false;
}
