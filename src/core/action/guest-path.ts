// Paths in the guest: which ones a manifest or an action may name. Pure text; there is no file system here.
import type { ByteString } from "../../base/byte-string.ts";

const PATH_LENGTH_MAX = 4095;
const COMPONENT_LENGTH_MAX = 255;

/** Everything that a job brings or leaves is below this folder. */
const GUEST_ROOT = "/hpcc";

/** True for an absolute path without empty, "." or ".." components, NUL, or a trailing slash. UNTRUSTED: anybody. */
export function isNormalPath(path: ByteString): boolean {
  if (path.length < 2 || path.length > PATH_LENGTH_MAX || !path.startsWith("/") || path.includes("\0")) return false;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== ".." && part.length <= COMPONENT_LENGTH_MAX);
}

/** True for a normal path below /hpcc, where inputs and outputs live. UNTRUSTED: anybody. */
export function isJobPath(path: ByteString): boolean {
  return path.startsWith(`${GUEST_ROOT}/`) && isNormalPath(path);
}

/** Order of paths by their bytes; byte strings compare so. */
export function comparePaths(a: ByteString, b: ByteString): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The folders above a normal path, the nearest first, without the root. */
export function* foldersAbove(path: ByteString): Generator<ByteString> {
  for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1))
    yield path.slice(0, end) as ByteString;
}
