// The stubs of prunes beside a log: `pruned/<name>`, and `<name>~rows` with the rows that go until all of them are gone.
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { readPlainFile } from "../plain-file.ts";
import { parsePruneName } from "../pruned-frame.ts";

const FOLDER = "pruned";
/** No tenant has a name with this character. */
const ROWS_SUFFIX = "~rows";
const NEW_SUFFIX = "~new";
const NOTE_BYTES_MAX = 16 * 1024;

export interface StubOnDisk {
  readonly name: string;
  readonly note: Buffer;
  /** Null for a prune that is finished. */
  readonly ranges: Buffer | null;
}

/** All of a log, or of one of its tenants, oldest first. */
export async function listPrunes(folder: string, tenant: string | null = null): Promise<StubOnDisk[]> {
  const path = join(folder, FOLDER);
  const isWanted = (name: string) => {
    const id = parsePruneName(name);
    return id !== null && (tenant === null || id.tenant === tenant);
  };
  try {
    const names = new Set((await orGone(readdir(path))) ?? []);
    const stubs: StubOnDisk[] = [];
    for (const name of [...names].filter(isWanted).sort()) {
      // A worker may finish a prune or give it up meanwhile.
      const ranges = names.has(name + ROWS_SUFFIX) ? await orGone(readPlainFile(join(path, name + ROWS_SUFFIX))) : null;
      const note = await orGone(readPlainFile(join(path, name)));
      if (note === null) continue;
      if (note.length > NOTE_BYTES_MAX) throw new HpccError("audit.corrupt", `${join(path, name)} is no stub`);
      stubs.push({ name, note, ranges });
    }
    return stubs;
  } catch (error) {
    if (error instanceof HpccError) throw error;
    throw new HpccError("audit.io", `the stubs in ${path} cannot be read`, { cause: error });
  }
}

/** Null for what is not there. */
async function orGone<T>(read: Promise<T>): Promise<T | null> {
  return read.catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
}

/** What touches the disk for a prune; a test's place for faults. */
export interface PruneDisk {
  makeFolder(path: string): Promise<void>;
  /** Puts a file in place as a whole; its bytes are durable, its name is once the folder is synced. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  remove(path: string): Promise<void>;
  syncFolder(path: string): Promise<void>;
}

export const PRUNE_DISK: PruneDisk = {
  makeFolder: async (path) => void (await mkdir(path, { recursive: true, mode: 0o700 })),
  async write(path, bytes) {
    const temporary = path + NEW_SUFFIX;
    const handle = await open(temporary, "w", 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  },
  remove: async (path) => rm(path, { force: true }),
  async syncFolder(path) {
    const handle = await open(path, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/** Puts stubs and the rows that they are about in place; durable when it resolves. */
export async function writeStubs(folder: string, stubs: readonly StubOnDisk[], disk: PruneDisk): Promise<void> {
  const path = join(folder, FOLDER);
  await disk.makeFolder(path);
  await disk.syncFolder(folder);
  // Rows first: a stub without them would be one whose rows are gone.
  for (const { name, ranges } of stubs) await disk.write(join(path, name + ROWS_SUFFIX), ranges!);
  await disk.syncFolder(path);
  for (const { name, note } of stubs) await disk.write(join(path, name), note);
  await disk.syncFolder(path);
}

/** The rows of a prune are gone. */
export async function finishStub(folder: string, name: string, disk: PruneDisk): Promise<void> {
  const path = join(folder, FOLDER);
  await disk.remove(join(path, name + ROWS_SUFFIX));
  await disk.syncFolder(path);
}

/** A prune that no row says: nothing of it was done. */
export async function dropStub(folder: string, name: string, disk: PruneDisk): Promise<void> {
  const path = join(folder, FOLDER);
  await disk.remove(join(path, name));
  await disk.syncFolder(path);
  await disk.remove(join(path, name + ROWS_SUFFIX));
  await disk.syncFolder(path);
}

/** Removes what a prune left that was cut off before its stub was there. */
export async function removeLeftovers(folder: string, disk: PruneDisk): Promise<void> {
  const path = join(folder, FOLDER);
  const names = await readdir(path).catch(() => []);
  const stubs = new Set(names.filter((name) => parsePruneName(name) !== null));
  const isLeft = (name: string) =>
    name.endsWith(NEW_SUFFIX) || (name.endsWith(ROWS_SUFFIX) && !stubs.has(name.slice(0, -ROWS_SUFFIX.length)));
  for (const name of names.filter(isLeft)) await disk.remove(join(path, name));
}
