// How a directive is spelled in an original file, and whether the compiler's own spelling means the same. Pure.
// UNTRUSTED: the files are a checkout's.
import { byteStringOfText } from "../../../base/byte-string.ts";

const SLASH = 0x2f;
const STAR = 0x2a;
const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const NEWLINE = 0x0a;
const HASH = 0x23;

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09 || code === 0x0d || code === 0x0c || code === 0x0b;
}

/** A directive as it stands in an original file: its text without comments and continuations, and its last line's end. */
export interface SpelledDirective {
  /** Without comments and line continuations, white space as spelled. */
  readonly spelled: string;
  /** Offset just after its last byte, the line end not counted. */
  readonly end: number;
}

/** Reads the directive that begins on the line at `start`; null when that line begins with none. */
export function readDirective(text: string, start: number): SpelledDirective | null {
  const { length } = text;
  let out = "";
  let copied = start;
  let at = start;
  let seenHash = false;
  const flush = (to: number): void => {
    if (to > copied) out += text.slice(copied, to);
  };
  while (at < length) {
    const code = text.charCodeAt(at);
    if (code === NEWLINE) break;
    if (code === SLASH && text.charCodeAt(at + 1) === STAR) {
      flush(at);
      const close = text.indexOf("*/", at + 2);
      if (close < 0) return null;
      at = close + 2;
      out += " ";
      copied = at;
    } else if (code === SLASH && text.charCodeAt(at + 1) === SLASH) {
      flush(at);
      at = logicalLineEnd(text, at);
      copied = at;
      break;
    } else if (code === BACKSLASH) {
      let after = at + 1;
      while (after < length && isBlank(text.charCodeAt(after))) after += 1;
      if (text.charCodeAt(after) === NEWLINE) {
        flush(at);
        at = after + 1;
        copied = at;
      } else at += 1;
    } else if (code === QUOTE || code === APOSTROPHE) {
      at = literalEnd(text, at);
    } else {
      if (!seenHash) {
        if (code === HASH) seenHash = true;
        else if (!isBlank(code)) return null;
      }
      at += 1;
    }
  }
  if (!seenHash) return null;
  flush(at);
  return { spelled: out, end: at };
}

/** The end of a literal on its logical line; an unfinished one ends with the line. */
function literalEnd(text: string, start: number): number {
  const quote = text.charCodeAt(start);
  let at = start + 1;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === NEWLINE) return at;
    if (code === quote) return at + 1;
    if (code === BACKSLASH && text.charCodeAt(at + 1) === NEWLINE) return at;
    at += code === BACKSLASH ? 2 : 1;
  }
  return text.length;
}

function logicalLineEnd(text: string, from: number): number {
  let at = text.indexOf("\n", from);
  while (at > 0) {
    let before = at - 1;
    while (before > from && isBlank(text.charCodeAt(before))) before -= 1;
    if (text.charCodeAt(before) !== BACKSLASH) return at;
    at = text.indexOf("\n", at + 1);
  }
  return text.length;
}

/** Offset past a byte order mark, which the compiler drops from a file's first line. */
export function skipByteOrderMark(text: string, start: number): number {
  return start === 0 && text.startsWith("\xef\xbb\xbf") ? 3 : start;
}

/** An unfinished literal reaches to the end, so that no part of it is looked at again. */
const LITERALS = /"(?:[^"\\]|\\.)*(?:"|\\?$)|'(?:[^'\\]|\\.)*(?:'|\\?$)|[ \t\r\f\v]+/gs;

/** Equal but for white space that separates no two names or numbers. */
export function sameTokens(a: string, b: string): boolean {
  return a === b || squeezed(a) === squeezed(b);
}

/** GCC writes letters of macro names as `\\U0000dcba`. */
const UCN = /\\U([0-9a-fA-F]{8})|\\u([0-9a-fA-F]{4})/g;
const CODE_POINT_MAX = 0x10ffff;

function squeezed(text: string): string {
  const trimmed = text.trim().replace(UCN, (found, long?: string, short?: string) => {
    const code = Number.parseInt(long ?? short ?? "", 16);
    return code > CODE_POINT_MAX ? found : byteStringOfText(String.fromCodePoint(code));
  });
  return trimmed.replace(LITERALS, (found, at: number) => {
    if (found.startsWith('"') || found.startsWith("'")) return found;
    const before = trimmed.charCodeAt(at - 1);
    const after = trimmed.charCodeAt(at + found.length);
    return isNameByte(before) && isNameByte(after) ? " " : "";
  });
}

function isNameByte(code: number): boolean {
  return (
    code >= 0x80 ||
    (code >= 0x30 && code <= 0x39) ||
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x61 && code <= 0x7a) ||
    code === 0x5f ||
    code === 0x24
  );
}
