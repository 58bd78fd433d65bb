// Maps the paths of a call into the view, by grammar and not by text, and back as the user spelled them. Pure:
// links are read through a callback. A path that leads to neither the project, nor an extra root, nor the image is a bypass.
//
// A relative path stays as it is when it leads to the same file from the mapped working directory: on its way, links followed, it
// never leaves the root that it starts in and meets no absolute link (whose target means something else in the view). Otherwise it
// becomes absolute. Of an absolute path the part up to its entry into a root is replaced, the rest stays as spelled, because a
// compiler seeks `#include "x"` beside the name of a file, not beside what a link leads to; a file whose very name is such
// an absolute link is therefore a bypass.
// UNTRUSTED: the caller's paths, the checkout's links.

import type { ByteString } from "../../../base/byte-string.ts";
import { withoutTrailingSlashes } from "../../../base/trailing-slashes.ts";
import { type Argument, type GnuInvocation, type ValueKind, withValue } from "../grammar/invocation.ts";
import { toGuestPath, toHostPath, type View } from "./view.ts";

/** Links followed in one path, as in Linux. */
const LINKS_MAX = 40;

export interface ViewFiles {
  readonly view: View;
  /** The call's working directory on the host, absolute, links resolved. */
  readonly cwd: ByteString;
  /** Names of top-level entries (`usr`, `etc`, `lib` ...) below which the image's files stand, on both sides. */
  readonly imageEntries: ReadonlySet<string>;
  /** The target of the link at an absolute path of the `local` namespace; null when there is none or something else. */
  readlink(path: ByteString): ByteString | null;
}

export interface PathMapper {
  /** The view's spelling of a folder; null when it is out of view. */
  directory(path: ByteString): ByteString | null;
  /** The view's spelling of a file, which keeps the folder that its name stands in; null when it is out of view. */
  file(path: ByteString): ByteString | null;
}

/** A path as mapped and as the user spelled it, for the way back. */
export interface Spelling {
  readonly guest: ByteString;
  readonly spelled: ByteString;
}

/** Sources by convention: of a project below it, the `local` namespace shows the host's neighbours, `strict` the image's. */
const SOURCES_FOLDER = "/usr/src/";

/** Which place a resolved host path is in: a root by its host path, the image, or neither. */
function placeOf(files: ViewFiles, position: string): string | null {
  const { roots } = files.view;
  for (const root of roots) if (position === root.host || position.startsWith(`${root.host}/`)) return root.host;
  if (position.startsWith(SOURCES_FOLDER) && roots.some(({ host }) => host.startsWith(SOURCES_FOLDER))) return null;
  const first = position.split("/", 2)[1] ?? "";
  return first !== "" && files.imageEntries.has(first) ? IMAGE : null;
}

/** No root's host path: those are absolute. */
const IMAGE = "image";

interface Walk {
  /** The resolved host path so far; "" is the root folder. */
  position: string;
  /** The place within which the path so far means the same on both sides; null when it has left it. */
  anchor: string | null;
  links: number;
}

function enter(files: ViewFiles, walk: Walk, position: string): void {
  walk.position = position;
  // The root folder holds the image's entries on both sides.
  const stays = position === "" ? walk.anchor === IMAGE : placeOf(files, position) === walk.anchor;
  if (!stays) walk.anchor = null;
}

/** Takes one component, links followed; false when there are too many links. */
function step(files: ViewFiles, walk: Walk, component: string): boolean {
  if (component === "" || component === ".") return true;
  if (component === "..") {
    enter(files, walk, walk.position.slice(0, Math.max(0, walk.position.lastIndexOf("/"))));
    return true;
  }
  const next = `${walk.position}/${component}`;
  const target = files.readlink(next as ByteString);
  if (target === null) {
    enter(files, walk, next);
    return true;
  }
  if (++walk.links > LINKS_MAX) return false;
  if (placeOf(files, next) !== walk.anchor) walk.anchor = null;
  if (target.startsWith("/")) enter(files, walk, "");
  return target.split("/").every((part) => step(files, walk, part));
}

function mapPath(files: ViewFiles, path: ByteString, kind: "file" | "directory"): ByteString | null {
  if (path === "") return path;
  const relative = !path.startsWith("/");
  const walk: Walk = {
    position: relative ? files.cwd : "",
    anchor: relative ? placeOf(files, files.cwd) : IMAGE,
    links: 0,
  };
  // The view's spelling is `prefix` and the path from `taken` on.
  let prefix = "";
  let taken = 0;
  for (let index = 0; index < path.length; ) {
    const slash = path.indexOf("/", index);
    const stop = slash < 0 ? path.length : slash;
    const component = path.slice(index, stop);
    const unlinked = `${walk.position}/${component}`;
    if (!step(files, walk, component)) return null;
    if (walk.anchor === null) {
      walk.anchor = placeOf(files, walk.position);
      if (walk.anchor !== null) {
        const isName = /^\/*$/.test(path.slice(stop));
        const isLink = walk.position !== unlinked && component !== "." && component !== "..";
        if (kind === "file" && isName && isLink) return null;
        prefix = toGuestPath(files.view, walk.position as ByteString) ?? walk.position;
        taken = stop;
      }
    }
    index = stop + 1;
  }
  if (walk.anchor === null || walk.position === "") return null;
  return (prefix + path.slice(taken)) as ByteString;
}

/** The mapper for calls from one working directory. */
export function viewPathMapper(files: ViewFiles): PathMapper {
  return {
    directory: (path) => mapPath(files, path, "directory"),
    file: (path) => mapPath(files, path, "file"),
  };
}

export interface NamedPath {
  readonly path: ByteString;
  readonly kind: Exclude<ValueKind, "text">;
  /** The option or environment variable that names it; empty for the source. */
  readonly option: ByteString;
}

/** Roles whose words are made anew for each step, or that no step gets: the host's own paths. */
function isHostOnly(argument: Argument): boolean {
  return ["output", "dependency", "mode", "unused"].includes(argument.role);
}

/** The folders of an include path variable; an empty one is the working directory, and no path. */
function foldersOf(value: ByteString): ByteString[] {
  return value.split(":").filter((folder) => folder !== "") as ByteString[];
}

export type IncludePaths = readonly (readonly [name: ByteString, value: ByteString])[];

/** All paths that must be in view, in order: the command line's (response files expanded), then the environment's. */
export function pathsOf(invocation: GnuInvocation, includePaths: IncludePaths): NamedPath[] {
  const paths: NamedPath[] = [];
  for (const { value, valueKind, option, ...argument } of invocation.arguments) {
    if (value === null || valueKind === "text" || isHostOnly({ ...argument, value, valueKind, option })) continue;
    const path = valueKind === "prefix_map" ? (oldOf(value) ?? value) : value;
    paths.push({ path, kind: valueKind, option });
  }
  for (const [name, value] of includePaths)
    for (const path of foldersOf(value)) paths.push({ path, kind: "directory", option: name });
  return paths;
}

/** The left side of a prefix map; null when it has none. Both compilers split at the first `=`. */
function oldOf(value: ByteString): ByteString | null {
  const equals = value.indexOf("=");
  return equals < 0 ? null : (value.slice(0, equals) as ByteString);
}

/**
 * The left side of a prefix map in the view: one below a root, spelled as the root is, or in the image, or relative. Any other
 * would match paths on the host that the view spells differently.
 */
function mapPrefix(files: ViewFiles, value: ByteString): ByteString | null {
  const old = oldOf(value);
  if (old === null || old === "") return null;
  if (!old.startsWith("/")) return value;
  const guest = toGuestPath(files.view, old);
  if (guest !== null) return (guest + value.slice(old.length)) as ByteString;
  const above = files.view.roots.some((root) => root.host.startsWith(old));
  return placeOf(files, old) === IMAGE && !above ? value : null;
}

export type MappedInvocation =
  | {
      readonly kind: "mapped";
      /** As GnuInvocation, with the source and all arguments that steps get spelled for the view; outputs as on the host. */
      readonly invocation: GnuInvocation;
      /** As given, spelled for the view. */
      readonly includePaths: IncludePaths;
      readonly spellings: readonly Spelling[];
    }
  | { readonly kind: "bypass"; readonly reason: "outside_view"; readonly detail: ByteString };

/** Maps an invocation and its environment's include paths into the view. */
export function mapInvocation(
  invocation: GnuInvocation,
  includePaths: IncludePaths,
  files: ViewFiles,
): MappedInvocation {
  const mapper = viewPathMapper(files);
  const spellings: Spelling[] = [];
  const mapOne = (path: ByteString, kind: ValueKind): ByteString | null => {
    if (kind === "prefix_map") return mapPrefix(files, path);
    const guest = kind === "directory" ? mapper.directory(path) : mapper.file(path);
    if (guest !== null && guest !== path)
      spellings.push({ guest: withoutSlashes(guest), spelled: withoutSlashes(path) });
    return guest;
  };
  const outside = (detail: ByteString): MappedInvocation => ({ kind: "bypass", reason: "outside_view", detail });
  if (placeOf(files, files.cwd) === null || placeOf(files, files.cwd) === IMAGE) return outside(files.cwd);
  const mapped: Argument[] = [];
  let source = invocation.source;
  for (const argument of invocation.arguments) {
    if (argument.value === null || argument.valueKind === "text" || isHostOnly(argument)) {
      mapped.push(argument);
      continue;
    }
    const value = mapOne(argument.value, argument.valueKind);
    if (value === null) return outside(argument.value);
    if (argument.role === "input") source = value;
    mapped.push(value === argument.value ? argument : withValue(argument, value));
  }
  const variables: (readonly [ByteString, ByteString])[] = [];
  for (const [name, value] of includePaths) {
    const folders: string[] = [];
    for (const folder of value.split(":") as ByteString[]) {
      const guest = mapOne(folder, "directory");
      // A colon would part one folder in two.
      if (guest === null || guest.includes(":")) return outside(folder);
      folders.push(guest);
    }
    variables.push([name, folders.join(":") as ByteString]);
  }
  return {
    kind: "mapped",
    invocation: { ...invocation, source, arguments: mapped },
    includePaths: variables,
    spellings,
  };
}

function withoutSlashes(path: ByteString): ByteString {
  return `${path.slice(0, 1)}${withoutTrailingSlashes(path.slice(1))}` as ByteString;
}

/** A path of the view as the user spelled it, or by its root's host path; null for one of no root (an image's). */
export function toSpelledPath(view: View, spellings: readonly Spelling[], guestPath: ByteString): ByteString | null {
  let best: Spelling | null = null;
  for (const spelling of spellings) {
    const { guest } = spelling;
    if (guestPath !== guest && !guestPath.startsWith(`${guest}/`)) continue;
    // Of equal ones the first counts, as a compiler drops a folder that it already searches.
    if (best === null || guest.length > best.guest.length) best = spelling;
  }
  if (best !== null) return (best.spelled + guestPath.slice(best.guest.length)) as ByteString;
  return toHostPath(view, guestPath);
}
