// Finds in a compiler's words which header it did not find. Pure. UNTRUSTED: the words hold names out of a checkout's files.
import type { ByteString } from "../../base/byte-string.ts";

const FATAL = "fatal error: ";
const NAME_BYTES_MAX = 1024;
/** Neither a folder's own name, nor its parent's, nor what a shell or dpkg takes for a pattern. */
const NAME_PART = /^(?!\.{1,2}$)[A-Za-z0-9_+.@-]+$/;
const GCC_END = ": No such file or directory";
const CLANG_END = "' file not found";
/** What colours a terminal's text. */
const COLOURS = /\x1b\[[0-9;]{0,32}[mK]/g;

/** The header, as it was included; null when nothing of that kind was said, or the name is no header's of a system. */
export function missingHeader(said: ByteString): ByteString | null {
  for (const line of said.replace(COLOURS, "").split(/\r?\n/)) {
    const start = line.indexOf(FATAL);
    if (start === -1) continue;
    const rest = line.slice(start + FATAL.length);
    const name = rest.endsWith(GCC_END)
      ? rest.slice(0, -GCC_END.length)
      : rest.startsWith("'") && rest.endsWith(CLANG_END)
        ? rest.slice(1, -CLANG_END.length)
        : null;
    // The first fatal error is the last thing that a compiler says.
    return name !== null && isSystemHeader(name) ? (name as ByteString) : null;
  }
  return null;
}

function isSystemHeader(name: string): boolean {
  return name.length <= NAME_BYTES_MAX && name.split("/").every((part) => NAME_PART.test(part));
}
