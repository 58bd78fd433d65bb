// Tells whether a text holds parts of the names of date macros and operators, which `##` could join. Pure. One pass.
import { isWord } from "./source-bytes.ts";
import type { Findings, Flag } from "./source-findings.ts";

const DATES = ["__DATE__", "__TIME__", "__TIMESTAMP__"] as const;
const OPERATORS: readonly { readonly word: string; readonly flag: Flag; readonly lengthMin: number }[] = [
  { word: "__has_include_next", flag: "computedTest", lengthMin: 5 },
  { word: "__has_embed", flag: "computedTest", lengthMin: 5 },
  { word: "_Pragma", flag: "macroPragma", lengthMin: 3 },
];
/** A part of this length at one end of a name has no other use, and tells of pasting that another file may do. */
const TELLING_LENGTH = 4;

/** Every part, the whole not counted, and which flags it alone raises. */
const PARTS = new Map<string, Set<Flag>>();
let longest = 0;
for (const word of DATES)
  for (let from = 0; from < word.length; from += 1)
    for (let to = from + 1; to <= word.length; to += 1) {
      const part = word.slice(from, to);
      if (part === word) continue;
      const flags = PARTS.get(part) ?? new Set();
      PARTS.set(part, flags);
      if (part.length < TELLING_LENGTH || (from > 0 && to < word.length)) continue;
      flags.add("dates");
      if (word === "__TIMESTAMP__") flags.add("timestamp");
    }
for (const { word, flag, lengthMin } of OPERATORS)
  for (let to = lengthMin; to < word.length; to += 1) {
    const part = word.slice(0, to);
    if (part !== "__has_include") PARTS.set(part, new Set([flag]));
  }
for (const part of PARTS.keys()) longest = Math.max(longest, part.length);

/** Letters that names made of parts begin with. */
const FIRST = new Uint8Array(256);
for (const part of PARTS.keys()) FIRST[part.charCodeAt(0)] = 1;

export function findPasted(text: Buffer, findings: Findings): void {
  const found = new Set<string>();
  const { length } = text;
  for (let at = 0; at < length; ) {
    if (!isWord(text[at])) {
      at += 1;
      continue;
    }
    const start = at;
    while (at < length && isWord(text[at])) at += 1;
    if (FIRST[text[start]!] === 0 || at - start > longest) continue;
    const word = text.toString("latin1", start, at);
    if (PARTS.has(word)) found.add(word);
  }
  for (const part of found) for (const flag of PARTS.get(part)!) findings.flag(flag);
  if (!text.includes("##") && !text.includes("%:%:") && !text.includes("??=")) return;
  for (const word of DATES)
    if (isJoined(word, found)) {
      findings.flag("dates");
      if (word === "__TIMESTAMP__") findings.flag("timestamp");
    }
}

function isJoined(word: string, parts: ReadonlySet<string>): boolean {
  const reached = new Set([0]);
  for (let from = 0; from < word.length; from += 1)
    if (reached.has(from))
      for (let to = from + 1; to <= word.length; to += 1) if (parts.has(word.slice(from, to))) reached.add(to);
  return reached.has(word.length);
}
