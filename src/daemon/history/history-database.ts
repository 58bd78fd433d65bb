// The database file of the history: opened, its schema, and set aside when it is damaged. Nothing in it is needed for a build, so it is never
// synced: what a power cut leaves of it is read or begun anew. UNTRUSTED: the file, which may hold anything.
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { HpccError } from "../../base/errors.ts";

/** Another number: another layout, and what is there is set aside. */
const SCHEMA_VERSION = 1;

/**
 * Calls belong to generations, the oldest of which are dropped whole. An item is anything that many calls share, stored once a generation: a path,
 * a file with its digest, a list of either, a command line. Calls name items by their numbers. A row is one call, or for replays as many as
 * `calls` says.
 */
const SCHEMA = `
CREATE TABLE generation (id INTEGER PRIMARY KEY, calls INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE item (
  id INTEGER PRIMARY KEY, generation INTEGER NOT NULL, digest BLOB NOT NULL, bytes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX item_by_digest ON item (generation, digest);
CREATE TABLE call (
  id INTEGER PRIMARY KEY AUTOINCREMENT, generation INTEGER NOT NULL,
  started_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL, outcome INTEGER NOT NULL, kept INTEGER NOT NULL,
  calls INTEGER NOT NULL,
  reason TEXT, detail BLOB, output_key BLOB, source_key BLOB, project_key BLOB, content_key BLOB, call_digest BLOB,
  project INTEGER, source INTEGER, output INTEGER, source_file INTEGER,
  cwd INTEGER NOT NULL, words INTEGER NOT NULL, environment INTEGER NOT NULL, compiler INTEGER,
  inputs INTEGER NOT NULL, absent INTEGER NOT NULL, configuration INTEGER NOT NULL
) STRICT;
CREATE INDEX call_by_output ON call (output_key, id);
CREATE INDEX call_by_source ON call (source_key, id);
CREATE INDEX call_by_content ON call (content_key, id);
CREATE INDEX call_by_generation ON call (generation);
CREATE INDEX call_by_time ON call (started_ms);
PRAGMA user_version = ${SCHEMA_VERSION};
`;

export const HISTORY_FILE = "history.db";
const PAGE_BYTES = 4096;
/** How long a writer waits for another one, with the event loop standing still; it tries again later. */
const WRITER_WAIT_MS = 5;
/** A command has nothing else to do. */
const READER_WAIT_MS = 2_000;
const CACHE_KIB = 1024;
const WAL_BYTES_MAX = 4 * 1024 * 1024;

/** What became of a statement that failed. */
export type DatabaseFault = "damaged" | "busy" | "full" | "other";

/** Primary result codes of SQLite. */
const FAULTS: Readonly<Record<number, DatabaseFault>> = {
  1: "damaged", // ERROR: a table or column that should be there is not.
  5: "busy",
  6: "busy",
  10: "full", // IOERR: a disk without room says so too.
  11: "damaged", // CORRUPT
  13: "full",
  26: "damaged", // NOTADB
};

export function databaseFault(error: unknown): DatabaseFault {
  if (error instanceof HpccError) return error.code === "store.corrupt" ? "damaged" : "other";
  const code = error instanceof Error && "errcode" in error ? error.errcode : null;
  return (typeof code === "number" ? FAULTS[code & 0xff] : undefined) ?? "other";
}

export class HistoryDatabase {
  readonly path: string;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #inode: bigint;

  private constructor(path: string, database: DatabaseSync) {
    this.path = path;
    this.#database = database;
    this.#inode = inodeOf(path);
  }

  /** For who writes: makes the database, and sets aside one that is damaged or of another version. */
  static forWriting(
    folder: string,
    bytesMax: number,
  ): { readonly database: HistoryDatabase; readonly setAside: boolean } {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const path = join(folder, HISTORY_FILE);
    try {
      return { database: openForWriting(path, bytesMax), setAside: false };
    } catch (error) {
      if (databaseFault(error) !== "damaged") throw error;
      setAside(folder);
      return { database: openForWriting(path, bytesMax), setAside: true };
    }
  }

  /** For who reads; null when there is none. Throws `store.corrupt` for one that cannot be read. */
  static forReading(folder: string): HistoryDatabase | null {
    const path = join(folder, HISTORY_FILE);
    if (!existsSync(path)) return null;
    return readingFrom(path, () => {
      const database = new DatabaseSync(path, { timeout: READER_WAIT_MS });
      if (versionOf(database) !== SCHEMA_VERSION)
        throw new HpccError("store.corrupt", `${path} is of another version of hpcc; the next compile begins it anew`);
      return new HistoryDatabase(path, database);
    });
  }

  static made(path: string, database: DatabaseSync): HistoryDatabase {
    return new HistoryDatabase(path, database);
  }

  /** A statement, prepared once. */
  prepare(sql: string): StatementSync {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.#database.prepare(sql);
    this.#statements.set(sql, statement);
    return statement;
  }

  /** Runs it all or, if it throws, nothing of it. */
  transaction<T>(kind: "IMMEDIATE" | "DEFERRED", run: () => T): T {
    this.#database.exec(`BEGIN ${kind}`);
    try {
      const result = run();
      this.#database.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec("ROLLBACK");
      throw error;
    }
  }

  /** Whether another process put it aside, so that what is written here is lost. */
  isReplaced(): boolean {
    return inodeOf(this.path) !== this.#inode;
  }

  close(): void {
    this.#statements.clear();
    this.#database.close();
  }
}

/** Turns what SQLite says of a damaged file into an error that a person can read. */
export function readingFrom<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof HpccError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (databaseFault(error) === "damaged")
      throw new HpccError("store.corrupt", `${path} is damaged (${message}); the next compile begins it anew`);
    throw new HpccError("store.io", `${path}: ${message}`, { cause: error });
  }
}

function openForWriting(path: string, bytesMax: number): HistoryDatabase {
  const database = new DatabaseSync(path, { timeout: WRITER_WAIT_MS });
  try {
    // It tells what the user compiles, and with which options.
    chmodSync(path, 0o600);
    database.exec(`
      PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF;
      PRAGMA cache_size = -${CACHE_KIB}; PRAGMA journal_size_limit = ${WAL_BYTES_MAX};
      PRAGMA max_page_count = ${Math.ceil(bytesMax / PAGE_BYTES)};`);
    const version = versionOf(database);
    if (version !== SCHEMA_VERSION) makeSchema(path, database);
    return HistoryDatabase.made(path, database);
  } catch (error) {
    database.close();
    throw error;
  }
}

function makeSchema(path: string, database: DatabaseSync): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    // Another daemon may have made it meanwhile.
    const version = versionOf(database);
    if (version !== 0 && version !== SCHEMA_VERSION)
      throw new HpccError("store.corrupt", `${path} is of another version of hpcc`);
    if (version === 0) database.exec(SCHEMA);
    database.exec("COMMIT");
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

function versionOf(database: DatabaseSync): unknown {
  return database.prepare("PRAGMA user_version").get()?.["user_version"];
}

/** Puts the database where it can still be looked at; only the last one is kept. */
export function setAside(folder: string): void {
  const path = join(folder, HISTORY_FILE);
  for (const suffix of ["-wal", "-shm"]) rmSync(path + suffix, { force: true });
  rmSync(`${path}.damaged`, { recursive: true, force: true });
  if (existsSync(path)) renameSync(path, `${path}.damaged`);
}

function inodeOf(path: string): bigint {
  try {
    return statSync(path, { bigint: true }).ino;
  } catch {
    return 0n;
  }
}
