// Reads the directives and operators of C's preprocessor that name files or change macros. Pure.
// UNTRUSTED: the text is a checkout's. Every look ahead is bounded or remembered, so that the time stays linear.
import {
  APOSTROPHE,
  BACKSLASH,
  CLOSE,
  GREATER,
  isBlank,
  isWord,
  LESS,
  OPEN,
  QUOTE,
  SLASH,
  STAR,
} from "./source-bytes.ts";
import type { Findings } from "./source-findings.ts";
import { Seeker, skipSpace } from "./source-seek.ts";
import { testMacroAt } from "./test-macros.ts";

/** What a directive still waits for when a comment reaches over its line's end; a set of bits. */
export const PENDING = { none: 0, directive: 1, include: 2, embed: 4, definition: 8 } as const;

export interface DirectiveEnd {
  readonly pending: number;
  /** Whether compilers may disagree about where literals and comments are on this line. */
  readonly doubt: boolean;
}

const DONE: DirectiveEnd = { pending: PENDING.none, doubt: false };
const WORD_MAX = 32;
/** Longer operands are taken for other than a macro's name. */
/** Of a macro, with something in them. */
const OPERANDS = /\([ \t\f\v]*[^) \t\f\v]/;
const MACRO_MAX = 256;
const PREDEFINED_CHANGERS = new Set(["target", "optimize", "push_options", "pop_options", "reset_options"]);
const LISTED_NOWHERE = new Set(["dependency", "pch_preprocess", "include_alias"]);

export class DirectiveReader {
  readonly #text: Buffer;
  readonly #findings: Findings;
  readonly #closes: Seeker;
  readonly #quotes: Seeker;
  readonly #angles: Seeker;

  constructor(text: Buffer, findings: Findings) {
    this.#text = text;
    this.#findings = findings;
    this.#closes = new Seeker(text, "*/");
    this.#quotes = new Seeker(text, '"');
    this.#angles = new Seeker(text, ">");
  }

  /** Reads on after a `#` on the line that ends at `end`. */
  directive(from: number, end: number): DirectiveEnd {
    const at = this.#skip(from, end);
    if (at < 0) return { pending: PENDING.directive, doubt: true };
    const name = wordAt(this.#text, at, end);
    const after = at + name.length;
    switch (name) {
      case "include":
      case "include_next":
      case "import":
      case "__include_macros":
        return { pending: this.operand(after, end, PENDING.include), doubt: isOddName(this.#text, after, end) };
      case "embed":
        return { pending: this.operand(after, end, PENDING.embed), doubt: isOddName(this.#text, after, end) };
      case "define":
        this.definition(after, end);
        return { pending: PENDING.definition, doubt: false };
      case "pragma":
        this.#pragma(this.#text, after, end);
        return DONE;
      case "error":
      case "warning":
        return { pending: PENDING.none, doubt: true };
      default:
        return DONE;
    }
  }

  /** Reads the operand of an include or embed directive; what the directive still waits for. */
  operand(from: number, end: number, kind: typeof PENDING.include | typeof PENDING.embed): number {
    const at = this.#skip(from, end);
    if (at < 0) return kind;
    const quoted = this.#text[at] === QUOTE;
    const close = quoted ? this.#quotes.next(at + 1) : this.#text[at] === LESS ? this.#angles.next(at + 1) : end;
    const computed = close >= end;
    if (computed) this.#computed(at, end, kind);
    else this.#named(at + 1, close, quoted, kind);
    if (quoted && !computed && this.#text[close - 1] === BACKSLASH) {
      // A backslash hides a quote from Clang, not from GCC.
      const longer = literalEnd(this.#text, at + 1, end);
      if (longer < end) this.#named(at + 1, longer, quoted, kind);
    }
    return PENDING.none;
  }

  #computed(at: number, end: number, kind: typeof PENDING.include | typeof PENDING.embed): void {
    if (kind === PENDING.embed) return this.#findings.flag("computedEmbed");
    this.#findings.flag("computedInclude");
    const operand = this.#text.toString("latin1", at, Math.min(end, at + MACRO_MAX)).trimEnd();
    if (end - at < MACRO_MAX && /^[A-Za-z_]\w*$/.test(operand)) this.#findings.includeMacro(operand);
    else this.#findings.flag("oddInclude");
    if (end - at >= MACRO_MAX || OPERANDS.test(withoutComments(operand))) this.#findings.flag("madeInclude");
  }

  /** Gathers the names that a macro's replacement list may hold. */
  definition(from: number, end: number): void {
    const text = this.#text;
    let first = -1;
    let last = -1;
    let quote = -1;
    for (let at = from; at < end; at += 1) {
      const code = text[at];
      if (code === QUOTE) {
        if (quote >= 0) this.#findings.definition(text, quote + 1, at);
        quote = at;
      } else if (code === LESS) {
        if (first < 0) first = at;
        last = at;
      } else if (code === GREATER && first >= 0) {
        this.#findings.definition(text, first + 1, at);
        if (last > first) this.#findings.definition(text, last + 1, at);
        first = -1;
      }
    }
  }

  /** Reads an operator or macro of interest whose name begins at `at`; the offset after what was read. */
  word(at: number, end: number): number {
    const text = this.#text;
    let after = at;
    while (after < end && isWord(text[after])) after += 1;
    const length = after - at;
    if (length > WORD_MAX) return after;
    const name = text.toString("latin1", at, after);
    if (name === "__DATE__" || name === "__TIME__") this.#findings.flag("dates");
    else if (name === "__TIMESTAMP__") {
      this.#findings.flag("dates");
      this.#findings.flag("timestamp");
    } else if (name === "_Pragma" || name === "__pragma") this.#pragmaOperator(after, name === "__pragma");
    else if (name.startsWith("__has_include") || name.startsWith("__has_embed")) return this.#test(at, after, end);
    return after;
  }

  #named(from: number, to: number, quoted: boolean, kind: typeof PENDING.include | typeof PENDING.embed): void {
    if (kind === PENDING.include) this.#findings.include(this.#text, from, to, quoted);
    else this.#findings.embed(this.#text, from, to);
  }

  #test(name: number, from: number, end: number): number {
    const text = this.#text;
    const open = skipSpace(text, from, this.#closes, false);
    if (open < 0 || text[open] !== OPEN) {
      if (open < 0 || !isMereTest(text, name)) this.#findings.flag("computedTest");
      return from;
    }
    const at = skipSpace(text, open + 1, this.#closes, false);
    const quoted = at >= 0 && text[at] === QUOTE;
    const close = quoted ? this.#quotes.next(at + 1) : at >= 0 && text[at] === LESS ? this.#angles.next(at + 1) : -1;
    const macro = close < 0 ? testMacroAt(text, name) : null;
    if (macro !== null) this.#findings.testMacro(macro);
    else if (close < 0 || close >= end) this.#findings.flag("computedTest");
    else this.#findings.test(text, at + 1, close, quoted);
    return from;
  }

  #pragmaOperator(from: number, microsoft: boolean): void {
    const text = this.#text;
    const open = skipSpace(text, from, this.#closes, true);
    if (open < 0 || text[open] !== OPEN) return this.#findings.flag("macroPragma");
    let at = skipSpace(text, open + 1, this.#closes, true);
    if (at < 0) return this.#findings.flag("macroPragma");
    if (microsoft) return this.#pragma(text, at, Math.min(at + PRAGMA_MAX, text.length));
    if (text[at] === 0x75 && text[at + 1] === 0x38) at += 2;
    else if (text[at] === 0x4c || text[at] === 0x55 || text[at] === 0x75) at += 1;
    const limit = Math.min(at + PRAGMA_MAX, text.length);
    const close = text[at] === QUOTE ? literalEnd(text, at + 1, limit) : limit;
    const after = close < limit ? skipSpace(text, close + 1, this.#closes, true) : -1;
    if (after < 0 || text[after] !== CLOSE) return this.#findings.flag("macroPragma");
    const operand = Buffer.from(text.toString("latin1", at + 1, close).replaceAll(/\\(["\\])/g, "$1"), "latin1");
    this.#pragma(operand, 0, operand.length);
  }

  /** Judges a pragma by its first two words. */
  #pragma(text: Buffer, from: number, end: number): void {
    const first = this.#pragmaWord(text, from, end);
    if (first === null) return;
    const { word } = first;
    if (PREDEFINED_CHANGERS.has(word)) this.#findings.flag("macroPragma");
    if (LISTED_NOWHERE.has(word)) this.#findings.flag("pragmaDependency");
    if (word !== "GCC" && word !== "clang") return;
    const second = this.#pragmaWord(text, first.end, end);
    if (second === null) return;
    if (PREDEFINED_CHANGERS.has(second.word)) this.#findings.flag("macroPragma");
    if (LISTED_NOWHERE.has(second.word) || second.word === "module") this.#findings.flag("pragmaDependency");
  }

  /** Null when a comment hides the word; then it may be any. */
  #pragmaWord(text: Buffer, from: number, end: number): { word: string; end: number } | null {
    const closes = text === this.#text ? this.#closes : new Seeker(text, "*/");
    const at = skipSpace(text, from, closes, false);
    if (at < 0 || at > end) {
      this.#findings.flag("macroPragma");
      this.#findings.flag("pragmaDependency");
      return null;
    }
    const word = wordAt(text, at, end);
    return { word, end: at + word.length };
  }

  /** Passes over white space and comments on a line; -1 when a comment reaches over its end. */
  #skip(from: number, end: number): number {
    const text = this.#text;
    let at = from;
    while (at < end) {
      if (isBlank(text[at]!)) at += 1;
      else if (text[at] === SLASH && text[at + 1] === STAR) {
        const close = this.#closes.next(at + 2);
        if (close >= end) return -1;
        at = close + 2;
      } else break;
    }
    return at;
  }
}

/** Whether what follows is other than a name that holds no begin of a comment or literal. */
function isOddName(text: Buffer, from: number, end: number): boolean {
  let at = from;
  while (at < end && isBlank(text[at]!)) at += 1;
  const close = text[at] === QUOTE ? QUOTE : text[at] === LESS ? GREATER : -1;
  for (at += 1; at < end; at += 1) {
    const code = text[at];
    if (code === close) return false;
    if (code === QUOTE || code === APOSTROPHE || code === BACKSLASH) return true;
    if (code === SLASH && (text[at + 1] === STAR || text[at + 1] === SLASH)) return true;
  }
  return true;
}

const PRAGMA_MAX = 4096;

/** Offset of the quote that ends a literal, escapes minded; `end` when there is none. */
export function literalEnd(text: Buffer, from: number, end: number): number {
  for (let at = from; at < end; at += 1) {
    const code = text[at];
    if (code === QUOTE) return at;
    if (code === BACKSLASH) at += 1;
  }
  return end;
}

function wordAt(text: Buffer, at: number, end: number): string {
  let after = at;
  while (after < end && after - at < WORD_MAX && isWord(text[after])) after += 1;
  return text.toString("latin1", at, after);
}

const DEFINED_BEFORE = new Set(["defined", "ifdef", "ifndef", "elifdef", "elifndef", "undef"]);
const BEFORE_MAX = 64;

/** Whether the name of an operator is only asked for, as in `defined(__has_include)` and `#ifdef __has_include`. */
function isMereTest(text: Buffer, name: number): boolean {
  let at = name - 1;
  const stop = Math.max(0, name - BEFORE_MAX);
  const back = () => {
    while (at >= stop && isBlank(text[at]!)) at -= 1;
  };
  back();
  if (text[at] === OPEN) {
    at -= 1;
    back();
  }
  const last = at + 1;
  while (at >= stop && isWord(text[at])) at -= 1;
  return DEFINED_BEFORE.has(text.toString("latin1", at + 1, last));
}

function withoutComments(text: string): string {
  let kept = "";
  for (let at = 0; ; ) {
    const open = text.indexOf("/*", at);
    if (open < 0) return kept + text.slice(at).split("//", 1)[0]!;
    kept += text.slice(at, open);
    const close = text.indexOf("*/", open + 2);
    if (close < 0) return kept;
    at = close + 2;
  }
}
