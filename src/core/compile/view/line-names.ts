// File names that a text's line directives give: GCC quotes source lines from these files. Pure, linear. UNTRUSTED: a checkout's text.
import { type ByteString, byteStringOf } from "../../../base/byte-string.ts";
import { readingsOf } from "./source-text.ts";

/** Both spellings of what begins a directive. */
const SIGNS = ["#", "%:"];
const NEWLINE = 0x0a;
/** Stands for a directive of which nothing can be told. */
const HIDDEN = "#line ?";
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

/** Names in `#line 1 "name"` and `# 1 "name"`, however they are spelled, and whether a macro makes one. */
export function lineNames(bytes: Uint8Array): LineNames {
  const names = new Set<ByteString>();
  let computed = false;
  for (const text of readingsOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)))
    for (const sign of SIGNS)
      for (let at = text.indexOf(sign); at >= 0; at = text.indexOf(sign, at + 1)) {
        const newline = text.indexOf(NEWLINE, at);
        const end = Math.min(newline < 0 ? text.length : newline, at + DIRECTIVE_BYTES_MAX);
        const directive = plain(byteStringOf(text.subarray(at + sign.length, end)));
        const name = nameOf(directive);
        if (name !== null) names.add(name);
        else computed ||= isComputed(directive);
        // One directive stands on a line.
        at = end;
      }
  return { names: [...names], computed };
}

/** A directive that begins with `#`, without the comments before its file's name. */
function plain(after: string): string {
  let rest = after;
  for (let open = rest.indexOf("/*"); open >= 0; open = rest.indexOf("/*")) {
    const quote = rest.indexOf('"');
    if (quote >= 0 && quote < open) break;
    const close = rest.indexOf("*/", open + 2);
    // Some of its words stand on another line.
    if (close < 0) return /^[ \t]*(?:line\b|[0-9]|$)/.test(rest.slice(0, open)) ? HIDDEN : `#${rest}`;
    rest = `${rest.slice(0, open)} ${rest.slice(close + 2)}`;
  }
  return `#${rest}`;
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
