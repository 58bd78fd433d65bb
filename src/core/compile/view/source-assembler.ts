// Finds what an assembler may read by `.incbin` and `.include`, and where macros may make such a directive. Pure.
// UNTRUSTED: the text is a checkout's. One pass; looks ahead are bounded. Comments count, as their signs differ by
// target, but for a word in one that each target takes for a comment.
import { BACKSLASH, DOT, HASH, isBlank, isWord, NEWLINE, OPEN, QUESTION, QUOTE, SLASH, STAR } from "./source-bytes.ts";
import type { Findings } from "./source-findings.ts";
import { GAP, MACRO_GAP } from "./source-literals.ts";
import { Seeker, skipSpace } from "./source-seek.ts";

/** What a text is to the assembler: all of it, what literals hold (in which gaps part them), or a C source that macros may make strings of. */
export type AssemblerText = "assembler" | "literals" | "source";

const WORDS = ["incbin", "include"] as const;
const NAME_MAX = 4096;
const LOWER = 0x20;
const LETTER_C = 0x63;
const LETTER_I = 0x69;
const LETTER_N = 0x6e;
/** What begins no name of an argument of an assembler's macro; `n` is a line end that is spelled twice. */
const NO_ARGUMENT = Buffer.from("n?/,;: *%+-=!<>~^|#[]{}");
/** What may stand before a directive in a string. */
const STATEMENT_START = Buffer.from([0, GAP, MACRO_GAP, 0x09, NEWLINE, 0x0d, 0x20, 0x3a, 0x3b]);
const STOPS = new Uint8Array(256);
for (const code of [LETTER_C, LETTER_C & ~LOWER, DOT, BACKSLASH, GAP, MACRO_GAP, QUOTE, STAR]) STOPS[code] = 1;
/** Blanks that are looked over between a line's start or end and what stands next to it. */
const BLANKS_MAX = 16;

export class AssemblerSearch {
  readonly #text: Buffer;
  readonly #kind: AssemblerText;
  readonly #findings: Findings;
  readonly #closes: Seeker;
  /** Ends of directives that a literal begins with, and beginnings that one ends with. */
  readonly #heads = new Set<string>();
  readonly #tails = new Set<string>();
  /** Literals that are a part of a directive's name and nothing else: between a beginning and an end there may be any number. */
  readonly #middles = new Set<string>();
  /** Whether a literal ends with a dot that may begin a directive. */
  #dot = false;
  #glued = false;
  #bare = false;
  /** Whether all of the text since the start of a line is a comment, to the preprocessor and to the assembler. */
  #commented = false;

  constructor(text: Buffer, kind: AssemblerText, findings: Findings) {
    this.#text = text;
    this.#kind = kind;
    this.#findings = findings;
    this.#closes = new Seeker(text, "*/");
  }

  run(): void {
    const text = this.#text;
    const { length } = text;
    if (this.#kind === "assembler" && /\.mri/i.test(text.toString("latin1", 0, length))) this.#computed();
    for (let at = 0; at < length; at += 1) {
      const code = text[at]!;
      if (STOPS[code] === 0) continue;
      if ((code | LOWER) === LETTER_C) {
        if ((text[at - 1]! | LOWER) === LETTER_N && (text[at - 2]! | LOWER) === LETTER_I) this.#word(at - 2);
      } else if (code === DOT) {
        if ((text[at + 1]! | LOWER) === LETTER_I || text[at + 1] === BACKSLASH) this.#part(at);
        else if (this.#kind === "literals" && isGap(text[at + 1])) this.#loneDot(at);
      } else if (code === STAR || code === QUOTE) {
        if (this.#kind === "assembler") this.#comment(at);
      } else if (code === BACKSLASH) {
        if (this.#kind === "assembler") this.#argument(at);
      } else if (this.#kind === "literals") this.#literalStart(at + 1);
    }
    if (this.#kind === "literals") {
      this.#literalStart(0);
      for (const head of this.#heads)
        if (WORDS.some((word) => word.startsWith(head) && this.#ends(word.slice(head.length)))) this.#computed();
      // A dot and a whole name stand in many a program: only parts of the name tell of a directive.
      if (this.#dot && WORDS.some((word) => !this.#tails.has(word) && this.#ends(word))) this.#computed();
    }
    if (this.#glued && this.#bare) this.#computed();
  }

  #computed(): void {
    this.#findings.flag("computedAssemblerRead");
  }

  /** Looks at `inc`, the start of both directives' names. */
  #word(at: number): void {
    const text = this.#text;
    const word = WORDS.find((word) => text.toString("latin1", at, at + word.length).toLowerCase() === word);
    if (word === undefined) return this.#pasted(at);
    const after = at + word.length;
    if (text[at - 1] !== DOT) {
      if (isWord(text[at - 1])) return;
      if (word === "incbin" && !isWord(text[after])) this.#computed();
      else if (this.#kind === "assembler" && !this.#commented && !isDirective(text, at)) this.#bare = true;
      return;
    }
    if (isWord(text[after])) return;
    if (text[at - 2] === QUOTE && text[after] === QUOTE) return this.#computed();
    const operand = skipSpace(text, after, this.#closes, false);
    const escaped = operand >= 0 && text[operand] === BACKSLASH && text[operand + 1] === QUOTE;
    const quoted = escaped || (operand >= 0 && text[operand] === QUOTE);
    if (quoted) this.#operand(word, operand + (escaped ? 2 : 1), escaped);
    else if (this.#kind !== "source" || word === "incbin") this.#computed();
  }

  /**
   * Looks at a star or a quote. A comment that begins in a line is not counted as one, since a string or another comment may hold its sign;
   * nor is what follows a quote in a comment, since a string over several lines may hold that, or a star that a joined line may end it with.
   */
  #comment(at: number): void {
    const text = this.#text;
    const [before, after] = [text[at - 1], text[at + 1]];
    if (this.#commented)
      this.#commented = text[at] === STAR && after !== SLASH && after !== BACKSLASH && after !== QUESTION;
    else this.#commented = text[at] === STAR && before === SLASH && after !== SLASH && beginsLine(text, at - 1);
  }

  /** Looks at a part of a directive's name without its dot. */
  #pasted(at: number): void {
    const text = this.#text;
    if (this.#kind === "literals" || isWord(text[at - 1])) return;
    let after = at;
    while (after < at + 8 && isWord(text[after])) after += 1;
    const head = text.toString("latin1", at, after).toLowerCase();
    if (WORDS.some((word) => word.startsWith(head)) && isPasted(text, after)) this.#computed();
  }

  #operand(word: (typeof WORDS)[number], from: number, escaped: boolean): void {
    const text = this.#text;
    const stop = Math.min(text.length, from + NAME_MAX);
    let at = from;
    while (at < stop && !isNameEnd(text[at]!)) at += 1;
    const closed = escaped ? text[at] === BACKSLASH && text[at + 1] === QUOTE : text[at] === QUOTE;
    if (closed) this.#findings.assemblerRead(word, text, from, at);
    else this.#computed();
  }

  /** Looks at a dot that may begin a directive whose rest is put to it by a macro. */
  #part(dot: number): void {
    const text = this.#text;
    const before = text[dot - 1] ?? NEWLINE;
    if (isWord(before) || (this.#kind === "literals" && !STATEMENT_START.includes(before))) return;
    let after = dot + 1;
    while (after < dot + 8 && isWord(text[after])) after += 1;
    if (isWord(text[after])) return;
    const head = text.toString("latin1", dot + 1, after).toLowerCase();
    if (!WORDS.some((word) => word !== head && word.startsWith(head))) return;
    const next = text[after];
    if (this.#kind === "assembler") {
      if (head !== "" || next === BACKSLASH) this.#glued = true;
      if (head !== "" && !(isBlank(next ?? NEWLINE) && isAssigned(text, after))) this.#computed();
    } else if (this.#kind === "literals") {
      if (next === MACRO_GAP || (next === BACKSLASH && mayBeArgument(text[after + 1]))) this.#computed();
      else if (next === GAP) this.#heads.add(head);
    } else if (next === HASH || (isBlank(next ?? NEWLINE) && isPasted(text, after))) this.#computed();
  }

  #loneDot(at: number): void {
    this.#dot ||= STATEMENT_START.includes(this.#text[at - 1] ?? NEWLINE);
  }

  /** Looks at an argument of the assembler's macros that stands beside another or beside the end of a directive. */
  #argument(at: number): void {
    const text = this.#text;
    if (text[at - 1] === DOT) this.#glued = true;
    let after = at + 1;
    if (text[after] === OPEN) after += 2;
    else while (after < at + 64 && isWord(text[after])) after += 1;
    if (text[after] === BACKSLASH) this.#glued = true;
    let end = after;
    while (end < after + 8 && isWord(text[end])) end += 1;
    const tail = text.toString("latin1", after, end).toLowerCase();
    if (tail.length > 1 && WORDS.some((word) => word.endsWith(tail)) && !isWord(text[end])) this.#computed();
  }

  #literalStart(at: number): void {
    const text = this.#text;
    let after = at;
    while (after < at + 8 && isWord(text[after])) after += 1;
    if (after === at || isWord(text[after])) return;
    const start = text.toString("latin1", at, after).toLowerCase();
    this.#tails.add(start);
    if (isGap(text[after])) this.#middles.add(start);
  }

  /**
   * Whether literals, one after another, could make the rest of a directive's name. One of them may be a single letter: many a program
   * has a literal for each letter.
   */
  #ends(rest: string, letters = 1): boolean {
    if (this.#tails.has(rest) && (rest.length > 1 || letters > 0)) return true;
    for (let length = letters > 0 ? 1 : 2; length < rest.length; length += 1)
      if (
        this.#middles.has(rest.slice(0, length)) &&
        this.#ends(rest.slice(length), length === 1 ? letters - 1 : letters)
      )
        return true;
    return false;
  }
}

function isGap(code: number | undefined): boolean {
  return code === GAP || code === MACRO_GAP;
}

function isNameEnd(code: number): boolean {
  return code === QUOTE || code === BACKSLASH || code === NEWLINE || code === GAP || code === MACRO_GAP;
}

/** Whether `include` stands after `#`: the preprocessor takes it away before the assembler sees it. */
function isDirective(text: Buffer, at: number): boolean {
  let before = at - 1;
  while (before >= at - 16 && isBlank(text[before] ?? NEWLINE)) before -= 1;
  return text[before] === HASH;
}

/** Whether only blanks stand before in a line that is not joined to the one above. */
function beginsLine(text: Buffer, at: number): boolean {
  const start = beforeBlanks(text, at);
  if (start < 0) return true;
  if (text[start] !== NEWLINE) return false;
  const above = beforeBlanks(text, start);
  const joined = text[above] === BACKSLASH || (text[above] === SLASH && text[above - 1] === QUESTION);
  return !joined && !isBlank(text[above] ?? NEWLINE);
}

/** Where the last byte stands that is no blank, -1 if there is none. Where there are too many blanks, one of them. */
function beforeBlanks(text: Buffer, from: number): number {
  let at = from - 1;
  while (at >= 0 && at > from - BLANKS_MAX && isBlank(text[at]!)) at -= 1;
  return at;
}

function isPasted(text: Buffer, from: number): boolean {
  let at = from;
  while (at < from + 16 && isBlank(text[at] ?? NEWLINE)) at += 1;
  return text[at] === HASH && text[at + 1] === HASH;
}

/** Whether what follows a backslash in the assembler's text may be an argument of its macros: names begin with none of these signs. */
function mayBeArgument(code: number | undefined): boolean {
  return code === undefined || !NO_ARGUMENT.includes(code);
}

/** Whether a symbol is set: `.in = 1`. */
function isAssigned(text: Buffer, from: number): boolean {
  let at = from;
  while (at < from + 16 && isBlank(text[at] ?? NEWLINE)) at += 1;
  return text[at] === 0x3d;
}
