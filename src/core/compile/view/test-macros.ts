// Macros that stand for `__has_include`: `#define HAS(x) __has_include(x)`. Finds their definitions, and what their uses ask for. Pure.
// UNTRUSTED: texts are a checkout's. Two passes a text and macro.
import type { ByteString } from "../../../base/byte-string.ts";
import { isWord } from "./source-bytes.ts";
import type { SpelledName } from "./source-findings.ts";
import { isJoined } from "./source-paste.ts";
import { readingsOf } from "./source-text.ts";

const LINE_MAX = 256;
const DEFINITION = /^[ \t]*#[ \t]*define[ \t]+(\w+)\((\w+)\)[ \t]+__has_include[ \t]*\([ \t]*(\w+)[ \t]*\)[ \t]*$/;
/** What stands before a name that is only defined anew, removed or asked for. */
const NO_USE = /(?:#[ \t]*(?:define|undef|ifdef|ifndef)[ \t]+|\bdefined[ \t]*\(?[ \t]*)$/;
const OPERAND = /^[ \t]*\([ \t]*(?:"([^"\n\\]+)"|<([^>\n]+)>)[ \t]*\)/;

/** The macro whose definition is the line with `offset`, where it stands for the operator and nothing else; null otherwise. */
export function testMacroAt(text: Buffer, offset: number): string | null {
  // Only so far around: a text may hold nothing but operators, all in one line.
  const near = text.toString("latin1", Math.max(0, offset - LINE_MAX), offset + LINE_MAX);
  const middle = Math.min(offset, LINE_MAX);
  const start = near.lastIndexOf("\n", middle) + 1;
  const end = near.indexOf("\n", middle);
  if ((start === 0 && offset > LINE_MAX) || (end < 0 && offset + LINE_MAX < text.length)) return null;
  const [, name, parameter, operand] = DEFINITION.exec(near.slice(start, end < 0 ? undefined : end)) ?? [];
  return name !== undefined && parameter === operand ? name : null;
}

/** What one such macro is used for, in texts that are read one after the other. */
export class TestMacro {
  readonly #name: string;
  /** Words that are parts of the name. */
  readonly #parts = new Set<string>();

  constructor(name: string) {
    this.#name = name;
  }

  /**
   * Names that uses in the text ask for. Null when one's operand is no plain name, or when `##` could make the macro's name of words of
   * this text and those read before.
   */
  read(bytes: Buffer): readonly SpelledName[] | null {
    const tests: SpelledName[] = [];
    const before = this.#parts.size;
    for (const text of readingsOf(bytes)) {
      this.#collectParts(text);
      const asked = testsBy(this.#name, text);
      if (asked === null) return null;
      tests.push(...asked);
    }
    return this.#parts.size > before && isJoined(this.#name, this.#parts) ? null : tests;
  }

  #collectParts(text: Buffer): void {
    const name = this.#name;
    for (let at = 0; at < text.length; ) {
      const start = at;
      while (isWord(text[at])) at += 1;
      const length = at - start;
      if (length === 0) at += 1;
      else if (length < name.length) {
        const word = text.toString("latin1", start, at);
        if (name.includes(word)) this.#parts.add(word);
      }
    }
  }
}

function testsBy(macro: string, text: Buffer): readonly SpelledName[] | null {
  const tests: SpelledName[] = [];
  for (let at = text.indexOf(macro); at >= 0; at = text.indexOf(macro, at + macro.length)) {
    const after = at + macro.length;
    if (isWord(text[at - 1]) || isWord(text[after])) continue;
    if (NO_USE.test(text.toString("latin1", Math.max(0, at - LINE_MAX), at))) continue;
    const [, quoted, angled] = OPERAND.exec(text.toString("latin1", after, after + LINE_MAX)) ?? [];
    const name = quoted ?? angled;
    if (name === undefined) return null;
    tests.push({ name: name as ByteString, quoted: quoted !== undefined });
  }
  return tests;
}
