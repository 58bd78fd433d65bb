// Finds, in preprocessed text, what may read a file that preprocessing did not: `.incbin` and `.include` of the assembler, `#embed`,
// `#pragma dependency`. It errs towards finding: letters count wherever they stand, also spread over adjacent string literals,
// escapes, pasted tokens and continued lines. What still escapes it fails in the guest, where the file is not. UNTRUSTED: source text.
import type { ByteString } from "../../../base/byte-string.ts";

/** What may stand between two letters of a directive without parting them. */
const JOINT = [
  // A literal ends and the next begins, white space, comments and continued lines between.
  String.raw`\)?"(?:\s|\\\r?\n|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/|//[^\n]*\n)*(?:u8|[uUL])?R?"\(?`,
  // Pasted tokens.
  String.raw`\s*##\s*`,
  // A continued line.
  String.raw`\\\r?\n`,
  // The assembler's own empty separator, in C's spelling or as it is.
  String.raw`\\{1,2}\(\)`,
].join("|");

/** A character as itself or as an octal or hexadecimal escape, in either case. */
function spelled(char: string): string {
  const codes = [...new Set([char.toLowerCase(), char.toUpperCase()])].map((one) => one.charCodeAt(0));
  const escapes = codes.flatMap((code) => [
    String.raw`\\x\{?0*${code.toString(16)}\}?`,
    String.raw`\\(?:o\{)?0*${code.toString(8)}\}?`,
    String.raw`\\u\{?0*${code.toString(16)}\}?`,
  ]);
  return `(?:${[char === "." ? String.raw`\.` : char, ...escapes].join("|")})`;
}

function directive(letters: string, after: string): RegExp {
  return new RegExp(letters.split("").map(spelled).join(`(?:${JOINT})*`) + after, "i");
}

const INCBIN = directive("incbin", "");
/** `.include` and then a quote: a member access is followed by none. */
const INCLUDE = directive(".include", String.raw`(?:\s|\\[tn]|${JOINT}|/\*)*\\{0,2}["']`);
const EMBED = /(?:^|\n)[ \t]*(?:#|%:|\?\?=)[ \t]*embed\b|\b__has_embed\b/;
const DEPENDENCY = /#[ \t]*pragma[ \t]+(?:GCC[ \t]+)?dependency\b|_Pragma\s*\(\s*L?"\s*(?:GCC\s+)?dependency\b/;

/** The start of a directive at the end of a literal; its rest may begin another macro's literal. */
const HEAD = /(?:["\s;]|\\[nt])\.(in?|inc|incb|incbi|incl|inclu|includ)"/gi;

/** Whether literals of different macros would read as a directive side by side. */
function isSplit(text: string): boolean {
  const heads = new Set([...text.matchAll(HEAD)].map((match) => (match[1] ?? "").toLowerCase()));
  return [...heads].some((head) =>
    ["incbin", "include"]
      .filter((word) => word.startsWith(head))
      .some((word) => new RegExp(`"${word.slice(head.length)}(?:[ \\t]|\\\\[t"]|")`, "i").test(text)),
  );
}

/** What was found first, for people; null when nothing may read a file behind the preprocessor's back. */
export function findCodeDirective(text: ByteString): string | null {
  if (INCBIN.test(text)) return ".incbin";
  if (INCLUDE.test(text)) return ".include";
  if (text.includes("embed") && EMBED.test(text)) return "#embed";
  if (text.includes("dependency") && DEPENDENCY.test(text)) return "#pragma dependency";
  return isSplit(text) ? "split assembler directive" : null;
}

/** Whether preprocessed text may read files at compile or assembly; then the call is compiled locally. */
export function mentionsIncbin(text: ByteString): boolean {
  return findCodeDirective(text) !== null;
}
