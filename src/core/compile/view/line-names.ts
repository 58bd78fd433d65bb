// File names that a text's line directives give: GCC quotes source lines from these files. Pure, linear. UNTRUSTED: a checkout's text.
import { type ByteString, byteStringOf } from "../../../base/byte-string.ts";

const HASH = 0x23;
const NEWLINE = 0x0a;
/** What may stand before the number: `#`, `line`, white space. */
const BEFORE_NUMBER = /^#[ \t]*(?:line[ \t]+)?\d/;
/** Longest directive that is looked at, in bytes. */
const DIRECTIVE_BYTES_MAX = 8192;

/** One whose words a macro makes: no name can be read from it. */
const COMPUTED = /^#[ \t]*line[ \t]+(?!\d)/;

export interface LineNames {
  /** As spelled, escapes undone, each once. */
  readonly names: readonly ByteString[];
  /** Whether a macro may make a further one. */
  readonly computed: boolean;
}

/** Names in `#line 1 "name"` and `# 1 "name"`, and whether a macro makes one. */
export function lineNames(bytes: Uint8Array): LineNames {
  const names = new Set<ByteString>();
  let computed = false;
  for (let at = bytes.indexOf(HASH); at >= 0; at = bytes.indexOf(HASH, at + 1)) {
    const newline = bytes.indexOf(NEWLINE, at);
    const end = Math.min(newline < 0 ? bytes.length : newline, at + DIRECTIVE_BYTES_MAX);
    const directive = byteStringOf(bytes.subarray(at, end));
    const name = nameOf(directive);
    if (name !== null) names.add(name);
    else computed ||= isComputed(directive);
    // One directive stands on a line.
    at = end;
  }
  return { names: [...names], computed };
}

function isComputed(directive: string): boolean {
  // `#line 7 NAME`: a word behind the number.
  return COMPUTED.test(directive) || /^#[ \t]*line[ \t]+\d+[ \t]+[A-Za-z_$]/.test(directive);
}

function nameOf(directive: string): ByteString | null {
  if (!BEFORE_NUMBER.test(directive)) return null;
  const open = directive.indexOf('"');
  const close = directive.lastIndexOf('"');
  return close <= open + 1 ? null : (directive.slice(open + 1, close).replace(/\\(.)/g, "$1") as ByteString);
}
