// A file that a guest gets for one compile.
import type { ByteString } from "../../../base/byte-string.ts";

/** At an absolute normalized path in the view: below the project's root or an extra root, or the rebuilt text's own. */
export interface GuestFile {
  readonly path: ByteString;
  readonly bytes: Uint8Array;
}
