// Which names of files a call may write: plain files, each another one. Throws a Bypass. UNTRUSTED: the caller's argv.
import type { ByteString } from "../../../base/byte-string.ts";
import { bypass } from "./gnu-bypass.ts";
import { baseName } from "./gnu-names.ts";

/** A file that the call writes must be one that can be written beside others and renamed. */
export function checkOutputName(path: ByteString): void {
  if (path === "-" || path === "/dev/stdout" || path === "/dev/fd/1" || path === "/proc/self/fd/1")
    bypass("output_to_stdout", path);
  if (path === "" || path.startsWith("/dev/") || path.startsWith("/proc/") || path.endsWith("/"))
    bypass("bad_output_file", path);
  if (["", ".", ".."].includes(baseName(path))) bypass("bad_output_file", path);
}

/** `-x c a.b.d -MD` writes its dependency file over its source; a listing may be named as the object is. */
export function checkDistinct(source: ByteString, output: ByteString, others: readonly ByteString[]): void {
  const plain = (path: ByteString): string => path.replace(/^(?:\.\/+)+/, "");
  const names = [source, output, ...others].map(plain);
  if (new Set(names).size < names.length) bypass("bad_output_file", output);
}
