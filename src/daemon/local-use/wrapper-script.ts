// Scripts that do nothing but call a compiler with some words of their own, as toolchains come with them. What does anything else is not
// followed. Pure. UNTRUSTED: whoever wrote the script.
import { type ByteString, byteStringOf } from "../../base/byte-string.ts";

export interface Wrapper {
  /** The program that it becomes, by its absolute path. */
  readonly program: ByteString;
  /** Words before and behind those of the caller. */
  readonly before: readonly ByteString[];
  readonly after: readonly ByteString[];
}

export const WRAPPER_BYTES_MAX = 8192;
const SHELLS = /^#! ?(?:\/usr)?\/bin\/(?:sh|bash|dash)$/;
const NOTHING = /^[ \t]*(?:#.*)?$/;
/** Characters that mean themselves to every shell, wherever they stand in a word. */
const PLAIN = /^[A-Za-z0-9_./=+:,@%-]+$/;
const CALLERS = '"$@"';

/** Null for a script that does anything else. */
export function readWrapper(bytes: Uint8Array): Wrapper | null {
  if (bytes.length > WRAPPER_BYTES_MAX) return null;
  const [shell = "", ...lines] = byteStringOf(bytes).split("\n");
  const doing = lines.filter((line) => !NOTHING.test(line));
  const [word, program, ...rest] = (doing[0] ?? "").trim().split(/[ \t]+/) as ByteString[];
  if (!SHELLS.test(shell) || doing.length !== 1 || word !== "exec") return null;
  const at = rest.indexOf(CALLERS as ByteString);
  const own = rest.filter((_, index) => index !== at);
  if (at < 0 || program === undefined || !program.startsWith("/")) return null;
  if (![program, ...own].every((word) => PLAIN.test(word))) return null;
  return { program, before: rest.slice(0, at), after: rest.slice(at + 1) };
}
