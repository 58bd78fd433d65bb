// How the names that a compile sought in vain are held: by the stamp of the folder that would have to change for one to appear, or by name
// where folders change all the time. UNTRUSTED: names are a checkout's.
import { lstatSync } from "node:fs";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import type { ReplayStamp } from "../../wire/launcher/replay-record.ts";
import type { AbsentNames } from "../call/answered-call.ts";
import { type FolderNames, type FolderNamesCache, FolderNamesOnce, PRECOMPILED } from "../inputs/folder-names.ts";
import { type Evidence, look, stampOf } from "./evidence.ts";

/** A folder that did not change for so long is taken for one that stays. */
const STEADY_MS = 3_600_000;
/** So few names cost a replay no more than their folder's stamp. */
const NAMES_FEW = 2;
/** So many names are too many to ask for one by one, wherever they are. */
const NAMES_MANY = 64;

/**
 * The same where folders were seen to change: a build's own folders do in each build, and their stamps would hold nothing. A project that
 * includes by a macro's name seeks all that its macros say, thousands of names.
 */
const NAMES_MANY_RESTLESS = 8_192;

const ROOT = ascii("/");
const KNOWN_FOLDERS_MAX = 10_000;

/** Folders that were seen to change; kept by the writer. */
export class RestlessFolders {
  /** The stamps of folders when they were looked at last, by path, and those that had changed by then. */
  readonly #seen = new Map<ByteString, string>();
  readonly #restless = new Set<ByteString>();

  /** Whether a folder was ever seen to change; looks at how it is now. */
  has(folder: ByteString, { dev, ino, mtimeNs, ctimeNs }: ReplayStamp): boolean {
    const [before, now] = [this.#seen.get(folder), `${dev}:${ino}:${mtimeNs}:${ctimeNs}`];
    if (before !== undefined && before !== now) this.#restless.add(folder);
    if (this.#seen.size >= KNOWN_FOLDERS_MAX) {
      this.#seen.clear();
      this.#restless.clear();
    }
    this.#seen.set(folder, now);
    return this.#restless.has(folder);
  }
}

export interface AbsentOptions {
  readonly nowMs: number;
  readonly names: Pick<FolderNamesCache, "read">;
  readonly restless: RestlessFolders;
  /** `dev:ino` of folders that the call itself writes to. */
  readonly written: ReadonlySet<string>;
}

/** Adds what holds the names absent. */
export function holdAbsent(groups: readonly AbsentNames[], evidence: Evidence, options: AbsentOptions): void {
  const byFolder = new Map<ByteString, Set<string>>();
  const missingIn = (folder: ByteString) => {
    const missing = byFolder.get(folder) ?? new Set();
    byFolder.set(folder, missing);
    return missing;
  };
  const places = new LookedAtPlaces(options.names);
  for (const { folder, names } of groups) {
    const at = (folder.endsWith("/") ? folder.slice(0, -1) : folder) as ByteString;
    if (!folder.startsWith("/") || names.includes("" as ByteString)) return evidence.refuse("odd_name");
    const own = places.isFolder(at) ? missingIn(at) : null;
    for (const name of names) {
      // A call of C++ seeks thousands of names in vain, nearly all of which lack their first part right in a folder that exists.
      const slash = name.indexOf("/");
      const first = slash < 0 ? name : name.slice(0, slash);
      if (own !== null && (slash < 0 || (slash > 0 && places.in(at, first) === "nothing"))) own.add(first);
      else {
        const { folder: deepest, missing, inTheWay } = placeOf(at, name, places);
        // What is in the way may come to lead somewhere without its folder's changing.
        if (inTheWay) evidence.nothingAt(`${folder}/${name}` as ByteString);
        else missingIn(deepest).add(missing);
      }
    }
  }
  for (const [folder, missing] of byFolder) {
    if (evidence.doubt !== null) return;
    holdInFolder(folder, missing, { evidence, ...options });
  }
}

function isFolder(path: ByteString): boolean {
  const found = look(path);
  return found !== null && found !== "doubt" && found.isDirectory();
}

/** Whether a folder lacks a name: one that has its names listed, and is none of its own. */
function lacks(kinds: FolderNames["kinds"] | undefined, name: string): boolean {
  return kinds?.has(name) === false && name !== "." && name !== "..";
}

/** Looks at each folder once, and at what is no plain name of it. Absolute paths; empty for the root folder. */
class LookedAtPlaces {
  readonly #names: FolderNamesOnce;
  readonly #known = new Map<string, "folder" | "other" | "nothing">();

  constructor(names: AbsentOptions["names"]) {
    this.#names = new FolderNamesOnce(names);
  }

  isFolder(path: ByteString): boolean {
    return path === "" || this.#look(path) === "folder";
  }

  in(folder: ByteString, name: string): "folder" | "other" | "nothing" {
    const kinds = this.#names.read(folder === "" ? ROOT : folder)?.kinds;
    return lacks(kinds, name) ? "nothing" : this.#look(`${folder}/${name}` as ByteString);
  }

  #look(path: ByteString): "folder" | "other" | "nothing" {
    let known = this.#known.get(path);
    if (known === undefined) {
      known = isFolder(path) ? "folder" : look(path, lstatSync) === null ? "nothing" : "other";
      this.#known.set(path, known);
    }
    return known;
  }
}

interface MissingPlace {
  /** The deepest folder on the way to the name that exists; empty for the root folder. */
  readonly folder: ByteString;
  /** The part that is missing in it. */
  readonly missing: string;
  /** A file is there where a folder is meant, or a link that leads to none. */
  readonly inTheWay: boolean;
}

function placeOf(folder: ByteString, name: ByteString, places: LookedAtPlaces): MissingPlace {
  let at = folder;
  const below = name.split("/").filter((part) => part !== "");
  // The folder itself may be missing: then the first of its parts that is.
  while (!places.isFolder(at)) {
    const slash = at.lastIndexOf("/");
    below.unshift(at.slice(slash + 1));
    at = at.slice(0, slash) as ByteString;
  }
  for (;;) {
    const missing = below[0]!;
    if (below.length === 1) return { folder: at, missing, inTheWay: false };
    const found = places.in(at, missing);
    if (found !== "folder") return { folder: at, missing, inTheWay: found === "other" };
    at = `${at}/${missing}` as ByteString;
    below.shift();
  }
}

function holdInFolder(
  folder: ByteString,
  missing: Set<string>,
  { evidence, nowMs, written, names, restless }: AbsentOptions & { readonly evidence: Evidence },
): void {
  const path = (name: string) => `${folder}/${name}` as ByteString;
  const found = folder === "" ? null : look(folder);
  const stat = found === "doubt" ? null : found;
  const isOwn = stat !== null && written.has(`${stat.dev}:${stat.ino}`);
  const stamp = stat === null ? null : stampOf(stat);
  const kinds = stamp === null ? undefined : names.read(folder === "" ? ROOT : folder)?.kinds;
  for (const name of missing) {
    if (lacks(kinds, name)) continue;
    if (look(path(name), lstatSync) === null) continue;
    if (PRECOMPILED.test(name) || !isFolder(path(name))) return evidence.refuse("present");
    // A compiler that seeks a header passes over such a folder; the dot is there only while it is one.
    evidence.place(`${path(name)}/.` as ByteString);
    missing.delete(name);
  }
  const isSteady = stamp !== null && evidence.isSettled(stamp, nowMs - STEADY_MS);
  const many = stamp !== null && restless.has(folder, stamp) ? NAMES_MANY_RESTLESS : NAMES_MANY;
  const byStamp =
    stamp !== null &&
    missing.size > NAMES_FEW &&
    !isOwn &&
    (isSteady || missing.size > many) &&
    evidence.isSettledAtStart(stamp);
  if (byStamp) evidence.stamp(folder, stamp);
  else for (const name of missing) evidence.absentIs(path(name));
}
