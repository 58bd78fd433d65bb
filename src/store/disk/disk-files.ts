// Files of a store: written to a random name, renamed into place, durable when asked; corrupt ones set aside. The one
// place where a store touches the file system.
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import {
  copyFile,
  type FileHandle,
  link,
  mkdir,
  open,
  readdir,
  rename,
  rm,
  stat,
  unlink,
  utimes,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { HpccError } from "../../base/errors.ts";

/** Writes a whole buffer at a position; a test's place to run out of space. */
export type WriteAt = (handle: FileHandle, bytes: Uint8Array, position: number) => Promise<void>;

export const writeAt: WriteAt = async (handle, bytes, position) => {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
};

/** A temporary file is a leftover of a killed process when it is older than this. */
const LEFTOVER_MS = 60 * 60 * 1000;
/** A large file is synced piece by piece: one long sync would hold up every other one on the disk. */
const SYNC_BYTES = 4 * 1024 * 1024;
const TEMPORARY_NAME_BYTES = 12;
const TEMPORARY = /^[0-9a-f]{24}$/;
const FILE_MODE = 0o600;
const FOLDER_MODE = 0o700;

/** Turns a file system's error into `store.io`; every other one passes through. */
export function storeError(error: unknown, what: string): unknown {
  const { errno, code } = error as NodeJS.ErrnoException;
  if (typeof errno !== "number") return error;
  return new HpccError("store.io", `${what}: ${code}`, { cause: error, details: { errno: code ?? String(errno) } });
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException | null)?.code === "ENOENT";
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/** Syncs folders, one sync for all who wait for the same folder. */
class FolderSync {
  readonly #waiting = new Map<string, Promise<void>>();

  /** Resolves when all that was renamed into the folder before the call is durable. */
  async sync(folder: string): Promise<void> {
    // A sync that has begun may have missed what came since: join only one that has not.
    let next = this.#waiting.get(folder);
    if (next === undefined) {
      next = this.#next(folder);
      this.#waiting.set(folder, next);
    }
    return next;
  }

  async #next(folder: string): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#waiting.delete(folder);
    const handle = await open(folder, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

export interface DiskFilesOptions {
  readonly write?: WriteAt;
}

/** Called with a new file once it stands in its place. */
export type Placed = (handle: FileHandle) => Promise<void>;

const NOTHING_MORE: Placed = async () => {};

/** Files of one tenant below `root`. */
export class DiskFiles {
  readonly root: string;
  readonly #write: WriteAt;
  readonly #folders = new FolderSync();

  constructor(root: string, options: DiskFilesOptions = {}) {
    this.root = root;
    this.#write = options.write ?? writeAt;
  }

  /** Where an entry lives: fanned out by its first two hex digits. */
  path(area: string, hex: string): string {
    return join(this.root, area, hex.slice(0, 2), hex);
  }

  /** Where a file of a small area lives, which is not fanned out. */
  plainPath(area: string, name: string): string {
    return join(this.root, area, name);
  }

  /** Names in a small area. */
  async names(area: string): Promise<string[]> {
    return namesIn(join(this.root, area));
  }

  /** Paths of all entries of a fanned-out area, as they are found. */
  async *paths(area: string): AsyncGenerator<string, void, undefined> {
    for (const fan of await this.names(area))
      for (const name of await namesIn(join(this.root, area, fan))) yield join(this.root, area, fan, name);
  }

  /** Removes files; resolves when that is durable. One that is not there is removed already. */
  async removeDurably(paths: readonly string[]): Promise<void> {
    for (const path of paths) await rm(path, { force: true });
    await this.#syncFoldersOf(paths);
  }

  /** The same of those files that are still unwanted once nobody can replace them; what took their place meanwhile stays. */
  async removeUnwanted(paths: readonly string[], isUnwanted: (aside: string, path: string) => Promise<boolean>) {
    for (const path of paths) {
      const aside = this.#temporaryPath();
      try {
        await withFolder(aside, () => rename(path, aside));
      } catch (error) {
        if (isMissing(error)) continue;
        throw error;
      }
      try {
        // Whatever stands there by now is newer.
        if (!(await isUnwanted(aside, path))) await link(aside, path).catch(() => {});
      } finally {
        await unlink(aside);
      }
    }
    await this.#syncFoldersOf(paths);
  }

  async #syncFoldersOf(paths: readonly string[]): Promise<void> {
    for (const folder of new Set(paths.map(dirname)))
      await this.#folders.sync(folder).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
  }

  /**
   * Makes a file from what `fill` writes through its argument, and renames it to the path that `fill` returns. When
   * `fill` throws, nothing is left.
   */
  async create(
    durable: boolean,
    fill: (file: NewFile) => Promise<string>,
    placed: Placed = NOTHING_MORE,
  ): Promise<void> {
    const temporary = this.#temporaryPath();
    const handle = await withFolder(temporary, () => open(temporary, "wx", FILE_MODE));
    await this.#finish(temporary, handle, async () => {
      const target = await fill(new NewFile(handle, this.#write, durable));
      if (durable) await handle.datasync();
      await this.#renameTo(temporary, target, durable);
      await placed(handle);
    });
  }

  /**
   * Like `create`, of a copy of an open file: a clone where the file system can. `examine` reads the copy and names
   * its place; null when the copy is not wanted. The copy is no more durable than its source.
   */
  async createCopy(
    source: FileHandle,
    examine: (copy: FileHandle) => Promise<string | null>,
    placed: Placed,
  ): Promise<void> {
    const temporary = this.#temporaryPath();
    const flags = constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE;
    let handle: FileHandle;
    try {
      await withFolder(temporary, () => copyFile(`/proc/self/fd/${source.fd}`, temporary, flags));
      handle = await open(temporary, "r");
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    }
    await this.#finish(temporary, handle, async () => {
      await handle.chmod(FILE_MODE);
      const target = await examine(handle);
      if (target === null) return unlink(temporary);
      await this.#renameTo(temporary, target, false);
      await placed(handle);
    });
  }

  /** Sets an entry aside, so that it is missed from now on and can be looked at. */
  async quarantine(path: string, hex: string): Promise<void> {
    const aside = join(this.root, "quarantine", `${hex}.${randomBytes(6).toString("hex")}`);
    await mkdir(dirname(aside), { recursive: true, mode: FOLDER_MODE });
    await rename(path, aside);
  }

  /** Removes temporary files that a killed process left. */
  async removeLeftovers(nowMs: number): Promise<void> {
    const folder = join(this.root, "tmp");
    for (const name of await readdir(folder).catch(() => [])) {
      if (!TEMPORARY.test(name)) continue;
      const path = join(folder, name);
      const info = await stat(path).catch(() => null);
      // Not its mtime, which its writer may have set already.
      if (info !== null && nowMs - info.ctimeMs > LEFTOVER_MS) await rm(path, { force: true });
    }
  }

  /** Marks an entry as used now. */
  async touch(path: string, nowMs: number): Promise<void> {
    await utimes(path, nowMs / 1000, nowMs / 1000).catch(() => {});
  }

  /** Marks an entry as used now; false when it is not there any more. */
  async renew(path: string, nowMs: number): Promise<boolean> {
    try {
      await utimes(path, nowMs / 1000, nowMs / 1000);
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  /**
   * Removes an entry that was not used since a time; gives its bytes, null when it was used or is gone. Who uses it while it goes has
   * either marked it before, which brings it back, or finds it gone.
   */
  async removeUnused(path: string, usedBeforeMs: number): Promise<number | null> {
    const aside = this.#temporaryPath();
    try {
      if ((await stat(path)).mtimeMs >= usedBeforeMs) return null;
      await mkdir(dirname(aside), { recursive: true, mode: FOLDER_MODE });
      await rename(path, aside);
      const { mtimeMs, size } = await stat(aside);
      if (mtimeMs >= usedBeforeMs) {
        await rename(aside, path);
        return null;
      }
      await unlink(aside);
      return size;
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  #temporaryPath(): string {
    return join(this.root, "tmp", randomBytes(TEMPORARY_NAME_BYTES).toString("hex"));
  }

  async #finish(temporary: string, handle: FileHandle, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      await unlink(temporary).catch(() => {});
      throw error;
    } finally {
      await handle.close();
    }
  }

  async #renameTo(temporary: string, target: string, durable: boolean): Promise<void> {
    const folder = dirname(target);
    try {
      await rename(temporary, target);
    } catch (error) {
      if (!isMissing(error)) throw error;
      const topmost = await mkdir(folder, { recursive: true, mode: FOLDER_MODE });
      await rename(temporary, target);
      if (durable && topmost !== undefined) await this.#syncMade(topmost, folder);
    }
    if (durable) await this.#folders.sync(folder);
  }

  /** Makes the folders durable that were made from `topmost` down to `lowest`. */
  async #syncMade(topmost: string, lowest: string): Promise<void> {
    for (let made = lowest; made.length >= topmost.length; made = dirname(made))
      await this.#folders.sync(dirname(made));
  }
}

/** Opens or makes a file; its folder is made when it is missing. */
async function withFolder<T>(path: string, make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    if (!isMissing(error)) throw error;
    await mkdir(dirname(path), { recursive: true, mode: FOLDER_MODE });
    return make();
  }
}

/** A file that is being written in order, with a header that is written last. */
export class NewFile {
  readonly #handle: FileHandle;
  readonly #write: WriteAt;
  readonly #durable: boolean;
  #position = 0;
  #syncedTo = 0;

  constructor(handle: FileHandle, write: WriteAt, durable: boolean) {
    this.#handle = handle;
    this.#write = write;
    this.#durable = durable;
  }

  /** Leaves room at the beginning for `header`. */
  reserve(bytes: number): void {
    this.#position += bytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    const position = this.#position;
    this.#position += bytes.length;
    await this.#write(this.#handle, bytes, position);
    if (!this.#durable || this.#position - this.#syncedTo < SYNC_BYTES) return;
    this.#syncedTo = this.#position;
    await this.#handle.datasync();
  }

  async header(bytes: Uint8Array): Promise<void> {
    await this.#write(this.#handle, bytes, 0);
  }

  /** Sets its times of last use and change; to be called last. */
  async times(usedMs: number, changedMs: number): Promise<void> {
    await this.#handle.utimes(usedMs / 1000, changedMs / 1000);
  }
}
