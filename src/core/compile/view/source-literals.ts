// Gathers what a source's string literals hold, decoded and joined as the compiler joins them, for they may be assembler text. Pure.
import { BACKSLASH, HASH, isBlank, isWord, NEWLINE } from "./source-bytes.ts";

/** Stands in the gathered text between literals that are not joined. */
export const GAP = 0x01;
/** The same, where a macro may put another literal. */
export const MACRO_GAP = 0x02;

export interface StringLiteral {
  /** Offset of the opening quote, and just after the closing one. */
  readonly start: number;
  readonly end: number;
  /** Where its content lies. */
  readonly from: number;
  readonly to: number;
  readonly escapes: boolean;
}

const SIMPLE_ESCAPES = new Map([
  [0x6e, NEWLINE],
  [0x74, 0x09],
  [0x72, 0x0d],
  [0x76, 0x0b],
  [0x66, 0x0c],
]);
/** Letters that may stand before a literal's opening quote. */
const PREFIXES = Buffer.from("LuU8R");
const PREFIX_MAX = 3;
/** Digits that an escape may have; longer ones are no character of a directive. */
const ESCAPE_DIGITS_MAX = 16;

export class LiteralText {
  readonly #source: Buffer;
  #out: Buffer | null = null;
  #length = 0;
  /** Just after the last literal, and the comments that follow it. */
  #lastEnd = -1;

  constructor(source: Buffer) {
    this.#source = source;
  }

  add({ start, end, from, to, escapes }: StringLiteral): void {
    // No literal is longer decoded than in its quotes, which leave room for a gap.
    this.#out ??= Buffer.allocUnsafe(this.#source.length * 2 + 2);
    let before = start;
    for (let steps = 0; steps < PREFIX_MAX && PREFIXES.includes(this.#source[before - 1] ?? 0); steps += 1) before -= 1;
    if (this.#lastEnd >= 0 && !this.#follows(before)) this.#push(this.#gap());
    if (escapes) this.#decode(from, to);
    else for (let at = from; at < to; at += 1) this.#push(this.#source[at]!);
    this.#lastEnd = end;
  }

  /** Tells of a comment: it parts no literals. */
  comment(from: number, to: number): void {
    if (this.#lastEnd >= 0 && this.#follows(from)) this.#lastEnd = to;
  }

  finish(): Buffer {
    if (this.#out === null) return Buffer.alloc(0);
    this.#push(this.#gap());
    return this.#out.subarray(0, this.#length);
  }

  #push(code: number): void {
    this.#out![this.#length] = code;
    this.#length += 1;
  }

  /** Whether nothing but white space stands between the last literal and an offset. */
  #follows(offset: number): boolean {
    const source = this.#source;
    let at = offset - 1;
    while (at >= this.#lastEnd && (isBlank(source[at]!) || source[at] === NEWLINE)) at -= 1;
    return at < this.#lastEnd;
  }

  #gap(): number {
    const source = this.#source;
    let at = this.#lastEnd;
    while (at < source.length && isBlank(source[at]!)) at += 1;
    const code = source[at];
    return code === undefined || code === NEWLINE || code === HASH || isWord(code) ? MACRO_GAP : GAP;
  }

  #decode(from: number, to: number): void {
    const source = this.#source;
    for (let at = from; at < to; at += 1) {
      const code = source[at]!;
      if (code !== BACKSLASH || at + 1 >= to) {
        this.#push(code);
        continue;
      }
      at += 1;
      const kind = source[at]!;
      const base = kind === 0x78 || kind === 0x75 || kind === 0x55 ? 16 : kind === 0x6f || isOctal(kind) ? 8 : 0;
      if (base === 0) {
        this.#push(SIMPLE_ESCAPES.get(kind) ?? kind);
        continue;
      }
      const braced = source[at + 1] === 0x7b;
      const first = isOctal(kind) ? at : at + (braced ? 2 : 1);
      const digitsMax = isOctal(kind) ? 3 : kind === 0x75 && !braced ? 4 : kind === 0x55 ? 8 : ESCAPE_DIGITS_MAX;
      let value = 0;
      let after = first;
      for (; after < to && after - first < digitsMax; after += 1) {
        const digit = digitOf(source[after]!);
        if (digit >= base) break;
        value = value * base + digit;
      }
      this.#push(value < 256 ? value : 0x3f);
      at = braced && source[after] === 0x7d ? after : after - 1;
    }
  }
}

function isOctal(code: number): boolean {
  return code >= 0x30 && code <= 0x37;
}

function digitOf(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : 16;
}
