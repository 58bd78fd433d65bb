// Which names stand in which folders, as one call sees them: each folder is looked at once. UNTRUSTED: names are a checkout's.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { type FolderNamesCache, type NameKind, PRECOMPILED } from "../inputs/folder-names.ts";

export type SeenKind = "file" | "absent";

export class SeenNames {
  readonly #cache: FolderNamesCache;
  readonly #cwd: ByteString;
  readonly #folders = new Map<ByteString, ReadonlyMap<string, NameKind> | null>();

  constructor(cache: FolderNamesCache, cwd: ByteString) {
    this.#cache = cache;
    this.#cwd = cwd;
  }

  /** The absolute path of what a call spells. */
  absolute(path: ByteString): ByteString {
    if (path === "." || path === "") return path === "." ? this.#cwd : path;
    return path.startsWith("/") ? path : (`${this.#cwd}/${path}` as ByteString);
  }

  /** Whether a compiler that looks for a name in a folder finds a file: a folder of that name is none. */
  kind(folder: ByteString, name: ByteString): SeenKind {
    const place = this.absolute(folder);
    const kinds = this.#kinds(place === "" ? ("/" as ByteString) : place);
    if (kinds === null) return "absent";
    const slash = name.indexOf("/");
    const first = slash < 0 ? name : name.slice(0, slash);
    const known = kinds.get(first);
    if (known === undefined && first !== "" && first !== "." && first !== "..") return "absent";
    if (slash < 0 && known === "file") return "file";
    return stands(`${place}/${name}` as ByteString) ? "file" : "absent";
  }

  #kinds(place: ByteString): ReadonlyMap<string, NameKind> | null {
    let kinds = this.#folders.get(place);
    if (kinds === undefined) {
      kinds = this.#cache.read(place)?.kinds ?? null;
      this.#folders.set(place, kinds);
    }
    return kinds;
  }
}

/** Whether a compiler takes what stands there for a header: a folder only where it may hold precompiled ones. */
function stands(path: ByteString): boolean {
  try {
    const stat = statSync(bytesOf(path), { throwIfNoEntry: false });
    return stat !== undefined && (!stat.isDirectory() || PRECOMPILED.test(path));
  } catch {
    // What cannot be reached is not there for a compiler either.
    return false;
  }
}
