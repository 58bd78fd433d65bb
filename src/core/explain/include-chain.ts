// By which includes a source comes to a header: a search over the texts of the files that the call read, as they are now. The way is one that
// exists in some branch of the texts, the shortest one; which branch the compiler took is not asked. Pure but for the given reader.
// UNTRUSTED: the texts are a checkout's; files and bytes that are looked at are limited.
import type { ByteString } from "../../base/byte-string.ts";
import { scanSource } from "../compile/view/source-scan.ts";

export interface IncludeSearch {
  readonly source: ByteString;
  readonly cwd: ByteString;
  readonly words: readonly ByteString[];
  /** Paths that the call read. */
  readonly inputs: readonly ByteString[];
  /** Null for what cannot be read, or is no longer to be read since it took too long. */
  readonly read: (path: ByteString) => Uint8Array | null;
}

const FILES_MAX = 5_000;
const TEXT_BYTES_MAX = 64 * 1024 * 1024;

/** The way from the source to the file, both included, as the call named them; null when none was found. */
export function includeChain(search: IncludeSearch, target: ByteString): readonly ByteString[] | null {
  const names = new InputNames(search);
  const start = normalPath(search.source);
  const end = normalPath(target);
  const from = new Map<string, string | null>([[start, null]]);
  let bytesLeft = TEXT_BYTES_MAX;
  const queue = [start, ...names.forced().filter((path) => path !== start)];
  for (const path of queue) if (!from.has(path)) from.set(path, start);
  for (let at = 0; at < queue.length && at < FILES_MAX && !from.has(end); at += 1) {
    const path = queue[at]!;
    const bytes = search.read(names.recorded(path));
    if (bytes === null || bytes.length > bytesLeft) continue;
    bytesLeft -= bytes.length;
    for (const next of names.includedBy(path, bytes)) {
      if (from.has(next)) continue;
      from.set(next, path);
      queue.push(next);
    }
  }
  if (!from.has(end)) return null;
  const chain: ByteString[] = [];
  for (let path: string | null = end; path !== null; path = from.get(path) ?? null) chain.unshift(names.recorded(path));
  return chain;
}

/** Finds which of the files that were read an include means. */
class InputNames {
  readonly #search: IncludeSearch;
  /** Paths as they were named, by their normal form. */
  readonly #recorded = new Map<string, ByteString>();
  readonly #byBaseName = new Map<string, string[]>();
  readonly #folders: readonly string[];

  constructor(search: IncludeSearch) {
    this.#search = search;
    for (const path of search.inputs) {
      const normal = normalPath(path);
      if (this.#recorded.has(normal)) continue;
      this.#recorded.set(normal, path);
      const base = normal.slice(normal.lastIndexOf("/") + 1);
      this.#byBaseName.set(base, [...(this.#byBaseName.get(base) ?? []), normal]);
    }
    this.#folders = valuesOf(search.words, FOLDER_OPTIONS).map((folder) => this.#absolute(folder));
  }

  recorded(normal: string): ByteString {
    return this.#recorded.get(normal) ?? (normal as ByteString);
  }

  /** Files that options include before the source. */
  forced(): string[] {
    return valuesOf(this.#search.words, ["-include", "-imacros"]).flatMap((name) =>
      this.#meant(this.#absolute("."), name, true),
    );
  }

  includedBy(path: string, bytes: Uint8Array): string[] {
    const folder = path.slice(0, path.lastIndexOf("/"));
    const { includes, definitions, computedInclude } = scanSource(bytes, "names");
    const found = includes.flatMap(({ name, quoted }) => this.#meant(folder, name, quoted));
    return computedInclude ? [...found, ...definitions.flatMap((name) => this.#meant(folder, name, true))] : found;
  }

  /** Where the search path tells nothing (`#include_next`, the compiler's own folders), any file with such an end. */
  #meant(folder: string, name: string, quoted: boolean): string[] {
    const known = (path: string) => this.#recorded.has(path);
    if (name.startsWith("/")) return [normalPath(name)].filter(known);
    const beside = normalPath(`${folder}/${name}`);
    if (quoted && known(beside)) return [beside];
    for (const place of this.#folders) {
      const path = normalPath(`${place}/${name}`);
      if (known(path)) return [path];
    }
    const plain = name.split("/").filter((part) => part !== "." && part !== "..");
    const end = `/${plain.join("/")}`;
    return (this.#byBaseName.get(plain.at(-1) ?? "") ?? []).filter((path) => path.endsWith(end));
  }

  #absolute(path: string): string {
    return normalPath(path.startsWith("/") ? path : `${this.#search.cwd}/${path}`);
  }
}

const FOLDER_OPTIONS = ["-iquote", "-I", "-isystem", "-idirafter"] as const;

/** Values of options, joined to them or in the next word; by option, then in order. */
function valuesOf(words: readonly ByteString[], options: readonly string[]): string[] {
  return options.flatMap((option) =>
    words.flatMap((word, at) => {
      if (word === option) return words[at + 1] ?? [];
      return word.startsWith(option) ? word.slice(option.length) : [];
    }),
  );
}

/** Without `.`, `..` and double slashes; links are not looked at. */
export function normalPath(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}
