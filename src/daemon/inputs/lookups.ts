// What a compiler may seek on the include path, held against what the view answers. A link that leaves the view is nothing to a compiler
// in the view: it takes the next file of that name, or none, says nothing, and the object would be wrong. Knows folders and names,
// no command line. UNTRUSTED: texts and links are a checkout's.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { SourceScan } from "../../core/compile/view/source-scan.ts";
import { toHostPath, type View } from "../../core/compile/view/view.ts";
import type { AbsentNames } from "../call/answered-call.ts";
import { type FolderNamesCache, PRECOMPILED } from "./folder-names.ts";
import type { SourceTree } from "./source-tree.ts";

/** A text that the compile reads. */
export interface ReadText {
  /** Folder of the file in the view, where quoted names are sought first; null for a file of the image. */
  readonly folder: ByteString | null;
  readonly scan: SourceScan;
}

export interface LookupPlaces {
  readonly view: View;
  readonly tree: SourceTree;
  readonly names: Pick<FolderNamesCache, "read">;
  /** Include folders in the view, absolute. */
  readonly folders: readonly ByteString[];
  /** Working directory in the view, where names of `-include` are sought first. */
  readonly cwd: ByteString;
  /** Names that the command line includes, and values of macros that it defines. */
  readonly forced: readonly ByteString[];
  readonly macros: readonly ByteString[];
  /** Absolute names that the command line includes, in the view. */
  readonly forcedPaths: readonly ByteString[];
  /** Files that the compile reads, as its compiler names them: a folder, and behind it the name that was sought. */
  readonly found: readonly ByteString[];
}

/** The first name that the host finds and the view does not, as a path of the host; null when there is none. */
export function escapingLookup(texts: readonly ReadText[], places: LookupPlaces): ByteString | null {
  const names = namesOf(texts, places);
  for (const { folder, scan } of texts) {
    if (folder === null) continue;
    const quoted = [...scan.includes, ...scan.tests].flatMap(({ name, quoted: own }) => (own ? [name] : []));
    const escaping =
      escapingIn(folder, quoted, places) ?? escapingIn(folder, computedNames([{ folder, scan }], places), places);
    if (escaping !== null) return escaping;
  }
  for (const folder of places.folders) {
    const escaping = escapingIn(folder, names, places);
    if (escaping !== null) return escaping;
  }
  return escapingIn(places.cwd, places.forced, places);
}

/** Every name that is sought on the include path, once. */
function namesOf(texts: readonly ReadText[], places: LookupPlaces): Set<ByteString> {
  const names = new Set<ByteString>(places.forced);
  for (const { scan } of texts) {
    for (const { name } of scan.includes) names.add(name);
    for (const { name } of scan.tests) names.add(name);
  }
  for (const name of computedNames(texts, places)) names.add(name);
  return names;
}

/**
 * Names that macros may make, where one makes the name of an include: those in definitions, and for one that is made of parts, whatever
 * may have been the name of a file that was found.
 */
function computedNames(texts: readonly ReadText[], { macros, found }: LookupPlaces): ByteString[] {
  if (!texts.some(({ scan }) => scan.computedInclude)) return [];
  return [...texts.flatMap(({ scan }) => scan.definitions), ...macros.flatMap(delimited), ...found.flatMap(endsOf)];
}

/** `c.h` and `b/c.h` of `/a/b/c.h`, and so on. */
function endsOf(path: ByteString): ByteString[] {
  const ends: ByteString[] = path.startsWith("/") ? [] : [path];
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) ends.push(path.slice(at + 1) as ByteString);
  return ends;
}

/** Texts between quotes and angle brackets. */
function delimited(value: ByteString): ByteString[] {
  const found: ByteString[] = [];
  for (const [open, close] of [
    ["<", ">"],
    ['"', '"'],
  ] as const) {
    for (let start = value.indexOf(open); start >= 0; ) {
      const end = value.indexOf(close, start + 1);
      if (end < 0) break;
      found.push(value.slice(start + 1, end) as ByteString);
      start = value.indexOf(open, end + 1);
    }
  }
  return found;
}

/** Names that texts seek in folders of the host, and that are not there. */
export function absentNames(texts: readonly ReadText[], places: LookupPlaces): AbsentNames[] {
  const sought = new Map<ByteString, Set<ByteString>>();
  const seek = (folder: ByteString, names: Iterable<ByteString>) => {
    const host = toHostPath(places.view, folder);
    if (host === null) return;
    const kinds = places.names.read(host)?.kinds;
    const absent = sought.get(host) ?? new Set();
    sought.set(host, absent);
    for (const name of names) {
      if (name.startsWith("/")) continue;
      // GCC takes a precompiled header that stands beside a header, or where that is sought.
      for (const asked of [name, `${name}.gch` as ByteString]) {
        const first = asked.split("/", 1)[0]!;
        const isThere = first === "" || first.startsWith(".") || kinds?.has(first) === true;
        if (!isThere || !existsOnHost(`${host}/${asked}` as ByteString)) absent.add(asked);
      }
    }
  };
  const names = namesOf(texts, places);
  for (const folder of places.folders) seek(folder, names);
  for (const text of texts)
    if (text.folder !== null) {
      const quoted = [...text.scan.includes, ...text.scan.tests].flatMap(({ name, quoted: own }) =>
        own ? [name] : [],
      );
      seek(text.folder, [...quoted, ...computedNames([text], places)]);
    }
  seek(places.cwd, places.forced);
  return [...sought].map(([folder, absent]) => ({ folder, names: [...absent] }));
}

function escapingIn(folder: ByteString, names: Iterable<ByteString>, places: LookupPlaces): ByteString | null {
  const host = toHostPath(places.view, folder);
  const listed = host === null ? null : (places.names.read(host)?.kinds ?? null);
  for (const name of names) {
    const absolute = name.startsWith("/");
    if (!absolute && !mayEscape(name, listed)) continue;
    const found = places.tree.look(absolute ? name : (`${folder}/${name}` as ByteString));
    if (found.kind !== "outside" && found.kind !== "absent") continue;
    const onHost = absolute ? name : host === null ? null : (`${host}/${name}` as ByteString);
    // A folder is no header to any compiler; texts define many, as where a program is installed.
    if (onHost !== null && existsOnHost(onHost) && !(absolute && isFolderOnHost(onHost))) return onHost;
  }
  return null;
}

/** Whether a name below a folder can lead elsewhere than straight to a file in it. */
function mayEscape(name: ByteString, listed: ReadonlyMap<string, string> | null): boolean {
  if (listed === null) return false;
  const slash = name.indexOf("/");
  const first = slash < 0 ? name : name.slice(0, slash);
  if (first === "." || first === ".." || first === "") return true;
  const kind = listed.get(first);
  return kind === "link" || kind === "other" || (kind === "folder" && slash >= 0);
}

function existsOnHost(path: ByteString): boolean {
  try {
    return statSync(bytesOf(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    // A link that leads in circles, a folder that is closed: a compiler stops there and says so.
    return true;
  }
}

function isFolderOnHost(path: ByteString): boolean {
  try {
    return statSync(bytesOf(path)).isDirectory();
  } catch {
    return false;
  }
}

/** Precompiled headers that the compile may take in the place of headers, as paths of the view. */
export function precompiledHeaders(texts: readonly ReadText[], places: LookupPlaces): ByteString[] {
  const found: ByteString[] = [];
  const forced = places.forcedPaths.map((path) => path.slice(0, path.lastIndexOf("/")) as ByteString);
  const folders = new Set([...places.folders, places.cwd, ...forced, ...texts.flatMap(({ folder }) => folder ?? [])]);
  let wanted: Set<string> | null = null;
  for (const folder of folders) {
    const host = toHostPath(places.view, folder);
    const names = host === null ? [] : (places.names.read(host)?.precompiled ?? []);
    if (names.length === 0) continue;
    wanted ??= new Set(
      [...namesOf(texts, places), ...places.forcedPaths].map((name) => name.slice(name.lastIndexOf("/") + 1)),
    );
    for (const name of names)
      if (wanted.has(name.replace(PRECOMPILED, ""))) found.push(`${folder}/${name}` as ByteString);
  }
  return found;
}
