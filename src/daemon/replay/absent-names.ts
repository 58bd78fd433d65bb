// How the names that a compile sought in vain are held: by the stamp of the folder that would have to change for one to appear, or by name
// where folders change all the time. UNTRUSTED: names are a checkout's.
import { lstatSync } from "node:fs";
import type { ByteString } from "../../base/byte-string.ts";
import type { ReplayStamp } from "../../wire/launcher/replay-record.ts";
import type { AbsentName } from "../call/answered-call.ts";
import { PRECOMPILED } from "../inputs/folder-names.ts";
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

/** Names that are kept as known to be absent. */
const KNOWN_NAMES_MAX = 50_000;
const KNOWN_FOLDERS_MAX = 10_000;

/** Names that were seen to be absent from folders that have not changed since; kept by the writer. */
export class KnownAbsent {
  readonly #folders = new Map<ByteString, { readonly stamp: string; readonly names: Set<string> }>();
  #count = 0;
  /** The stamps of folders when they were looked at last, by path, and those that had changed by then. */
  readonly #seen = new Map<ByteString, string>();
  readonly #restless = new Set<ByteString>();

  /** Whether a folder was ever seen to change; looks at how it is now. */
  isRestless(folder: ByteString, stamp: ReplayStamp): boolean {
    const [before, now] = [this.#seen.get(folder), keyOf(stamp)];
    if (before !== undefined && before !== now) this.#restless.add(folder);
    if (this.#seen.size >= KNOWN_FOLDERS_MAX) {
      this.#seen.clear();
      this.#restless.clear();
    }
    this.#seen.set(folder, now);
    return this.#restless.has(folder);
  }

  /** The names that are not known to be absent from a folder with this stamp. */
  unknown(folder: ByteString, stamp: ReplayStamp, names: ReadonlySet<string>): string[] {
    const known = this.#folders.get(folder);
    if (known?.stamp !== keyOf(stamp)) return [...names];
    return [...names].filter((name) => !known.names.has(name));
  }

  /** To be told only of a stamp that any change shows in. */
  add(folder: ByteString, stamp: ReplayStamp, names: readonly string[]): void {
    if (names.length === 0) return;
    this.#count += names.length;
    if (this.#count > KNOWN_NAMES_MAX) {
      this.#folders.clear();
      this.#count = names.length;
    }
    const key = keyOf(stamp);
    const known = this.#folders.get(folder);
    if (known?.stamp === key) for (const name of names) known.names.add(name);
    else this.#folders.set(folder, { stamp: key, names: new Set(names) });
  }
}

function keyOf({ dev, ino, mtimeNs, ctimeNs }: ReplayStamp): string {
  return `${dev}:${ino}:${mtimeNs}:${ctimeNs}`;
}

export interface AbsentOptions {
  readonly nowMs: number;
  readonly known: KnownAbsent;
  /** `dev:ino` of folders that the call itself writes to. */
  readonly written: ReadonlySet<string>;
}

/** Adds what holds the names absent. */
export function holdAbsent(names: readonly AbsentName[], evidence: Evidence, options: AbsentOptions): void {
  const byFolder = new Map<ByteString, Set<string>>();
  const folders = new LookedAtFolders();
  for (const { folder, name } of names) {
    if (!folder.startsWith("/") || name === "") return evidence.refuse("odd_name");
    const { folder: deepest, missing, inTheWay } = placeOf(folder, name, folders);
    // What is in the way may come to lead somewhere without its folder's changing.
    if (inTheWay) {
      evidence.nothingAt(`${folder}/${name}` as ByteString);
      continue;
    }
    const known = byFolder.get(deepest);
    if (known === undefined) byFolder.set(deepest, new Set([missing]));
    else known.add(missing);
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

/** Looks at each path once. */
class LookedAtFolders {
  readonly #known = new Map<ByteString, boolean>();

  has(path: ByteString): boolean {
    let known = this.#known.get(path);
    if (known === undefined) {
      known = isFolder(path);
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

/** A call of C++ seeks thousands of names in vain, nearly all of them right in folders that exist: those are not taken apart. */
function placeOf(folder: ByteString, name: ByteString, folders: LookedAtFolders): MissingPlace {
  let at = (folder.endsWith("/") ? folder.slice(0, -1) : folder) as ByteString;
  if (!name.includes("/") && (at === "" || folders.has(at))) return { folder: at, missing: name, inTheWay: false };
  const below = name.split("/").filter((part) => part !== "");
  // The folder itself may be missing: then the first of its parts that is.
  while (at !== "" && !folders.has(at)) {
    const slash = at.lastIndexOf("/");
    below.unshift(at.slice(slash + 1));
    at = at.slice(0, slash) as ByteString;
  }
  for (;;) {
    const next = `${at}/${below[0]!}` as ByteString;
    if (below.length === 1) return { folder: at, missing: below[0]!, inTheWay: false };
    if (!folders.has(next)) return { folder: at, missing: below[0]!, inTheWay: look(next, lstatSync) !== null };
    at = next;
    below.shift();
  }
}

function holdInFolder(
  folder: ByteString,
  missing: Set<string>,
  { evidence, nowMs, written, known }: AbsentOptions & { readonly evidence: Evidence },
): void {
  const path = (name: string) => `${folder}/${name}` as ByteString;
  const found = folder === "" ? null : look(folder);
  const stat = found === "doubt" ? null : found;
  const isOwn = stat !== null && written.has(`${stat.dev}:${stat.ino}`);
  const stamp = stat === null ? null : stampOf(stat);
  const unknown = stamp === null ? [...missing] : known.unknown(folder, stamp, missing);
  for (const name of unknown) {
    if (look(path(name), lstatSync) === null) continue;
    if (PRECOMPILED.test(name) || !isFolder(path(name))) return evidence.refuse("present");
    // A compiler that seeks a header passes over such a folder; the dot is there only while it is one.
    evidence.place(`${path(name)}/.` as ByteString);
    missing.delete(name);
  }
  const absent = unknown.filter((name) => missing.has(name));
  if (stamp !== null && evidence.isSettledNow(stamp)) known.add(folder, stamp, absent);
  const isSteady = stamp !== null && evidence.isSettled(stamp, nowMs - STEADY_MS);
  const many = stamp !== null && known.isRestless(folder, stamp) ? NAMES_MANY_RESTLESS : NAMES_MANY;
  const byStamp =
    stamp !== null &&
    missing.size > NAMES_FEW &&
    !isOwn &&
    (isSteady || missing.size > many) &&
    evidence.isSettledAtStart(stamp);
  if (byStamp) evidence.stamp(folder, stamp);
  else for (const name of missing) evidence.absentIs(path(name));
}
