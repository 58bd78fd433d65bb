// Walks a source text line by line and tells code from comments and literals, as far as every compiler agrees. A line may begin in
// code, in a comment, or in either: what only one compiler, language or standard sees is walked as both. Pure. UNTRUSTED: the text
// is a checkout's. Each line is looked at a bounded number of times.
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
  UNDERSCORE,
} from "./source-bytes.ts";
import { DirectiveReader, PENDING } from "./source-directives.ts";
import type { Findings } from "./source-findings.ts";
import type { LiteralText } from "./source-literals.ts";

/** What a line may begin in; a set of bits. */
const CODE = 1;
const COMMENT = 2;

/** Bytes at which the walk over code stops. */
const STOPS = new Uint8Array(256);
for (const code of [SLASH, QUOTE, APOSTROPHE]) STOPS[code] = 1;
const STOPS_AND_WORDS = Uint8Array.from(STOPS);
STOPS_AND_WORDS[UNDERSCORE] = 1;
const STOPS_AND_MODULES = Uint8Array.from(STOPS_AND_WORDS);
for (const code of [0x3b, 0x7d]) STOPS_AND_MODULES[code] = 1;

const RAW_DELIMITER_MAX = 16;

export interface WalkOptions {
  /** Takes the string literals; null for assembler text, in which quotes mean less. */
  readonly literals: LiteralText | null;
}

export class SourceWalk {
  readonly #text: Buffer;
  readonly #findings: Findings;
  readonly #directives: DirectiveReader;
  readonly #literals: LiteralText | null;
  readonly #stops: Uint8Array;
  readonly #words: boolean;
  readonly #modules: boolean;
  /** Offsets, in pairs and in order, between which lie comments and literals beyond doubt. */
  readonly inert: number[] = [];
  /** Set where a raw string may have begun that does not end on its line: from there on every line may be code. */
  #lost = false;
  /** What directives wait for whose line ended in a comment. */
  #pending: number = PENDING.none;
  #doubt = false;
  /** Raw strings that ended on the current line. */
  #rawStrings = 0;

  constructor(text: Buffer, findings: Findings, { literals }: WalkOptions) {
    this.#text = text;
    this.#findings = findings;
    this.#literals = literals;
    this.#directives = new DirectiveReader(text, findings);
    const has = (word: string) => text.includes(word, 0, "latin1");
    this.#words = ["__DATE__", "__TIME", "_Pragma", "__pragma", "__has_include", "__has_embed"].some(has);
    this.#modules = literals !== null && ["import", "module"].some(has);
    this.#stops = this.#modules ? STOPS_AND_MODULES : this.#words ? STOPS_AND_WORDS : STOPS;
  }

  run(): void {
    const text = this.#text;
    let states = CODE;
    for (let start = 0; start < text.length; ) {
      const newline = text.indexOf(NEWLINE, start);
      const end = newline < 0 ? text.length : newline;
      let next = 0;
      if (states === COMMENT) this.inert.push(start, commentEnd(text, start, end));
      if ((states & COMMENT) !== 0) next |= this.#comment(start, end);
      if ((states & CODE) !== 0) next |= this.#line(start, end);
      states = this.#lost ? CODE | COMMENT : next;
      if ((states & COMMENT) === 0) this.#pending = PENDING.none;
      start = end + 1;
    }
  }

  /** Walks a line that begins in a comment; what the next may begin in. */
  #comment(start: number, end: number): number {
    const close = closeOnLine(this.#text, start, end);
    if (close < 0) return COMMENT;
    const pending = this.#pending;
    const from = close + 2;
    let waits: number = PENDING.none;
    if ((pending & PENDING.directive) !== 0) waits |= this.#directives.directive(from, end).pending;
    if ((pending & PENDING.include) !== 0) waits |= this.#directives.operand(from, end, PENDING.include);
    if ((pending & PENDING.embed) !== 0) waits |= this.#directives.operand(from, end, PENDING.embed);
    if ((pending & PENDING.definition) !== 0) {
      this.#directives.definition(from, end);
      waits |= PENDING.definition;
    }
    const next = this.#line(from, end);
    if ((next & COMMENT) !== 0) this.#pending |= waits;
    return next;
  }

  /** Walks a line, or the rest of one, that begins in code where a directive may stand; what the next may begin in. */
  #line(start: number, end: number): number {
    const text = this.#text;
    this.#doubt = this.#lost;
    this.#rawStrings = 0;
    const inert = this.inert.length;
    let waits: number = PENDING.none;
    let at = start;
    for (;;) {
      while (at < end && isBlank(text[at]!)) at += 1;
      if (at >= end) return CODE;
      if (text[at] !== SLASH || text[at + 1] !== STAR) break;
      const close = closeOnLine(text, at + 2, end);
      if (close < 0) {
        if (!this.#lost) this.inert.push(at, end);
        return COMMENT;
      }
      if (!this.#lost) this.inert.push(at, close + 2);
      this.#literals?.comment(at, close + 2);
      at = close + 2;
    }
    const hash = text[at] === HASH ? 1 : text[at] === PERCENT && text[at + 1] === COLON ? 2 : 0;
    if (hash > 0) {
      const { pending, doubt } = this.#directives.directive(at + hash, end);
      waits = pending;
      if (doubt) this.#doubt = true;
    } else if (this.#modules) this.#moduleWord(at, end);
    let next = this.#code(at, end);
    if (this.#doubt) {
      this.inert.length = inert;
      next |= this.#wholeLine(start, end);
    }
    if ((next & COMMENT) !== 0) this.#pending |= waits;
    return next;
  }

  /** Walks code up to the end of a line. */
  #code(from: number, end: number): number {
    const text = this.#text;
    const stops = this.#stops;
    let at = from;
    while (at < end) {
      const code = text[at]!;
      if (stops[code] === 0) at += 1;
      else if (code === UNDERSCORE) at = isWord(text[at - 1]) ? at + 1 : this.#directives.word(at, end);
      else if (code === QUOTE) at = this.#string(at, end);
      else if (code === APOSTROPHE) at = this.#character(at, end);
      else if (code === SLASH) {
        if (text[at + 1] === STAR) {
          const close = closeOnLine(text, at + 2, end);
          this.inert.push(at, close < 0 ? end : close + 2);
          if (close < 0) return COMMENT;
          this.#literals?.comment(at, close + 2);
          at = close + 2;
        } else if (text[at + 1] === SLASH) {
          this.#lineComment(at, end);
          return CODE;
        } else at += 1;
      } else {
        at += 1;
        while (at < end && isBlank(text[at]!)) at += 1;
        this.#moduleWord(at, end);
      }
    }
    return CODE;
  }

  /** To a strict C90 compiler a comment of one line is a division, and may hold a comment's begin. */
  #lineComment(at: number, end: number): void {
    this.#literals?.comment(at, end);
    this.inert.push(at, end);
    for (let open = at + 1; open + 1 < end; open += 1)
      if (this.#text[open] === SLASH && this.#text[open + 1] === STAR) {
        this.#doubt = true;
        return;
      }
  }

  #string(quote: number, end: number): number {
    const text = this.#text;
    if (text[quote - 1] === 0x52) {
      this.#doubt = true;
      const after = this.#lost ? -1 : this.#rawString(quote, end);
      if (after >= 0) return after;
    }
    let at = quote + 1;
    while (at < end && text[at] !== QUOTE) at += text[at] === BACKSLASH ? 2 : 1;
    if (at >= end) {
      this.#doubt = true;
      at = end;
    }
    this.inert.push(quote, Math.min(at + 1, end));
    this.#literals?.add({ start: quote, end: at + 1, from: quote + 1, to: Math.min(at, end), escapes: true });
    return at + 1;
  }

  /** Offset after a raw string that ends on its line; -1 when it does not, or is none. */
  #rawString(quote: number, end: number): number {
    const text = this.#text;
    const open = rawOpen(text, quote, end);
    if (open < 0) return -1;
    const close = text.subarray(open + 1, end).indexOf(`)${text.toString("latin1", quote + 1, open)}"`, 0, "latin1");
    if (close < 0) {
      this.#lost = true;
      return -1;
    }
    const to = open + 1 + close;
    const after = to + (open - quote) + 1;
    this.#literals?.add({ start: quote, end: after, from: open + 1, to, escapes: false });
    this.#rawStrings += 1;
    return after;
  }

  #character(apostrophe: number, end: number): number {
    const text = this.#text;
    if (isWord(text[apostrophe - 1])) {
      // A digit separator, or a literal with a prefix.
      this.#doubt = true;
      if (isHexDigit(text[apostrophe - 1]!) && isWord(text[apostrophe + 1]) && text[apostrophe + 2] !== APOSTROPHE)
        return apostrophe + 1;
    }
    let at = apostrophe + 1;
    while (at < end && text[at] !== APOSTROPHE) at += text[at] === BACKSLASH ? 2 : 1;
    if (at >= end) this.#doubt = true;
    this.inert.push(apostrophe, Math.min(at + 1, end));
    return at + 1;
  }

  /** Looks at a line on which compilers may disagree as if it had neither comments nor literals; what the next may begin in too. */
  #wholeLine(start: number, end: number): number {
    const text = this.#text;
    let comment = -1;
    let raw = 0;
    for (let at = start; at < end; at += 1) {
      const code = text[at];
      if (code === SLASH && text[at + 1] === STAR) comment = at;
      else if (code === QUOTE && text[at - 1] === 0x52 && rawOpen(text, at, end) >= 0) raw += 1;
      else if (code === UNDERSCORE && this.#words && !isWord(text[at - 1])) at = this.#directives.word(at, end) - 1;
    }
    if (raw > this.#rawStrings) this.#lost = true;
    return comment >= 0 && closeOnLine(text, comment + 2, end) < 0 ? CODE | COMMENT : CODE;
  }

  /** Looks for what makes a text part of a module, at the start of a line or statement. */
  #moduleWord(at: number, end: number): void {
    const text = this.#text;
    const from = text[at] === 0x40 ? at + 1 : at;
    const word = wordAt(text, from, end);
    if (word !== "import" && word !== "module" && word !== "export") return;
    let after = from + word.length;
    while (after < end && isBlank(text[after]!)) after += 1;
    const next = word === "export" ? wordAt(text, after, end) : "";
    const isModule =
      word === "export"
        ? next === "import" || next === "module" || text[after] === SLASH
        : after >= end || isWord(text[after]) || text[after]! >= 0x80 || MODULE_SIGNS.includes(text[after]!);
    if (isModule) this.#findings.flag("modules");
  }
}

/** Signs after `import` and `module`: those of header names, partitions, comments and the end of a statement. */
const MODULE_SIGNS = Buffer.from('<":;/');
const WORD_MAX = 8;

function wordAt(text: Buffer, at: number, end: number): string {
  let after = at;
  while (after < end && after - at < WORD_MAX && isWord(text[after])) after += 1;
  return text.toString("latin1", at, after);
}

/** Offset of the parenthesis that opens a raw string's text; -1 when there is none. */
function rawOpen(text: Buffer, quote: number, end: number): number {
  const stop = Math.min(end, quote + RAW_DELIMITER_MAX + 2);
  for (let at = quote + 1; at < stop; at += 1) if (text[at] === 0x28) return at;
  return -1;
}

/** Offset of the next end of a comment that lies on the line; -1 when there is none. */
function closeOnLine(text: Buffer, from: number, end: number): number {
  for (let at = from; at + 1 < end; at += 1) if (text[at] === STAR && text[at + 1] === SLASH) return at;
  return -1;
}

function commentEnd(text: Buffer, start: number, end: number): number {
  const close = closeOnLine(text, start, end);
  return close < 0 ? end : close + 2;
}

function isHexDigit(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || ((code | 0x20) >= 0x61 && (code | 0x20) <= 0x66);
}
