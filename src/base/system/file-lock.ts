// A file that one process at a time holds. The kernel keeps the lock and ends it with its holder, however that ends, so it is true for
// processes of other containers too, whose numbers say nothing here. It is SQLite's lock, as Node itself has none.
import { accessSync, constants, existsSync, fstatSync, readdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";

export interface FileLock {
  release(): void;
}

// Results of SQLite.
const OK = 0;
const BUSY = 5;
const READONLY = 8;
const CANTOPEN = 14;
/** Got, or the file system has no locks. */
const GRANTED: ReadonlySet<number> = new Set([OK, /* IOERR */ 10, /* PROTOCOL */ 15]);

/** How often a file may be taken away while it is being locked. */
const ATTEMPTS_MAX = 1_000;

/**
 * Holds a file, which is made when it is not there; null while somebody else holds it. Its holder may take the file away before he lets it go:
 * whoever had opened it then holds what stands there now, or nothing. Nobody may open the file in any other way: closing it would end the
 * lock. A file system without locks excludes nobody.
 */
export function tryLock(path: string): FileLock | null {
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    const lock = lockOpened(path);
    if (lock === null || stands(path)) return lock;
    lock.release();
  }
  throw new Error(`${path} cannot be locked: it is taken away again and again`);
}

function lockOpened(path: string): FileLock | null {
  const database = open(path);
  const result = database === null ? CANTOPEN : begin(database);
  if (GRANTED.has(result)) return { release: () => database!.close() };
  database?.close();
  if (result === BUSY || result === READONLY) return null;
  accessSync(dirname(path), constants.W_OK | constants.X_OK);
  throw new Error(`${path} cannot be locked: SQLite says ${result}`);
}

/** Whether the file at a path is one that this process has open, and so the one that it just locked. */
function stands(path: string): boolean {
  const there = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (there === undefined) return false;
  return openDescriptors().some((descriptor) => {
    try {
      const { dev, ino } = fstatSync(descriptor, { bigint: true });
      return dev === there.dev && ino === there.ino;
    } catch {
      // It was the folder's own, or was closed meanwhile.
      return false;
    }
  });
}

function openDescriptors(): number[] {
  return readdirSync("/proc/self/fd").map(Number);
}

/** Whether somebody holds a file, this process included; so it seems where that cannot be told. */
export function isLocked(path: string): boolean {
  if (!existsSync(path)) return false;
  const database = open(path);
  const result = database === null ? CANTOPEN : begin(database);
  database?.close();
  return result !== OK;
}

function open(path: string): DatabaseSync | null {
  try {
    return new DatabaseSync(path, { timeout: 0 });
  } catch {
    return null;
  }
}

/** SQLite's result; an extended one says more in its upper bits. */
function begin(database: DatabaseSync): number {
  try {
    database.exec("BEGIN EXCLUSIVE");
    return OK;
  } catch (error) {
    return ((error as { errcode?: number }).errcode ?? CANTOPEN) & 0xff;
  }
}
