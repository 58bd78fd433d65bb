// Macros that are the whole operand of an `#include`: `#include HEADER`. Finds what their definitions stand for. Pure.
// UNTRUSTED: texts are a checkout's. One pass a text and macro.
import { type ByteString, bytesOf } from "../../../base/byte-string.ts";
import type { Argument } from "../grammar/invocation.ts";
import { isWord } from "./source-bytes.ts";
import { readingsOf } from "./source-text.ts";

/** What a macro may stand for where it is the operand of an `#include`. */
export interface IncludeBodies {
  /** Of `"..."`, which no other macro changes. */
  readonly names: readonly ByteString[];
  /** Macros that it is another word for. */
  readonly macros: readonly string[];
}

const LINE_MAX = 4096;
/** A text that says a macro's name more often is not taken apart. */
const USES_MAX = 1_000;
/** What stands before the name of a macro that is defined. */
const DEFINE = /\bdefine[ \t\f\v]+$/;
const COMMENT_BEFORE = /\*\/[ \t\f\v]*$/;
/** Of the command line; another option, as `-Wp,` and `-Xclang`, may hand a definition on. */
const DEFINES_NOTHING: ReadonlySet<string> = new Set([
  "",
  "-I",
  "-isystem",
  "-iquote",
  "-o",
  "-U",
  "-MF",
  "-MT",
  "-MQ",
]);
const NOTHING: IncludeBodies = { names: [], macros: [] };

/**
 * What a text's definitions of a macro stand for; null where one is neither a string nor another macro: names between angle brackets are
 * made of what the macros in them stand for.
 */
export function includeBodies(macro: string, bytes: Buffer): IncludeBodies | null {
  const readings = readingsOf(bytes);
  if (!readings.some((text) => text.includes(macro))) return NOTHING;
  // Compilers pass over it as over white space.
  if (bytes.includes(0)) return null;
  const names = new Set<ByteString>();
  const macros = new Set<string>();
  let uses = 0;
  for (const text of readings)
    for (let at = text.indexOf(macro); at >= 0; at = text.indexOf(macro, at + macro.length)) {
      const after = at + macro.length;
      if (isWord(text[at - 1]) || isWord(text[after])) continue;
      if ((uses += 1) > USES_MAX) return null;
      const before = text.toString("latin1", Math.max(0, at - LINE_MAX), at);
      const start = before.lastIndexOf("\n") + 1;
      if (start === 0 && at > LINE_MAX) return null;
      const line = before.slice(start);
      if (!DEFINE.test(line)) {
        // A comment may stand between the directive and its name.
        if (COMMENT_BEFORE.test(line)) return null;
        continue;
      }
      const end = text.indexOf("\n", after);
      const body = text.toString("latin1", after, end < 0 ? text.length : end);
      if (body.length > LINE_MAX) return null;
      const found = /^[ \t\f\v]+(?:"([^"\\]+)"|([A-Za-z_]\w*))[ \t\f\v]*$/.exec(body);
      if (found === null) return null;
      if (found[1] === undefined) macros.add(found[2]!);
      else names.add(found[1] as ByteString);
    }
  return names.size + macros.size === 0 ? NOTHING : { names: [...names], macros: [...macros] };
}

/** The same of the command line's. */
export function definedBodies(
  macro: string,
  words: readonly Pick<Argument, "option" | "value" | "words">[],
): IncludeBodies | null {
  const lines: string[] = [];
  for (const { option, value, words: own } of words) {
    if (option === "-D" && value !== null) lines.push(`#define ${value.replace("=", " ")}\n`);
    else if (!DEFINES_NOTHING.has(option) && own.some((word) => word.includes(macro))) return null;
  }
  return includeBodies(macro, bytesOf(lines.join("") as ByteString));
}
