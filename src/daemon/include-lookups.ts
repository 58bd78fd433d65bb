// Finds names that a compiler seeks on the include path and that the view answers otherwise than the host: a link that leaves the
// view is nothing to a preprocessor in the view, which then takes the next file of that name, or none, and says nothing; the
// object would be wrong. Knows folders and names, no command line. UNTRUSTED: texts and links are a checkout's.
import { readdirSync, statSync } from "node:fs";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";
import type { PathMapper } from "../core/compile/path-map.ts";

/** What a text seeks. */
export interface Lookups {
  /** Names as spelled without their delimiters, of \`#include\`, \`__has_include\` and their like. */
  readonly names: readonly ByteString[];
  /** An \`#include\` whose name macros make: any name in a definition may be meant. */
  readonly computedInclude: boolean;
  /** A \`__has_include\` whose name macros make. */
  readonly computedTest: boolean;
}

const NAME = String.raw`(?:<([^>\n]*)>|"([^"\n]*)"|([^\n]*))`;
const TEST = new RegExp(String.raw`__has_include(?:_next)?[ \t]*\([ \t]*(?:<([^>\n]*)>|"([^"\n]*)"|([^)\n]*))`, "g");
const INCLUDE = new RegExp(String.raw`^(?:[ \t]|/\*[^\n]*?\*/)*#[ \t]*(?:include_next|include|import)\b[ \t]*${NAME}`, "gm");
const DEFINITION = /^[ \t]*#[ \t]*define\b[^\n]*?(?:<([^>\n]*)>|"([^"\n]*)")/gm;

const known = new WeakMap<Uint8Array, Lookups>();

/** What a file's text seeks. The answer is kept as long as the bytes. */
export function lookupsOf(bytes: Uint8Array): Lookups {
  const before = known.get(bytes);
  if (before !== undefined) return before;
  const text = byteStringOf(bytes);
  const names = new Set<ByteString>();
  const computed = (pattern: RegExp): boolean => {
    let found = false;
    for (const match of text.matchAll(pattern)) {
      const name = match[1] ?? match[2];
      if (name === undefined) found = true;
      else names.add(name as ByteString);
    }
    return found;
  };
  const computedTest = text.includes("__has_include") && computed(TEST);
  const computedInclude = computed(INCLUDE);
  for (const match of text.matchAll(DEFINITION)) names.add((match[1] ?? match[2]) as ByteString);
  const lookups = { names: [...names], computedInclude, computedTest };
  known.set(bytes, lookups);
  return lookups;
}

interface Folder {
  readonly changed: string;
  readonly links: ReadonlySet<string>;
  readonly folders: ReadonlySet<string>;
}

/** What folders of the host hold of links and folders, as long as they do not change. */
export class FolderLinks {
  readonly #known = new Map<ByteString, Folder | null>();

}
