// Where a path of the host leads.
import { realpathSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";

/** Without links on the way and `..`; what leads nowhere stays as it is. */
export function realPath(path: ByteString): ByteString {
  try {
    return byteStringOf(realpathSync.native(bytesOf(path), { encoding: "buffer" }));
  } catch {
    return path;
  }
}
