// Which names stand in which folders, as one call sees them: each folder is looked at once. UNTRUSTED: names are a checkout's.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { processWay } from "../call/ways.ts";
import { type FolderNamesCache, type NameKind, PRECOMPILED } from "../inputs/folder-names.ts";

export type SeenKind = "file" | "absent";

/** Files that a call sees and that are not this machine's: an image's, which never change. */
export interface ForeignFiles {
  /** Whether an absolute path leads to them. */
  has(path: ByteString): boolean;
  /** Where such a file or folder lies on this machine, links resolved; null when there is none. */
  find(path: ByteString): ByteString | null;
}

export interface SeenNamesOptions {
  readonly cwd: ByteString;
  /** Null when all files are this machine's. */
  readonly foreign: ForeignFiles | null;
}

export class SeenNames {
  readonly #cache: FolderNamesCache;
  readonly #options: SeenNamesOptions;
  readonly #folders = new Map<ByteString, Folder | null>();
  /** Whether a folder lies on the way of a process. */
  readonly #processes = new Map<string, boolean>();

  constructor(cache: FolderNamesCache, options: SeenNamesOptions) {
    this.#cache = cache;
    this.#options = options;
  }

  /** The absolute path of what a call spells. */
  absolute(path: ByteString): ByteString {
    const { cwd } = this.#options;
    if (path === "." || path === "") return path === "." ? cwd : path;
    return path.startsWith("/") ? path : (`${cwd}/${path}` as ByteString);
  }

  isForeign(path: ByteString): boolean {
    const { foreign } = this.#options;
    return foreign?.has(this.absolute(path)) === true;
  }

  /** Where a file that a call spells is to be read; what leads nowhere stays as it is. */
  readable(path: ByteString): ByteString {
    const absolute = this.absolute(path);
    const { foreign } = this.#options;
    return foreign?.has(absolute) === true ? (foreign.find(absolute) ?? absolute) : absolute;
  }

  /** Whether a compiler that looks for a name in a folder finds a file: a folder of that name is none. */
  kind(folder: ByteString, name: ByteString): SeenKind {
    const place = this.#folder(folder);
    if (place === null) return "absent";
    const slash = name.indexOf("/");
    const first = slash < 0 ? name : name.slice(0, slash);
    const known = place.kinds.get(first);
    if (known === undefined && first !== "" && first !== "." && first !== "..") return "absent";
    if (slash < 0 && known === "file") return "file";
    if (slash > 0 && known === "folder" && !place.isForeign) {
      const below = `${folder}/${first}` as ByteString;
      // Names that a closed folder lists cannot be told from those that it lacks.
      if (this.#folder(below)?.isClosed === false)
        return this.#isProcess(this.absolute(below)) ? "file" : this.kind(below, name.slice(slash + 1) as ByteString);
    }
    const path = `${this.absolute(folder)}/${name}` as ByteString;
    if (stands(place.isForeign ? this.readable(path) : path)) return "file";
    if (place.isForeign) return "absent";
    // What the daemon does not find there, the caller may.
    const isLink = slash < 0 && known === "link" && processWay([path]) !== null;
    return isLink || (slash >= 0 && this.#isProcess(path.slice(0, path.lastIndexOf("/")))) ? "file" : "absent";
  }

  #isProcess(folder: string): boolean {
    let known = this.#processes.get(folder);
    if (known === undefined) {
      known = processWay([`${folder}/.` as ByteString]) !== null;
      this.#processes.set(folder, known);
    }
    return known;
  }

  #folder(folder: ByteString): Folder | null {
    let known = this.#folders.get(folder);
    if (known === undefined) {
      const place = this.readable(folder);
      const kinds = this.#cache.read(place === "" ? ("/" as ByteString) : place)?.kinds;
      known =
        kinds === undefined
          ? null
          : { kinds, isForeign: this.isForeign(folder), isClosed: stands(`${place}/.` as ByteString) };
      this.#folders.set(folder, known);
    }
    return known;
  }
}

interface Folder {
  readonly kinds: ReadonlyMap<string, NameKind>;
  readonly isForeign: boolean;
  /** Whether files in it cannot be opened. */
  readonly isClosed: boolean;
}

/** Whether a compiler takes what stands there for a header: a folder only where it may hold precompiled ones. */
function stands(path: ByteString): boolean {
  try {
    const stat = statSync(bytesOf(path), { throwIfNoEntry: false });
    return stat !== undefined && (!stat.isDirectory() || PRECOMPILED.test(path));
  } catch {
    // A link that leads in circles, a folder that is closed: a compiler stops there and says so.
    return true;
  }
}
