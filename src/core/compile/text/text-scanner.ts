// Walks preprocessed C or C++ text line by line and tells directives and linemarkers from lines that only look like them
// (in comments, strings, raw strings, after a line continuation). Pure; knows no file.
// UNTRUSTED: the text is a checkout's. One pass, constant memory but for the bracket stack, which has a limit.

const SLASH = 0x2f;
const STAR = 0x2a;
const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const NEWLINE = 0x0a;
const HASH = 0x23;

/** Classes of bytes that the inner loop stops at. */
const PLAIN = 0;
const STOP_SLASH = 1;
const STOP_QUOTE = 2;
const STOP_APOSTROPHE = 3;
const STOP_BACKSLASH = 4;
const STOP_NEWLINE = 5;
const STOP_OPEN = 6;
const STOP_CLOSE = 7;
const BLANK = 8;

const CLASSES = new Uint8Array(256);
for (const [text, stop] of [
  ["/", STOP_SLASH],
  ['"', STOP_QUOTE],
  ["'", STOP_APOSTROPHE],
  ["\\", STOP_BACKSLASH],
  ["\n", STOP_NEWLINE],
  ["([{", STOP_OPEN],
  [")]}", STOP_CLOSE],
  [" \t\r\f\v", BLANK],
] as const)
  for (const character of text) CLASSES[character.charCodeAt(0)] = stop;

const IDENTIFIER = new Uint8Array(256);
for (let code = 0; code < 256; code += 1)
  if (code >= 0x80 || /[A-Za-z0-9_$]/.test(String.fromCharCode(code))) IDENTIFIER[code] = 1;

/** What a line goes on with from the line before. */
type Mode = "code" | "block" | "line-comment" | "string" | "character" | "raw";

/** Bracket depth past which the scanner no longer tells brackets apart. */
const BRACKETS_MAX = 4096;
const RAW_DELIMITER_MAX = 16;

export interface ScannerOptions {
  /** Whether `R"x(...)x"` is a string, and `1'000` a number. */
  readonly rawStrings: boolean;
  readonly digitSeparators: boolean;
}

export class TextScanner {
  readonly text: string;
  /** Offset of the current line's first byte, and just after its last one. */
  start = 0;
  end = -1;
  /** True when the current line holds nothing but white space and began as code. */
  blank = false;
  /** True when the current line began as code (no comment, string or continuation reaches into it). */
  fresh = true;
  /** True when the first byte of a fresh line that is not white space is `#`. */
  hash = false;
  rawStrings: boolean;
  digitSeparators: boolean;

  #next = 0;
  #mode: Mode = "code";
  #continued = false;
  #rawEnd = "";
  /** Open brackets: true for one inside which a diagnostic's range may span lines. */
  readonly #brackets: boolean[] = [];
  #lastCode = 0;

  constructor(text: string, options: ScannerOptions) {
    this.text = text;
    this.rawStrings = options.rawStrings;
    this.digitSeparators = options.digitSeparators;
  }

  /** True when a range of source may reach over the end of the current line: in brackets, or in mid-statement. */
  get open(): boolean {
    if (this.#brackets.length > 0 && this.#brackets.at(-1) === true) return true;
    const last = this.#lastCode;
    return last !== 0 && last !== 0x3b && last !== 0x7b && last !== 0x7d;
  }

  /**
   * Moves to the next line without looking into it; false at the end of the text. `scan` or `skip` must follow before the
   * next call.
   */
  advance(): boolean {
    const { text } = this;
    if (this.#next >= text.length) return false;
    this.start = this.#next;
    let at = this.start;
    this.fresh = this.#mode === "code" && !this.#continued;
    while (at < text.length && CLASSES[text.charCodeAt(at)] === BLANK) at += 1;
    const first = at < text.length ? text.charCodeAt(at) : NEWLINE;
    this.blank = first === NEWLINE && this.fresh;
    this.hash = first === HASH && this.fresh;
    return true;
  }

  /** Takes the current line as one that has no code in it (a linemarker or a directive). */
  skip(): void {
    const newline = this.text.indexOf("\n", this.start);
    this.end = newline < 0 ? this.text.length : newline;
    this.#next = this.end + 1;
  }

  /** Takes the current line as code. */
  scan(): void {
    const { text } = this;
    const { length } = text;
    let at = this.start;
    let mode = this.#mode;
    this.#continued = false;
    for (;;) {
      if (at >= length) {
        this.end = length;
        break;
      }
      if (mode === "code") {
        let kind = CLASSES[text.charCodeAt(at)]!;
        while (kind === PLAIN || kind === BLANK) {
          if (kind === PLAIN) this.#lastCode = text.charCodeAt(at);
          at += 1;
          kind = at < length ? CLASSES[text.charCodeAt(at)]! : STOP_NEWLINE;
        }
        if (kind === STOP_NEWLINE) {
          this.end = Math.min(at, length);
          break;
        }
        if (kind === STOP_SLASH) {
          const after = text.charCodeAt(at + 1);
          if (after === STAR) {
            mode = "block";
            at += 2;
          } else if (after === SLASH) {
            mode = "line-comment";
            at += 2;
          } else {
            this.#lastCode = SLASH;
            at += 1;
          }
        } else if (kind === STOP_QUOTE) {
          if (this.rawStrings && this.#rawPrefix(at)) {
            const open = text.indexOf("(", at);
            if (open > 0 && open - at - 1 <= RAW_DELIMITER_MAX) {
              this.#rawEnd = `)${text.slice(at + 1, open)}"`;
              mode = "raw";
              at = open + 1;
            } else {
              mode = "string";
              at += 1;
            }
          } else {
            mode = "string";
            at += 1;
          }
          this.#lastCode = QUOTE;
        } else if (kind === STOP_APOSTROPHE) {
          if (!(this.digitSeparators && this.#inNumber(at))) mode = "character";
          this.#lastCode = APOSTROPHE;
          at += 1;
        } else if (kind === STOP_BACKSLASH) {
          const after = this.#afterContinuation(at);
          if (after >= 0) {
            this.end = after - 1;
            this.#continued = true;
            break;
          }
          this.#lastCode = BACKSLASH;
          at += 1;
        } else {
          this.#bracket(text.charCodeAt(at), kind === STOP_OPEN);
          at += 1;
        }
      } else if (mode === "block") {
        // A comment's end must be looked for on this line only: lines are handed out one by one.
        const newline = text.indexOf("\n", at);
        const stop = newline < 0 ? length : newline;
        const close = findBefore(text, at, stop);
        if (close < 0) {
          this.end = stop;
          break;
        }
        at = close + 2;
        mode = "code";
      } else if (mode === "raw") {
        const newline = text.indexOf("\n", at);
        const stop = newline < 0 ? length : newline;
        const line = text.slice(at, stop);
        const close = line.indexOf(this.#rawEnd);
        if (close < 0) {
          this.end = stop;
          break;
        }
        at += close + this.#rawEnd.length;
        mode = "code";
      } else {
        const code = text.charCodeAt(at);
        if (code === NEWLINE) {
          this.end = at;
          mode = "code";
          break;
        }
        if (code === BACKSLASH) {
          const after = this.#afterContinuation(at);
          if (after >= 0) {
            this.end = after - 1;
            this.#continued = true;
            break;
          }
          at += mode === "line-comment" ? 1 : 2;
        } else {
          at += 1;
          if ((mode === "string" && code === QUOTE) || (mode === "character" && code === APOSTROPHE)) mode = "code";
        }
      }
    }
    this.#mode = mode;
    this.#next = this.end + 1;
  }

  /** True when the text ended within a comment or a raw string. */
  get unfinished(): boolean {
    return this.#mode === "block" || this.#mode === "raw";
  }

  /** Offset after a backslash and its line end (white space between is allowed); -1 when it continues no line. */
  #afterContinuation(backslash: number): number {
    const { text } = this;
    let at = backslash + 1;
    while (at < text.length && CLASSES[text.charCodeAt(at)] === BLANK) at += 1;
    return text.charCodeAt(at) === NEWLINE ? at + 1 : -1;
  }

  #rawPrefix(quote: number): boolean {
    const { text } = this;
    if (text[quote - 1] !== "R") return false;
    let at = quote - 2;
    if (at >= 1 && text[at] === "8" && text[at - 1] === "u") at -= 2;
    else if (at >= 0 && (text[at] === "u" || text[at] === "U" || text[at] === "L")) at -= 1;
    return at < 0 || IDENTIFIER[text.charCodeAt(at)] === 0;
  }

  #inNumber(apostrophe: number): boolean {
    const { text } = this;
    let at = apostrophe - 1;
    while (at >= 0 && (IDENTIFIER[text.charCodeAt(at)] === 1 || text.charCodeAt(at) === APOSTROPHE || text[at] === "."))
      at -= 1;
    const first = text[at + 1]!;
    return at + 1 < apostrophe && ((first >= "0" && first <= "9") || first === ".");
  }

  #bracket(code: number, opens: boolean): void {
    const brackets = this.#brackets;
    if (opens) {
      // A brace after one of `= ( [ , {` within an initializer, or after another bracket, holds values, not statements.
      const last = this.#lastCode;
      const values =
        code !== 0x7b || last === 0x3d || last === 0x28 || last === 0x5b || last === 0x2c
          ? true
          : last === 0x7b && brackets.at(-1) === true;
      if (brackets.length < BRACKETS_MAX) brackets.push(values);
    } else if (brackets.length > 0) brackets.pop();
    this.#lastCode = code;
  }
}

/** Offset of the next end of a block comment before `stop`; -1 when there is none. */
function findBefore(text: string, from: number, stop: number): number {
  for (let at = from; at + 1 < stop; at += 1)
    if (text.charCodeAt(at) === STAR && text.charCodeAt(at + 1) === SLASH) return at;
  return -1;
}
