// Whether the folders and links that lead to a call's files, and the names that it found absent, are those of before its list. A file
// keeps its times when a folder above it is moved, so what a path led to can be another file that looks old. UNTRUSTED: a checkout's names.
import { type BigIntStats, lstatSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import type { AbsentNames } from "../call/answered-call.ts";
import { realPath } from "../call/real-path.ts";
import { Remembered } from "../call/remembered.ts";
import { type FolderNamesCache, type NameKind, PRECOMPILED } from "./folder-names.ts";

/** What a call's files depend on beside their bytes; paths of the host. */
export interface Way {
  /** Without links on the way; those above them count as well. */
  readonly folders: Iterable<ByteString>;
  readonly links: Iterable<ByteString>;
  /** Names that were asked for and are not there. */
  readonly absent: Iterable<AbsentNames>;
}

interface Seen {
  readonly identity: string;
  readonly sinceMs: number;
}

/** A file system's clock is this coarse: what changed so shortly before the call may have changed after it began. */
export const CLOCK_TICK_MS = 10;
const FOLDERS_MAX = 20_000;
/** Folders below those that are searched which are looked at before each call. */
const RESTLESS_MAX = 64;

/** What is known of folders from before; kept by the daemon. */
export class FolderIdentities {
  readonly #seen = new Remembered<Seen>(FOLDERS_MAX);
  readonly #clock: Pick<Clock, "wallMs">;
  /**
   * Folders that changed while a call sought a name in them of which nobody had looked at the names before: a build's, into which it writes
   * while names such as `refs/tags` are sought.
   */
  readonly restless = new Set<ByteString>();
  /** Folders of which the folders in them were looked at once. */
  readonly #opened = new Remembered<true>(FOLDERS_MAX);

  constructor(clock: Pick<Clock, "wallMs">) {
    this.#clock = clock;
  }

  /** Has the names of a folder noted before each call from now on. */
  noteFromNowOn(folder: ByteString): void {
    if (this.restless.size >= RESTLESS_MAX) this.restless.clear();
    this.restless.add(folder);
  }

  /** Looks at the folders in a folder for the first time, before builds write into them. */
  open(folder: ByteString, kinds: ReadonlyMap<string, NameKind>): void {
    if (this.#opened.get(folder) !== undefined) return;
    this.#opened.set(folder, true);
    for (const [name, kind] of kinds) {
      if (kind !== "folder") continue;
      const path = `${folder === "/" ? "" : folder}/${name}` as ByteString;
      const stat = statOf(path, lstatSync);
      if (stat !== null) this.sinceMs(path, stat);
    }
  }

  /** Since when a path has been this folder, as far as is known, in milliseconds since 1970: now, where nothing was. */
  sinceMs(path: ByteString, { dev, ino }: BigIntStats): number {
    const identity = `${dev}:${ino}`;
    const known = this.#seen.get(path);
    if (known?.identity === identity) return known.sinceMs;
    const seen = { identity, sinceMs: this.#clock.wallMs() };
    this.#seen.set(path, seen);
    return seen.sinceMs;
  }
}

/** One call's. */
export class SteadyPlaces {
  readonly #identities: FolderIdentities;
  readonly #names: FolderNamesCache;
  /** By the folders' real paths: a call may spell one in several ways. */
  readonly #namesBefore = new Map<ByteString, ReadonlyMap<string, NameKind>>();
  /** What an earlier list of the call found absent, by folder. */
  readonly #absent = new Map<ByteString, Set<ByteString>>();

  constructor(identities: FolderIdentities, names: FolderNamesCache) {
    this.#identities = identities;
    this.#names = names;
  }

  /** Notes folders, and those above them, before a list, so that files may come and go in them while it runs. */
  note(folders: readonly ByteString[]): void {
    for (const folder of withThoseAbove(folders)) {
      const stat = statOf(folder, lstatSync);
      if (stat !== null) this.#identities.sinceMs(folder, stat);
    }
    for (const folder of new Set([...folders, ...this.#identities.restless])) {
      const names = this.#names.read(folder);
      if (names === null) continue;
      const path = realPath(folder);
      this.#namesBefore.set(path, names.kinds);
      this.#identities.open(path, names.kinds);
    }
  }

  /** A path that may be another one than before the list; null when there is none. */
  moved({ folders, links, absent }: Way, startedMs: number): ByteString | null {
    const recent = (ns: bigint) => Number(ns) / 1e6 >= startedMs - CLOCK_TICK_MS;
    let found: ByteString | null = null;
    for (const folder of withThoseAbove(folders)) {
      const stat = statOf(folder, lstatSync);
      if (stat?.isDirectory() !== true) return folder;
      const sinceMs = this.#identities.sinceMs(folder, stat);
      // Names that come and go change both times alike; a move changes but one.
      if (recent(stat.ctimeNs) && (stat.ctimeNs !== stat.mtimeNs || sinceMs > startedMs)) found = folder;
    }
    for (const link of links) {
      const stat = statOf(link, lstatSync);
      if (stat?.isSymbolicLink() !== true || recent(stat.ctimeNs)) found = link;
    }
    return found ?? this.#vanished(absent, recent);
  }

  /** A name that is absent and may have been there when the list was made. All are seen, for the next time. */
  #vanished(absent: Way["absent"], recent: (ns: bigint) => boolean): ByteString | null {
    const stats = new Map<ByteString, BigIntStats | null>();
    const changed = (folder: ByteString) => {
      let stat = stats.get(folder);
      if (stat === undefined) stats.set(folder, (stat = statOf(folder, statSync)));
      return stat === null ? null : recent(stat.mtimeNs);
    };
    let found: ByteString | null = null;
    for (const { folder, names } of absent) {
      const before = this.#before(folder);
      const known = this.#absent.get(folder) ?? new Set();
      this.#absent.set(folder, known);
      for (const name of names) {
        const isKnown = known.has(name);
        known.add(name);
        if (isKnown || wasAbsent(before, name)) continue;
        const path = `${folder}/${name}` as ByteString;
        let place = path;
        do place = place.slice(0, Math.max(0, place.lastIndexOf("/"))) as ByteString;
        while (place !== "" && changed(place) === null);
        if (place === "" || changed(place) !== true) continue;
        if (place !== folder && wasAbsent(this.#before(place), path.slice(place.length + 1))) continue;
        this.#identities.noteFromNowOn(realPath(place));
        found = path;
      }
    }
    return found;
  }

  #before(folder: ByteString): ReadonlyMap<string, NameKind> | undefined {
    return this.#namesBefore.get(realPath(folder));
  }
}

/** Whether a folder that had these names, which are undefined where nobody looked, lacked one. */
function wasAbsent(before: ReadonlyMap<string, NameKind> | undefined, name: string): boolean {
  if (before === undefined) return false;
  const slash = name.indexOf("/");
  const kind = before.get(slash < 0 ? name : name.slice(0, slash));
  // Compilers pass over a folder of the name; one for precompiled headers they look into.
  return kind === undefined || (kind === "folder" && slash < 0 && !PRECOMPILED.test(name));
}

function withThoseAbove(folders: Iterable<ByteString>): Set<ByteString> {
  const all = new Set<ByteString>();
  for (const folder of folders)
    for (let path = folder as string; path !== "" && !all.has(path as ByteString); ) {
      all.add(path as ByteString);
      path = path.slice(0, path.lastIndexOf("/"));
    }
  return all;
}

function statOf(path: ByteString, read: typeof lstatSync): BigIntStats | null {
  try {
    return read(bytesOf(path), { bigint: true, throwIfNoEntry: false }) ?? null;
  } catch {
    return null;
  }
}
