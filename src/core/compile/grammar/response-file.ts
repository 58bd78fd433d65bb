// Response files (`@file`) of GCC and Clang, expanded as libiberty's expandargv does. The two compilers, and versions of each,
// read some quotings differently: a file whose words depend on the reader is refused rather than guessed.
// UNTRUSTED: files of a checkout.
import { type ByteString, byteStringOf } from "../../../base/byte-string.ts";

/** Files inside files that are followed. */
const DEPTH_MAX = 8;
/** Words of one call after expansion. */
const WORDS_MAX = 100_000;
/** Bytes of one response file. */
const FILE_BYTES_MAX = 16 * 1024 * 1024;

/** Null for a file that is not there; "unreadable" for one that the compiler alone can read. */
export type ReadResponseFile = (path: ByteString) => Uint8Array | "unreadable" | null;

export type Expansion =
  | { readonly kind: "words"; readonly words: readonly ByteString[] }
  | { readonly kind: "refused"; readonly file: ByteString };

/**
 * Splits a response file into words; null when compilers would not agree on them: a backslash inside quotes other than before
 * the quote, `\`, `$` or a back-tick, an escaped line end, an empty word, NUL, vertical white space, an open quote, a byte order mark.
 */
export function splitResponseFile(text: ByteString): ByteString[] | null {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these bytes are what is refused
  if (/[\0\v\f]/.test(text) || /^(?:\xef\xbb\xbf|\xff\xfe|\xfe\xff)/.test(text)) return null;
  const words: ByteString[] = [];
  let word: string | null = null;
  let quote = "";
  for (let index = 0; index < text.length; index++) {
    const char = text.charAt(index);
    if (char === "\\") {
      const next = text.charAt(index + 1);
      if (next === "" || next === "\n" || next === "\r") return null;
      if (quote === "'" || (quote === '"' && !'"\\$`'.includes(next))) return null;
      word = (word ?? "") + next;
      index++;
    } else if (quote !== "") {
      if (char === quote) quote = "";
      else word = (word ?? "") + char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= "";
    } else if (" \t\r\n".includes(char)) {
      if (word === "") return null;
      if (word !== null) words.push(word as ByteString);
      word = null;
    } else {
      word = (word ?? "") + char;
    }
  }
  if (quote !== "" || word === "") return null;
  if (word !== null) words.push(word as ByteString);
  return words;
}

/** Replaces each `@file` by the file's words, files inside files included; one that is not there stays as it is. */
export function expandResponseFiles(argv: readonly ByteString[], read: ReadResponseFile): Expansion {
  const words: ByteString[] = [];
  const expand = (list: readonly ByteString[], depth: number): ByteString | null => {
    for (const word of list) {
      if (words.length >= WORDS_MAX) return word;
      const bytes = word.length > 1 && word.startsWith("@") ? read(word.slice(1) as ByteString) : null;
      if (bytes === null) {
        words.push(word);
        continue;
      }
      if (bytes === "unreadable") return word;
      const inner = bytes.length > FILE_BYTES_MAX ? null : splitResponseFile(byteStringOf(bytes));
      if (inner === null || depth >= DEPTH_MAX) return word;
      const refused = expand(inner, depth + 1);
      if (refused !== null) return refused;
    }
    return null;
  };
  const refused = expand(argv, 0);
  return refused === null ? { kind: "words", words } : { kind: "refused", file: refused };
}
