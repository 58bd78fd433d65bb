// File names that a text's line directives give: GCC quotes source lines from these files. Pure, linear. UNTRUSTED: a checkout's text.
import { type ByteString, byteStringOf } from "../../../base/byte-string.ts";

const HASH = 0x23;
const NEWLINE = 0x0a;
/** What may stand before the number: `#`, `line`, white space. */
const BEFORE_NUMBER = /^#[ \t]*(?:line[ \t]+)?\d/;
/** Longest directive that is looked at, in bytes. */
const DIRECTIVE_BYTES_MAX = 8192;

/** Names in `#line 1 "name"` and `# 1 "name"`, as spelled, escapes undone, each once. */
export function lineNames(bytes: Uint8Array): ByteString[] {
  const names = new Set<ByteString>();
  for (let at = bytes.indexOf(HASH); at >= 0; at = bytes.indexOf(HASH, at + 1)) {
    const newline = bytes.indexOf(NEWLINE, at);
    const end = Math.min(newline < 0 ? bytes.length : newline, at + DIRECTIVE_BYTES_MAX);
    const name = nameOf(byteStringOf(bytes.subarray(at, end)));
    if (name !== null) names.add(name);
    // One directive stands on a line.
    at = end;
  }
  return [...names];
}

function nameOf(directive: string): ByteString | null {
  if (!BEFORE_NUMBER.test(directive)) return null;
  const open = directive.indexOf('"');
  const close = directive.lastIndexOf('"');
  return close <= open + 1 ? null : (directive.slice(open + 1, close).replace(/\\(.)/g, "$1") as ByteString);
}
