// Looks ahead in a text without looking at any part of it more often than a few times, whatever the text is. Pure.
import { isBlank, NEWLINE, SLASH, STAR } from "./source-bytes.ts";

/** Finds the next place of a pattern, and remembers it: asking from each byte of a text costs one pass, also where none follows. */
export class Seeker {
  readonly #text: Buffer;
  readonly #pattern: string;
  /** From here on, the pattern first stands at `#at`. */
  #from = 0;
  #at = -1;

  constructor(text: Buffer, pattern: string) {
    this.#text = text;
    this.#pattern = pattern;
  }

  /** Offset of the first occurrence at or after `from`; the text's length when there is none. */
  next(from: number): number {
    if (from >= this.#from && from <= this.#at) return this.#at;
    if (from >= this.#from || this.#at < 0) {
      const at = this.#text.indexOf(this.#pattern, from, "latin1");
      this.#at = at < 0 ? this.#text.length : at;
    } else {
      const between = this.#text.subarray(from, this.#from + this.#pattern.length - 1);
      const at = between.indexOf(this.#pattern, 0, "latin1");
      if (at >= 0) this.#at = from + at;
    }
    this.#from = from;
    return this.#at;
  }
}

/** Bytes of white space and numbers of comments that are passed over between two tokens of an operator. */
const SKIP_MAX = 4096;

/** Passes over white space and comments, line ends too if told; -1 when there is no end of them in sight. */
export function skipSpace(text: Buffer, from: number, closes: Seeker, overLines: boolean): number {
  let at = from;
  for (let steps = 0; steps < SKIP_MAX; steps += 1) {
    if (at >= text.length) return text.length;
    const code = text[at]!;
    if (isBlank(code) || (overLines && code === NEWLINE)) at += 1;
    else if (code === SLASH && text[at + 1] === STAR) {
      const close = closes.next(at + 2);
      if (close >= text.length) return -1;
      at = close + 2;
    } else return at;
  }
  return -1;
}
