// Tells whether a text holds parts of the names of date macros and operators, which `##` could join. Pure. One pass.
import { HASH, isBlank, isWord, OPEN } from "./source-bytes.ts";
import type { Findings, Flag, SourceScan } from "./source-findings.ts";

interface Target {
  readonly word: string;
  readonly flags: readonly Flag[];
  /** Whether single letters are parts so common that they tell nothing where no `##` is. */
  readonly needsPaste: boolean;
}

const TARGETS: readonly Target[] = [
  { word: "__DATE__", flags: ["dates"], needsPaste: true },
  { word: "__TIME__", flags: ["dates"], needsPaste: true },
  { word: "__TIMESTAMP__", flags: ["dates", "timestamp"], needsPaste: true },
  { word: "__has_include", flags: ["computedTest"], needsPaste: false },
  { word: "__has_include_next", flags: ["computedTest"], needsPaste: false },
  { word: "__has_embed", flags: ["computedTest"], needsPaste: false },
  { word: "_Pragma", flags: ["macroPragma"], needsPaste: false },
];
/** A part of this length at one end of a date's name has no other use, and tells of pasting that another file may do. */
const TELLING_LENGTH = 4;

/** Every part, the wholes not counted, and which flags it raises alone. */
const PARTS = new Map<string, Set<Flag>>();
for (const { word, flags, needsPaste } of TARGETS)
  for (let from = 0; from < word.length; from += 1)
    for (let to = from + 1; to <= word.length; to += 1) {
      const part = word.slice(from, to);
      if (TARGETS.some((target) => target.word === part)) continue;
      const raised = PARTS.get(part) ?? new Set();
      PARTS.set(part, raised);
      const telling = needsPaste && part.length >= TELLING_LENGTH && (from === 0 || to === word.length);
      if (telling) for (const flag of flags) raised.add(flag);
    }
const LENGTH_MAX = Math.max(...[...PARTS.keys()].map((part) => part.length));

/** Of a name whose parts stand in several texts; many texts hold any short word. */
const PARTS_MAX = 4;

/** In place of `_` where it is called, as gettext's macro is in nearly each line of some programs. */
const CALLED = "_(";

/** Letters of all parts. */
const LETTERS = new Uint8Array(256);
for (const part of PARTS.keys()) for (let at = 0; at < part.length; at += 1) LETTERS[part.charCodeAt(at)] = 1;

/** `inert` holds offsets, in pairs and in order, between which lie comments and literals. */
export function findPasted(text: Buffer, inert: readonly number[], findings: Findings): void {
  const found = new Set<string>();
  for (let at = 0, next = 0; at < text.length; next += 2) {
    collectParts(text, at, inert[next] ?? text.length, found);
    at = Math.max(at, inert[next + 1] ?? text.length);
  }
  const parts = new Set([...found].filter((part) => part !== CALLED));
  for (const part of parts) for (const flag of PARTS.get(part)!) findings.flag(flag);
  const pastes = text.includes("##") || text.includes("%:%:");
  if (pastes) findings.flag("pastes");
  for (const part of parts) if (part.length > 1 || part === "_") findings.namePart(part);
  // What is called can only be the last part, and only the names of dates end in such a one.
  const withCalled = found.has(CALLED) ? new Set([...parts, "_"]) : parts;
  for (const { word, flags, needsPaste } of TARGETS) {
    if (!pastes && needsPaste) continue;
    if (isJoined(word, word.endsWith("_") ? withCalled : parts)) for (const flag of flags) findings.flag(flag);
  }
}

/**
 * Flags of the names that `##` could make of parts which stand in different texts. Single letters do not count: they stand in most texts, and
 * nobody puts a name together of them, nor of many parts.
 */
export function joinedFlags(scans: readonly Pick<SourceScan, "nameParts" | "pastes">[]): ReadonlySet<Flag> {
  const parts = new Set(scans.flatMap(({ nameParts }) => nameParts));
  const pastes = scans.some((scan) => scan.pastes);
  const joined = TARGETS.filter(({ word }) => pastes && isJoined(word, parts, PARTS_MAX));
  return new Set(joined.flatMap(({ flags }) => flags));
}

function collectParts(text: Buffer, from: number, to: number, found: Set<string>): void {
  for (let at = from; at < to; ) {
    if (!isWord(text[at])) {
      at += 1;
      continue;
    }
    const start = at;
    let letters = 1;
    for (; at < to && isWord(text[at]); at += 1) letters &= LETTERS[text[at]!]!;
    if (letters === 0 || at - start > LENGTH_MAX || isDirectiveName(text, start)) continue;
    const word = text.toString("latin1", start, at);
    if (PARTS.has(word)) found.add(word === "_" && text[at] === OPEN ? CALLED : word);
  }
}

const BEFORE_MAX = 16;

/** Whether a word stands after a single `#`, as `include` does in each source. */
function isDirectiveName(text: Buffer, start: number): boolean {
  let at = start - 1;
  while (at >= 0 && at > start - BEFORE_MAX && isBlank(text[at]!)) at -= 1;
  return text[at] === HASH && text[at - 1] !== HASH && text[start] === 0x69;
}

/** Whether a word is made of parts, one behind the other, and of so many at most. */
export function isJoined(word: string, parts: ReadonlySet<string>, partsMax = word.length): boolean {
  /** Fewest parts up to each offset. */
  const fewest = [0, ...Array.from(word, () => Number.POSITIVE_INFINITY)];
  for (let from = 0; from < word.length; from += 1)
    for (let to = from + 1; to <= word.length && fewest[from]! < partsMax; to += 1)
      if (parts.has(word.slice(from, to))) fewest[to] = Math.min(fewest[to]!, fewest[from]! + 1);
  return fewest[word.length]! <= partsMax;
}
