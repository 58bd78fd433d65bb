// What a disk surely holds: of each file what was there at its last sync, under the names that its folder had at its own. Everything else
// may be lost when the power is.
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { FileOperation, Interfere } from "./faulty-files.ts";

interface Name {
  readonly name: string;
  readonly inode: number;
  readonly folder: boolean;
}

export class SyncedDisk {
  readonly #root: string;
  readonly #files = new Map<number, Buffer>();
  readonly #folders = new Map<string, readonly Name[]>();

  /** All that is there now is on the disk. */
  constructor(root: string) {
    this.#root = root;
    for (const path of [root, ...readdirSync(root, { recursive: true }).map((name) => join(root, String(name)))])
      this.sync(path);
  }

  /** Does each operation, and learns what it has made sure of; `done` is called then. */
  interfering(done: (operation: FileOperation) => Promise<void>): Interfere {
    return async (operation, { all }) => {
      const result = await all();
      const [what] = operation.what.split(" ");
      if (what === "sync" || what === "datasync") this.sync(operation.path);
      // The number of a file that is gone may be given to another.
      if (what === "open" || what === "writeFile") this.#begin(operation.path);
      await done(operation);
      return result;
    };
  }

  /** Puts what is left into an empty folder; of what was written and not synced, `share` may have come to the disk as well. */
  restore(into: string, share: number): void {
    this.#restore(this.#root, into, share);
  }

  #restore(from: string, into: string, share: number): void {
    mkdirSync(into, { recursive: true });
    for (const { name, inode, folder } of this.#folders.get(from) ?? []) {
      if (folder) this.#restore(join(from, name), join(into, name), share);
      else writeFileSync(join(into, name), this.#bytes(join(from, name), inode, share), { mode: 0o600 });
    }
  }

  #bytes(path: string, inode: number, share: number): Buffer {
    const synced = this.#files.get(inode) ?? Buffer.alloc(0);
    const now = statOf(path)?.ino === inode ? readFileSync(path) : synced;
    if (now.length <= synced.length || !now.subarray(0, synced.length).equals(synced)) return synced;
    return now.subarray(0, synced.length + Math.floor((now.length - synced.length) * share));
  }

  /** Makes sure of a file, or of a folder's names. */
  sync(path: string): void {
    const found = statOf(path);
    if (found === null) return;
    if (!found.isDirectory()) {
      this.#files.set(found.ino, readFileSync(path));
      return;
    }
    const names = readdirSync(path).map((name): Name => {
      const info = statSync(join(path, name));
      return { name, inode: info.ino, folder: info.isDirectory() };
    });
    this.#folders.set(path, names);
  }

  #begin(path: string): void {
    const found = statOf(path);
    if (found?.size === 0) this.#files.delete(found.ino);
  }
}

function statOf(path: string) {
  return statSync(path, { throwIfNoEntry: false }) ?? null;
}
