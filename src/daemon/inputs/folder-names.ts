// Names in folders of the host, kept as long as a folder does not change. UNTRUSTED: names are a checkout's.
import { readdirSync, statSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { statusMs } from "../call/file-stamp.ts";

export type NameKind = "file" | "folder" | "link" | "other";

export interface FolderNames {
  readonly kinds: ReadonlyMap<string, NameKind>;
  /** Names of precompiled headers, be they files or folders. */
  readonly precompiled: readonly ByteString[];
}

interface Known extends FolderNames {
  readonly stamp: string;
}

export const PRECOMPILED = /\.(?:gch|pch)$/;
const FOLDERS_MAX = 20_000;
/** A folder that changed so shortly before it was listed may change again and look the same. */
const SETTLED_MS = 50;

export class FolderNamesCache {
  readonly #known = new Map<ByteString, Known>();
  readonly #clock: Pick<Clock, "wallMs">;

  constructor(clock: Pick<Clock, "wallMs">) {
    this.#clock = clock;
  }

  /** What is known of a folder that has not changed since it was read; null for nothing. */
  known(path: ByteString): FolderNames | null {
    return this.#known.has(path) ? this.#look(path, false) : null;
  }

  /** Null when there is no such folder, or it may not be read. */
  read(path: ByteString): FolderNames | null {
    return this.#look(path, true);
  }

  #look(path: ByteString, reads: boolean): FolderNames | null {
    const host = bytesOf(path);
    try {
      const stat = statSync(host, { bigint: true, throwIfNoEntry: false });
      if (stat === undefined || !stat.isDirectory()) return null;
      const stamp = `${stat.dev}:${stat.ino}:${stat.mtimeNs}:${stat.ctimeNs}`;
      const before = this.#known.get(path);
      if (before?.stamp === stamp) return before;
      if (!reads) return null;
      const entries = readdirSync(host, { withFileTypes: true, encoding: "buffer" });
      const kinds = new Map<string, NameKind>();
      for (const entry of entries)
        kinds.set(
          byteStringOf(entry.name),
          entry.isFile() ? "file" : entry.isDirectory() ? "folder" : entry.isSymbolicLink() ? "link" : "other",
        );
      const precompiled = [...kinds.keys()].filter((name) => PRECOMPILED.test(name)) as ByteString[];
      const folder = { stamp, kinds, precompiled };
      if (this.#known.size >= FOLDERS_MAX) this.#known.clear();
      if (this.#clock.wallMs() - statusMs(stat.ctimeNs) > SETTLED_MS) this.#known.set(path, folder);
      return folder;
    } catch {
      return null;
    }
  }
}

/** Folders as they are found first, for one pass over many names; whoever passes over them sees afterwards whether they have changed. */
export class FolderNamesOnce {
  readonly #cache: Pick<FolderNamesCache, "read">;
  readonly #known = new Map<ByteString, FolderNames | null>();

  constructor(cache: Pick<FolderNamesCache, "read">) {
    this.#cache = cache;
  }

  read(path: ByteString): FolderNames | null {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    const names = this.#cache.read(path);
    this.#known.set(path, names);
    return names;
  }
}
