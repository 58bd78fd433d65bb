// The text of a source file as compilers read it before they tell tokens apart: without continued lines, with one kind of line end.
// Where compilers differ, more than one reading is given. Pure. UNTRUSTED: the bytes are a checkout's. One pass per reading.
import { BACKSLASH, CARRIAGE_RETURN, EQUALS, HASH, isBlank, NEWLINE, QUESTION, SLASH, SPACE } from "./source-bytes.ts";

interface Reading {
  /** Whether `??=` is `#`, and `??/` a backslash. */
  readonly trigraphs: boolean;
  /** Whether a carriage return without a line feed ends a line: for Clang it does, for GCC it does not. */
  readonly bareReturnEndsLine: boolean;
}

/** Every reading of a file's text that some compiler takes; at least one, and the most usual one first. */
export function readingsOf(bytes: Buffer): Buffer[] {
  const text = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? bytes.subarray(3) : bytes;
  const withTrigraphs = text.includes("??=") || text.includes("??/") ? [false, true] : [false];
  const withReturns = hasBareReturn(text) ? [false, true] : [false];
  return withTrigraphs.flatMap((trigraphs) =>
    withReturns.map((bareReturnEndsLine) => read(text, { trigraphs, bareReturnEndsLine })),
  );
}

function hasBareReturn(text: Buffer): boolean {
  for (let at = text.indexOf(CARRIAGE_RETURN); at >= 0; at = text.indexOf(CARRIAGE_RETURN, at + 1))
    if (text[at + 1] !== NEWLINE) return true;
  return false;
}

function read(text: Buffer, { trigraphs, bareReturnEndsLine }: Reading): Buffer {
  if (!text.includes(BACKSLASH) && !text.includes(CARRIAGE_RETURN) && !trigraphs) return text;
  if (!text.includes(CARRIAGE_RETURN) && !trigraphs) return joinLines(text);
  const { length } = text;
  const out = Buffer.allocUnsafe(length);
  let to = 0;
  let at = 0;
  while (at < length) {
    let code = text[at]!;
    let width = 1;
    if (code === QUESTION && trigraphs && text[at + 1] === QUESTION) {
      const third = text[at + 2];
      if (third === EQUALS || third === SLASH) {
        code = third === EQUALS ? HASH : BACKSLASH;
        width = 3;
      }
    }
    at += width;
    if (code === BACKSLASH) {
      const next = continuation(text, at, bareReturnEndsLine);
      if (next >= 0) {
        at = next;
        continue;
      }
    } else if (code === CARRIAGE_RETURN) {
      if (text[at] === NEWLINE) continue;
      code = bareReturnEndsLine ? NEWLINE : SPACE;
    }
    out[to] = code;
    to += 1;
  }
  return out.subarray(0, to);
}

/** The usual case, in larger steps: nothing but continued lines is to be changed. */
function joinLines(text: Buffer): Buffer {
  let out: Buffer | null = null;
  let to = 0;
  let copied = 0;
  for (let at = text.indexOf(BACKSLASH); at >= 0; ) {
    const next = continuation(text, at + 1, false);
    if (next >= 0) {
      out ??= Buffer.allocUnsafe(text.length);
      to += text.copy(out, to, copied, at);
      copied = next;
    }
    at = text.indexOf(BACKSLASH, next >= 0 ? next : at + 1);
  }
  if (out === null) return text;
  to += text.copy(out, to, copied);
  return out.subarray(0, to);
}

/** Where a line goes on after a backslash that ended at `at`; -1 when that backslash continues no line. */
function continuation(text: Buffer, at: number, bareReturnEndsLine: boolean): number {
  while (at < text.length && isBlank(text[at]!)) {
    if (text[at] === CARRIAGE_RETURN && bareReturnEndsLine && text[at + 1] !== NEWLINE) return at + 1;
    at += 1;
  }
  return text[at] === NEWLINE ? at + 1 : -1;
}
