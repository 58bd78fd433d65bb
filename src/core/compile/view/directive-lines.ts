// The lines of a text by which a preprocessor decides what it reads: two texts with equal ones include the same files, whatever stands
// between them. Errs towards telling nothing: a text in which a comment, literal or spelling leaves any doubt about what is a directive
// has no such lines, and counts by its whole content. Pure. UNTRUSTED: the text is a checkout's, and the time is linear in its size.
import {
  APOSTROPHE,
  BACKSLASH,
  COLON,
  HASH,
  isBlank,
  isWord,
  NEWLINE,
  PERCENT,
  QUOTE,
  SLASH,
  STAR,
} from "./source-bytes.ts";
import { readingsOf } from "./source-text.ts";

export interface LineOptions {
  /** False for a language in which `//` may be a division: what follows it may then begin a comment. */
  readonly lineComments: boolean;
}

/** A directive, from its `#` to the end of its line, continued lines joined. */
export interface NumberedDirective {
  readonly line: Buffer;
  /** How many lines stand before its own, a line that is continued counted once. */
  readonly before: number;
}

const ASCII_END = 0x80;

/** What the rest of a line leaves the next one in. */
type State = "code" | "comment" | "doubt";

/** The directives of a text, each from its `#` to the end of its line, continued lines joined; null when that is in doubt. */
export function directiveLines(bytes: Uint8Array, options: LineOptions): readonly Buffer[] | null {
  return numberedDirectives(bytes, options)?.map(({ line }) => line) ?? null;
}

/** The same with the places of the lines. */
export function numberedDirectives(bytes: Uint8Array, options: LineOptions): readonly NumberedDirective[] | null {
  const [text, ...others] = readingsOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  // A raw string may hold lines that look like directives.
  if (text === undefined || others.length > 0 || text.includes('R"')) return null;
  return new LineReader(text, options).read();
}

class LineReader {
  readonly #text: Buffer;
  readonly #lineComments: boolean;
  readonly #lines: NumberedDirective[] = [];
  #before = 0;

  constructor(text: Buffer, { lineComments }: LineOptions) {
    this.#text = text;
    this.#lineComments = lineComments;
  }

  read(): readonly NumberedDirective[] | null {
    const text = this.#text;
    let state: State = "code";
    for (let start = 0; start < text.length; ) {
      const newline = text.indexOf(NEWLINE, start);
      const end = newline < 0 ? text.length : newline;
      state = state === "comment" ? this.#inComment(start, end) : this.#inCode(start, end);
      if (state === "doubt") return null;
      start = end + 1;
      this.#before += 1;
    }
    return state === "code" ? this.#lines : null;
  }

  #inComment(start: number, end: number): State {
    const close = this.#within("*/", start, end);
    if (close < 0) return "comment";
    const at = this.#skip(close + 2, end);
    if (at < 0) return "comment";
    // Whether it is a directive depends on what stood before the comment.
    return this.#isHash(at, end) ? "doubt" : this.#rest(at, end);
  }

  #inCode(start: number, end: number): State {
    const at = this.#skip(start, end);
    if (at < 0) return "comment";
    if (!this.#isHash(at, end)) return this.#rest(at, end);
    if (this.#mayOpen(at, end)) return "doubt";
    this.#lines.push({ line: this.#text.subarray(at, end), before: this.#before });
    return "code";
  }

  /** Passes over white space and comments; -1 when a comment reaches over the line's end. */
  #skip(from: number, end: number): number {
    const text = this.#text;
    let at = from;
    for (;;) {
      while (at < end && isBlank(text[at]!)) at += 1;
      if (at + 1 >= end || text[at] !== SLASH || text[at + 1] !== STAR) return at;
      const close = this.#within("*/", at + 2, end);
      if (close < 0) return -1;
      at = close + 2;
    }
  }

  #isHash(at: number, end: number): boolean {
    const text = this.#text;
    return at < end && (text[at] === HASH || (text[at] === PERCENT && at + 1 < end && text[at + 1] === COLON));
  }

  /** Whether the line may be a directive behind a white space of Unicode's, which it is for Clang. */
  #isSpaceToSome(from: number, end: number): boolean {
    if (this.#text[from]! < ASCII_END) return false;
    const line = this.#text.subarray(from, end);
    return line.includes(HASH) || line.includes("%:");
  }

  /** Whether a comment may begin on the line that does not end on it, however its literals are read. */
  #mayOpen(from: number, end: number): boolean {
    const line = this.#text.subarray(from, end);
    const last = line.lastIndexOf("/*");
    return last >= 0 && line.indexOf("*/", last + 2) < 0;
  }

  /** Walks the code on the rest of a line. */
  #rest(from: number, end: number): State {
    if (from < end && this.#isSpaceToSome(from, end)) return "doubt";
    if (!this.#mayOpen(from, end)) return "code";
    const text = this.#text;
    for (let at = from; at < end; ) {
      const code = text[at]!;
      if (code === QUOTE || code === APOSTROPHE) {
        // It may part the digits of a number.
        if (code === APOSTROPHE && isWord(text[at - 1])) return "doubt";
        const close = this.#literalEnd(code, at + 1, end);
        if (close < 0) return "doubt";
        at = close + 1;
      } else if (code === SLASH && at + 1 < end && text[at + 1] === SLASH) {
        return this.#lineComments ? "code" : "doubt";
      } else if (code === SLASH && at + 1 < end && text[at + 1] === STAR) {
        const close = this.#within("*/", at + 2, end);
        if (close < 0) return "comment";
        at = close + 2;
      } else at += 1;
    }
    return "code";
  }

  #literalEnd(quote: number, from: number, end: number): number {
    const text = this.#text;
    for (let at = from; at < end; at += 1) {
      if (text[at] === quote) return at;
      if (text[at] === BACKSLASH) at += 1;
    }
    return -1;
  }

  /** Where a word stands on a line; -1 for nowhere. */
  #within(word: string, from: number, end: number): number {
    const at = this.#text.subarray(from, end).indexOf(word);
    return at < 0 ? -1 : from + at;
  }
}

/** Macros whose value is another one at each use. */
export type Count = "__LINE__" | "__COUNTER__";
/** Their values are strings, which no condition may hold: a macro with one beside the number of a line decides nothing. */
const STRINGS = ["__FILE__", "__BASE_FILE__"];
const DEFINE = /^(?:#|%:)[ \t]*define[ \t]/;

/**
 * Whether a directive of the text may depend on a count: on where lines stand, or on how often a text counted. Then all of every text
 * matters. `lines` gives the text's directives, null where they are in doubt; few texts need them.
 */
export function dependsOn(count: Count, bytes: Buffer, lines: () => readonly Buffer[] | null): boolean {
  if (!bytes.includes(count)) return false;
  return (
    lines()?.some((line) => {
      if (!line.includes(count)) return false;
      return !DEFINE.test(line.toString("latin1")) || !STRINGS.some((word) => line.includes(word));
    }) ?? true
  );
}

/** Whether the text has an operator that stands for a pragma amid code, and whether it names a pragma by which macros or files change. */
export function pragmaParts(bytes: Buffer): { readonly operator: boolean; readonly moves: boolean } {
  return {
    operator: ["_Pragma", "__pragma"].some((word) => bytes.includes(word)),
    moves: ["push_macro", "pop_macro", "include_alias", 'once"', 'system_header"'].some((word) => bytes.includes(word)),
  };
}

const RAW_OPEN = 'R"';
const RAW_DELIMITER_MAX = 16;
/** How many times the length of a text is looked at in search of the ends of raw strings. */
const LOOKS_MAX = 4;

/** Whether a raw string may go on behind the text's end: GCC then reads on in the file that includes it, and takes directives in. */
export function leavesOpen(bytes: Buffer): boolean {
  let budget = bytes.length * LOOKS_MAX + 1024;
  for (let at = bytes.indexOf(RAW_OPEN); at >= 0; at = bytes.indexOf(RAW_OPEN, at + RAW_OPEN.length)) {
    const open = at + RAW_OPEN.length;
    const length = bytes.subarray(open, open + RAW_DELIMITER_MAX + 1).indexOf("(");
    if (length < 0) continue;
    const delimiter = bytes.subarray(open, open + length).toString("latin1");
    const close = bytes.indexOf(`)${delimiter}"`, open + length, "latin1");
    budget -= close - open;
    if (close < 0 || budget < 0) return true;
  }
  return false;
}
