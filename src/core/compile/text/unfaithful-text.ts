// Words in preprocessed text whose meaning only a one-step compile keeps. Pure. Errs on the side of finding: a word in a
// comment counts too.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { CompilerFamily } from "../grammar/invocation.ts";

export interface UnfaithfulText {
  readonly reason: BypassReason;
  /** What was found. */
  readonly detail: ByteString;
}

interface Trap {
  readonly reason: BypassReason;
  readonly what: string;
  /** A plain word that the text has whenever the pattern matches: most texts are done with after looking for it. */
  readonly hint: string;
  readonly pattern: RegExp;
  readonly family: CompilerFamily | "both";
}

const unfaithful = { reason: "unfaithful_preprocessing", family: "both" } as const;

const pragma = { ...unfaithful, family: "gcc" } as const;

const TRAPS: readonly Trap[] = [
  { ...unfaithful, what: "__INCLUDE_LEVEL__", hint: "__INCLUDE_LEVEL__", pattern: /__INCLUDE_LEVEL__/ },
  { ...unfaithful, what: "__BASE_FILE__", hint: "__BASE_FILE__", pattern: /__BASE_FILE__/ },
  // The guest's file has another time of change.
  { ...unfaithful, reason: "date_time_macro", what: "__TIMESTAMP__", hint: "__TIMESTAMP__", pattern: /__TIMESTAMP__/ },
  // An assembler would read the rebuilt file, or none.
  {
    ...unfaithful,
    reason: "unsupported_code_directive",
    what: ".incbin or .include",
    hint: "asm",
    pattern: /(?<![A-Za-z0-9_)\]>])\.\s*(?:incbin|include)\b/i,
  },
  // The first step does not see pragmas that macros make, so it does not carry them out.
  { ...unfaithful, family: "gcc", what: "_Pragma once", hint: "_Pragma", pattern: /_Pragma\s*\(\s*L?"\s*once\b/ },
  ...["push_macro", "pop_macro"].map((word) => ({
    ...pragma,
    what: `_Pragma ${word}`,
    hint: word,
    pattern: new RegExp(`\\(\\s*(?:L?"\\s*|L\\b\\s*)?${word}\\b`),
  })),
  ...[
    "poison",
    "system_header",
    "dependency",
    "target",
    "optimize",
    "push_options",
    "pop_options",
    "reset_options",
  ].map((word) => ({
    ...pragma,
    what: `_Pragma GCC ${word}`,
    hint: word,
    pattern: new RegExp(`^(?![ \\t]*#[ \\t]*pragma\\b).*\\bGCC\\s+${word}\\b`, "m"),
  })),
  { ...unfaithful, family: "gcc", what: "%: directive", hint: "%:", pattern: /(?:^|\*\/)[ \t\f\v]*%:/m },
  { ...unfaithful, family: "gcc", what: "??= or ??/", hint: "??", pattern: /\?\?[=/]/ },
  // Clang looks for the file in both steps.
  {
    ...unfaithful,
    family: "clang",
    what: "#pragma GCC dependency",
    hint: "dependency",
    pattern: /\bGCC\s+dependency\b/,
  },
  // Clang counts in the first step what a condition used.
  {
    ...unfaithful,
    family: "clang",
    what: "__COUNTER__",
    hint: "__COUNTER__",
    pattern: /(?<!\\\n)^[ \t]*#[ \t]*(?:el)?if\b(?:[^\n]|(?<=\\)\n)*__COUNTER__/m,
  },
];

/**
 * Why the text cannot be compiled apart from its files; null when it can. `pinned` allows the date, which is then the same in
 * both steps. UNTRUSTED: a checkout's text.
 */
export function unfaithfulText(text: string, family: CompilerFamily, pinned: boolean): UnfaithfulText | null {
  for (const trap of TRAPS)
    if ((trap.family === "both" || trap.family === family) && text.includes(trap.hint) && trap.pattern.test(text))
      return { reason: trap.reason, detail: ascii(trap.what) };
  const pasted = pastedPart(text);
  if (pasted !== null) return { reason: "unfaithful_preprocessing", detail: pasted };
  const date = pinned ? null : usedDate(text);
  return date === null ? null : { reason: "date_time_macro", detail: date };
}

const SPLIT_WORDS = ["__BASE_FILE__", "__INCLUDE_LEVEL__", "__TIMESTAMP__", "__DATE__", "__TIME__"];
/** Shorter beginnings are names of their own in many headers; the end that goes with them is looked for instead. */
const BEGINNING_MIN = 4;
const PARTS: ReadonlySet<string> = new Set(
  SPLIT_WORDS.flatMap((word) =>
    Array.from({ length: word.length - 2 }, (_, at) =>
      at + 1 < BEGINNING_MIN ? word.slice(at + 1) : word.slice(0, at + 1),
    ),
  ),
);
const PART =
  /\b(?:__(?:BA|IN|TI|DA)\w{0,15}|_{0,2}(?:BASE_FILE|INCLUDE_LEVEL|TIMESTAMP|DATE|TIME|ASE_FILE|NCLUDE_LEVEL|IMESTAMP|ATE|IME)__)\b/g;

/** Underscores in an argument of their own, and a word without them. */
const UNDERSCORES = /[(,]\s*__?\s*,/;
const MIDDLE = /\b(?:BASE_FILE|INCLUDE_LEVEL|TIMESTAMP|DATE|TIME)\b/g;

/** A part is an operand of `##`, or an argument of a macro. */
const OPERAND_BEFORE = /[(,#]\s*$/;
const OPERAND_AFTER = /^\s*(?:[),]|##)/;

/** A part of such a word, which `##` may make whole; null when there is none. */
function pastedPart(text: string): ByteString | null {
  if (!text.includes("##")) return null;
  for (const match of text.matchAll(PART)) {
    const end = match.index + match[0].length;
    if (
      PARTS.has(match[0]) &&
      (OPERAND_BEFORE.test(text.slice(Math.max(0, match.index - 16), match.index)) ||
        OPERAND_AFTER.test(text.slice(end, end + 16)))
    )
      return match[0] as ByteString;
  }
  if (!UNDERSCORES.test(text)) return null;
  for (const match of text.matchAll(MIDDLE)) {
    const end = match.index + match[0].length;
    if (
      OPERAND_BEFORE.test(text.slice(Math.max(0, match.index - 16), match.index)) &&
      OPERAND_AFTER.test(text.slice(end, end + 16))
    )
      return match[0] as ByteString;
  }
  return null;
}

/** Macros of dates whose uses are counted, each through the whole text; with more, one is taken as used. */
const DATE_MACROS_MAX = 32;

/**
 * The use of `__DATE__` or `__TIME__`, by itself or by a macro that seems to be used; null when there is none. The flag that
 * makes a date an error is not enough: `-w` turns it off.
 */
function usedDate(text: string): ByteString | null {
  let macros = 0;
  for (const word of ["__DATE__", "__TIME__"]) {
    for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + 1)) {
      const line = text.slice(text.lastIndexOf("\n", at) + 1, at);
      const macro = /^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)/.exec(line)?.[1];
      macros += 1;
      if (
        macro === undefined ||
        macros > DATE_MACROS_MAX ||
        (text.match(new RegExp(`\\b${macro}\\b`, "g"))?.length ?? 0) > 1
      )
        return ascii(word);
    }
  }
  return null;
}
