// Finds names that a compiler seeks on the include path and that the view answers otherwise than the host. A link that leaves the
// view is nothing to a preprocessor in the view: it takes the next file of that name, or none, says nothing, and the object would
// be wrong. Knows folders and names, no command line. UNTRUSTED: texts and links are a checkout's.
import { readdirSync, statSync } from "node:fs";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";
import type { Clock } from "../base/clock.ts";
import type { PathMapper } from "../core/compile/view/path-map.ts";

/** What a text seeks: names as spelled, without their delimiters. */
export interface Lookups {
  /** Of `#include`, `__has_include` and their like. */
  readonly names: readonly ByteString[];
  /** In definitions: meant where macros make a name. */
  readonly definitions: readonly ByteString[];
  /** Whether macros make the name of an `#include`, or of a `__has_include`. */
  readonly computedInclude: boolean;
  readonly computedTest: boolean;
}

const TEST = /__has_include(?:_next)?[ \t]*\([ \t]*(?:<([^>\n]*)>|"([^"\n]*)"|[^)\n]*)/g;
const INCLUDE =
  /^(?:[ \t]|\/\*[^\n]*?\*\/)*#[ \t]*(?:include_next|include|import)\b[ \t]*(?:<([^>\n]*)>|"([^"\n]*)"|[^\n]*)/gm;
const DEFINITION = /^[ \t]*#[ \t]*define\b[^\n]*?(?:<([^>\n]*)>|"([^"\n]*)")/gm;

const known = new WeakMap<Uint8Array, Lookups>();

/** What a file's text seeks; kept as long as its bytes. */
export function lookupsOf(bytes: Uint8Array): Lookups {
  const before = known.get(bytes);
  if (before !== undefined) return before;
  const text = byteStringOf(bytes);
  const names = new Set<ByteString>();
  const collect = (pattern: RegExp, into: Set<ByteString>): boolean => {
    let computed = false;
    for (const match of text.matchAll(pattern)) {
      const name = match[1] ?? match[2];
      if (name === undefined) computed = true;
      else into.add(name as ByteString);
    }
    return computed;
  };
  const computedTest = text.includes("__has_include") && collect(TEST, names);
  const computedInclude = collect(INCLUDE, names);
  const definitions = new Set<ByteString>();
  collect(DEFINITION, definitions);
  const lookups = { names: [...names], definitions: [...definitions], computedInclude, computedTest };
  known.set(bytes, lookups);
  return lookups;
}

interface Folder {
  readonly stamp: string;
  readonly links: ReadonlySet<string>;
  readonly folders: ReadonlySet<string>;
  /** Names of precompiled headers, be they files or folders. */
  readonly precompiled: readonly ByteString[];
}

const PRECOMPILED = /\.(?:gch|pch)$/;
const FOLDERS_MAX = 20_000;
/** A folder that changed so shortly before it was listed may change again and look the same. */
const SETTLED_MS = 50;

/** Names of links and folders in folders of the host, as long as these do not change. */
export class FolderLinks {
  readonly #known = new Map<ByteString, Folder>();
  readonly #clock: Pick<Clock, "wallMs">;

  constructor(clock: Pick<Clock, "wallMs">) {
    this.#clock = clock;
  }

  /** Null when there is no such folder. */
  read(path: ByteString): Folder | null {
    const host = bytesOf(path);
    try {
      const stat = statSync(host, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined || !stat.isDirectory()) return null;
      const stamp = `${stat.dev}:${stat.ino}:${stat.mtimeNs}:${stat.ctimeNs}`;
      const before = this.#known.get(path);
      if (before?.stamp === stamp) return before;
      const entries = readdirSync(host, { withFileTypes: true, encoding: "buffer" });
      const names = (wanted: typeof entries) => new Set<string>(wanted.map(({ name }) => byteStringOf(name)));
      const folder = {
        stamp,
        links: names(entries.filter((entry) => entry.isSymbolicLink())),
        folders: names(entries.filter((entry) => entry.isDirectory())),
        precompiled: entries.map(({ name }) => byteStringOf(name)).filter((name) => PRECOMPILED.test(name)),
      };
      if (this.#known.size >= FOLDERS_MAX) this.#known.clear();
      if (this.#clock.wallMs() - Number(stat.ctimeMs) > SETTLED_MS) this.#known.set(path, folder);
      return folder;
    } catch {
      return null;
    }
  }
}

export interface LookupQuestion {
  /** Files that preprocessing read, by their host paths. */
  readonly reads: readonly { readonly path: ByteString; readonly bytes: Uint8Array }[];
  /** Host paths of the include folders. */
  readonly folders: readonly ByteString[];
  /** Host path of the working directory, where the names of `-include` are sought first. */
  readonly cwd: ByteString;
  /** Names that the command line includes, and values of macros that it defines. */
  readonly forced: readonly ByteString[];
  readonly macros: readonly ByteString[];
  readonly mapper: PathMapper;
  readonly links: FolderLinks;
}

/** The first file that the host finds and the view does not, or would find elsewhere; null when there is none. */
export function escapingLookup(question: LookupQuestion): ByteString | null {
  const found = question.reads.map(({ path, bytes }) => ({ path, ...lookupsOf(bytes) }));
  if (found.some(({ computedTest }) => computedTest)) return ascii("computed operand of __has_include");
  const folders = [...new Set(question.folders.map(withoutSlashes))];
  const names = new Set([...question.forced, ...found.flatMap((read) => read.names)]);
  if (found.some(({ computedInclude }) => computedInclude))
    for (const name of computedNames(question, folders, found)) names.add(name);
  const check = lookupCheck(question);
  for (const { path, names: own } of found) {
    const escaping = check(path.slice(0, path.lastIndexOf("/")) as ByteString, own);
    if (escaping !== null) return escaping;
  }
  for (const folder of [...folders, question.cwd]) {
    const escaping = check(folder, folders.includes(folder) ? names : question.forced);
    if (escaping !== null) return escaping;
  }
  return null;
}

/** A precompiled header that a one-step compile may take in the place of a file that preprocessing read; null for none. */
export function precompiledHeader(
  question: Pick<LookupQuestion, "reads" | "folders" | "cwd" | "forced" | "links">,
): ByteString | null {
  const paths = [...question.reads.map(({ path }) => path), ...question.forced];
  const names = new Set<string>(paths.map((path) => path.slice(path.lastIndexOf("/") + 1)));
  const beside = question.reads.map(({ path }) => path.slice(0, path.lastIndexOf("/")) as ByteString);
  for (const folder of new Set([...beside, ...question.folders.map(withoutSlashes), question.cwd]))
    for (const name of question.links.read(folder)?.precompiled ?? [])
      if (names.has(name.replace(PRECOMPILED, ""))) return `${folder}/${name}` as ByteString;
  return null;
}

/** Names that macros may make: those in definitions, and those of the files that were found. */
function computedNames(
  { reads, macros }: LookupQuestion,
  folders: readonly ByteString[],
  found: readonly Lookups[],
): ByteString[] {
  const quoted = macros.flatMap((value) =>
    [...value.matchAll(/<([^>]*)>|"([^"]*)"/g)].map((match) => match[1] ?? match[2]!),
  );
  const relative = folders.flatMap((folder) =>
    reads.filter(({ path }) => path.startsWith(`${folder}/`)).map(({ path }) => path.slice(folder.length + 1)),
  );
  return [...found.flatMap(({ definitions }) => definitions), ...quoted, ...relative] as ByteString[];
}

function lookupCheck({ mapper, links }: LookupQuestion) {
  const listed = new Map<ByteString, Folder | null>();
  const list = (path: ByteString) => {
    const before = listed.get(path);
    if (before !== undefined) return before;
    const folder = links.read(path);
    listed.set(path, folder);
    return folder;
  };
  /** Whether a name below a folder can lead elsewhere than straight down. */
  const isSuspect = (folder: ByteString, name: ByteString): boolean => {
    let at: string = folder;
    for (const part of name.split("/")) {
      if (part === "" || part === ".") continue;
      const entries = part === ".." ? null : list(at as ByteString);
      if (part === ".." || entries?.links.has(part) === true) return true;
      if (entries?.folders.has(part) !== true) return false;
      at += `/${part}`;
    }
    return false;
  };
  return (folder: ByteString, names: Iterable<ByteString>): ByteString | null => {
    const place = mapper.directory(folder);
    for (const name of names) {
      const absolute = name.startsWith("/");
      if (!absolute && !isSuspect(folder, name)) continue;
      const path = absolute ? name : (`${folder}/${name}` as ByteString);
      const same = absolute ? name : place === null ? null : `${place}/${name}`;
      if (mapper.file(path) !== same && existsOnHost(path)) return path;
    }
    return null;
  };
}

function existsOnHost(path: ByteString): boolean {
  try {
    return statSync(bytesOf(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

function withoutSlashes(path: ByteString): ByteString {
  return path.replace(/(?<=.)\/+$/s, "") as ByteString;
}
