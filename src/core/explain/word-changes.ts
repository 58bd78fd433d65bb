// What differs between two command lines, as a person would say it: options added, removed, changed, or in another order. Pure.
// UNTRUSTED: the words are a caller's; time is bounded whatever they are.
import type { ByteString } from "../../base/byte-string.ts";

export type WordChange =
  | { readonly kind: "added"; readonly words: ByteString }
  | { readonly kind: "removed"; readonly words: ByteString }
  | { readonly kind: "changed"; readonly before: ByteString; readonly words: ByteString }
  | { readonly kind: "moved"; readonly words: ByteString };

/** Options whose value is the next word, so that both are told together. */
const SEPARATE = new Set(
  "-I -D -U -L -l -x -include -imacros -isystem -iquote -idirafter -iprefix -iwithprefix -iwithprefixbefore -isysroot --sysroot -Xclang -Xpreprocessor -Xassembler -Xlinker -mllvm -target -arch --param -MT -MQ -MF -aux-info".split(
    " ",
  ),
);
/** Cells of the table of the longest common subsequence; above, order is not looked at. */
const CELLS_MAX = 1_000_000;

/** Tells the changes in the order in which the words stand now; removed ones where they stood. */
export function wordChanges(before: readonly ByteString[], now: readonly ByteString[]): WordChange[] {
  return paired(differences(optionsOf(before), optionsOf(now)));
}

function optionsOf(words: readonly ByteString[]): ByteString[] {
  const options: ByteString[] = [];
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at]!;
    const next = words[at + 1];
    if (next !== undefined && SEPARATE.has(word)) {
      options.push(`${word} ${next}` as ByteString);
      at += 1;
    } else options.push(word);
  }
  return options;
}

type Difference = { readonly kind: "added" | "removed"; readonly words: ByteString };

function differences(before: readonly ByteString[], now: readonly ByteString[]): Difference[] {
  let from = 0;
  while (from < before.length && from < now.length && before[from] === now[from]) from += 1;
  let beforeEnd = before.length;
  let nowEnd = now.length;
  while (beforeEnd > from && nowEnd > from && before[beforeEnd - 1] === now[nowEnd - 1]) {
    beforeEnd -= 1;
    nowEnd -= 1;
  }
  const [a, b] = [before.slice(from, beforeEnd), now.slice(from, nowEnd)];
  return a.length * b.length > CELLS_MAX ? unordered(a, b) : ordered(a, b);
}

/** By the longest common subsequence. */
function ordered(a: readonly ByteString[], b: readonly ByteString[]): Difference[] {
  const width = b.length + 1;
  const lengths = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      lengths[i * width + j] =
        a[i] === b[j]
          ? lengths[(i + 1) * width + j + 1]! + 1
          : Math.max(lengths[(i + 1) * width + j]!, lengths[i * width + j + 1]!);
  const found: Difference[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      i += 1;
      j += 1;
    } else if (i < a.length && (j === b.length || lengths[(i + 1) * width + j]! >= lengths[i * width + j + 1]!)) {
      found.push({ kind: "removed", words: a[i]! });
      i += 1;
    } else {
      found.push({ kind: "added", words: b[j]! });
      j += 1;
    }
  }
  return found;
}

/** By how often each word is there. */
function unordered(a: readonly ByteString[], b: readonly ByteString[]): Difference[] {
  const counts = new Map<ByteString, number>();
  for (const word of a) counts.set(word, (counts.get(word) ?? 0) + 1);
  const added: Difference[] = [];
  for (const word of b) {
    const count = counts.get(word) ?? 0;
    if (count > 0) counts.set(word, count - 1);
    else added.push({ kind: "added", words: word });
  }
  const removed = [...counts].flatMap(([words, count]) =>
    Array.from({ length: count }, (): Difference => ({ kind: "removed", words })),
  );
  return [...removed, ...added];
}

/** Joins what was removed here and added there: the same option with another value, or at another place. */
function paired(found: readonly Difference[]): WordChange[] {
  const removed = new Map<string, Difference[]>();
  for (const difference of found)
    if (difference.kind === "removed")
      for (const key of keysOf(difference.words)) removed.set(key, [...(removed.get(key) ?? []), difference]);
  const used = new Set<Difference>();
  const replaced = new Map<Difference, Difference>();
  const unused = (key: string) => removed.get(key)?.find((difference) => !used.has(difference));
  // The same words first, so that they are not taken for another value of their option.
  for (const keyAt of [0, 1])
    for (const difference of found) {
      if (difference.kind !== "added" || replaced.has(difference)) continue;
      const key = keysOf(difference.words)[keyAt];
      const partner = key === undefined ? undefined : unused(key);
      if (partner === undefined) continue;
      used.add(partner);
      replaced.set(difference, partner);
    }
  return found.flatMap((difference): WordChange[] => {
    if (used.has(difference)) return [];
    const partner = replaced.get(difference);
    if (partner === undefined) return [difference];
    if (partner.words === difference.words) return [{ kind: "moved", words: difference.words }];
    return [{ kind: "changed", before: partner.words, words: difference.words }];
  });
}

/** What a word may be paired by: itself, and the option that it sets. */
function keysOf(words: ByteString): string[] {
  const subject = subjectOf(words);
  return subject === null ? [`= ${words}`] : [`= ${words}`, subject];
}

/** The thing that an option sets, so that `-O2` and `-O0` are one; null for options that are only there or not. */
function subjectOf(words: ByteString): string | null {
  if (/^-O[0-9a-z]{0,8}$/.test(words)) return "-O";
  if (/^-g[0-3]?$/.test(words)) return "-g";
  const macro = /^-[DU] ?([A-Za-z_]\w{0,255})/.exec(words);
  if (macro !== null) return `-D ${macro[1]}`;
  const toggle = /^-([fWm])(?:no-)?([A-Za-z0-9+-]{1,128})(?:=|$)/.exec(words);
  if (toggle !== null) return `-${toggle[1]} ${toggle[2]}`;
  const valued = /^(--?[A-Za-z][A-Za-z0-9+-]{0,128})[= ]/.exec(words);
  return valued === null || REPEATABLE.has(valued[1]!) ? null : valued[1]!;
}

/** Options that a call may hold any number of times, each for itself. */
const REPEATABLE = new Set(
  "-I -L -l -include -imacros -isystem -iquote -idirafter -Xclang -Xpreprocessor -Xassembler -Xlinker -mllvm --param -MT -MQ".split(
    " ",
  ),
);
