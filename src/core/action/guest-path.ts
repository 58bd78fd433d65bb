// Paths in the guest: which ones a manifest or an action may name. Pure text; there is no file system here.
import type { ByteString } from "../../base/byte-string.ts";

const PATH_LENGTH_MAX = 4095;
const COMPONENT_LENGTH_MAX = 255;

/** Top-level names that always are the toolchain's or the sandbox's own; a job may use every other one. */
const RESERVED_NAMES: ReadonlySet<string> = new Set(
  "bin boot dev etc lib lib32 lib64 libo32 libx32 proc run sbin sys usr".split(" "),
);

/** True for an absolute path without empty, "." or ".." components, NUL, or a trailing slash. UNTRUSTED: anybody. */
export function isNormalPath(path: ByteString): boolean {
  if (path.length < 2 || path.length > PATH_LENGTH_MAX || !path.startsWith("/") || path.includes("\0")) return false;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== ".." && part.length <= COMPONENT_LENGTH_MAX);
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

/**
 * The paths of a set, in the order of a walk through their tree: what is below a path follows directly after it. (In the
 * order of bytes `/a.b` stands between `/a` and `/a/b`; a path holds no NUL, so that NUL can take the place of the slash.)
 */
export function inTreeOrder(paths: readonly ByteString[]): ByteString[] {
  return paths
    .map((path) => path.replaceAll("/", "\0"))
    .sort()
    .map((path) => path.replaceAll("\0", "/") as ByteString);
}
