// What lies in a local store, and what has to go: pure over what a walk found. Records go by their last use; a file goes with the last record
// that uses it, or when no record ever came to use it.
import { type BigIntStats, constants } from "node:fs";
import { type FileHandle, lstat, open, readdir, rm, unlink } from "node:fs/promises";
import { basename, join } from "node:path";
import type { ByteString } from "../../base/byte-string.ts";
import { digestHex } from "../../core/digest/digest.ts";
import { type DiskFiles, isMissing } from "../disk/disk-files.ts";
import { FILES_AREA } from "./kept-files.ts";
import { decodeHead, HEAD_BYTES, RECORD_BYTES_MAX, type RecordHead } from "./record-codec.ts";

export const RECORDS_AREA = "records";
/** What an entry takes at least, and in multiples of. */
const BLOCK_BYTES = 4096;
/** A file that no record uses may be about to be used; a record comes within this time. */
const UNUSED_MS = 60 * 60 * 1000;
const HEX_NAME = /^[0-9a-f]{64}$/;
const FAN_NAME = /^[0-9a-f]{2}$/;

export interface WalkedRecord {
  readonly path: string;
  readonly bytes: number;
  readonly usedMs: number;
  readonly project: ByteString | null;
  /** Hex digits of the files that it uses. */
  readonly files: readonly string[];
}

export interface WalkedFile {
  readonly path: string;
  readonly bytes: number;
  /** When it was kept, or read since where the file system notes that. */
  readonly usedMs: number;
}

export interface WalkedStore {
  readonly records: readonly WalkedRecord[];
  /** By the hex digits of their digests. */
  readonly files: ReadonlyMap<string, WalkedFile>;
}

export interface Removal {
  readonly paths: readonly string[];
  readonly records: number;
  readonly files: number;
  readonly bytes: number;
}

export function bytesOnDisk(sizeBytes: number): number {
  return Math.max(1, Math.ceil(sizeBytes / BLOCK_BYTES)) * BLOCK_BYTES;
}

export function totalBytes({ records, files }: WalkedStore): number {
  let total = 0;
  for (const { bytes } of records) total += bytes;
  for (const { bytes } of files.values()) total += bytes;
  return total;
}

/** Chooses what goes so that at most `bytesMax` stay, the least recently used first; files that nobody uses before all. */
export function removalDownTo(store: WalkedStore, bytesMax: number, nowMs: number): Removal {
  const chosen = new Choice(store);
  chosen.unused(nowMs - UNUSED_MS);
  const total = totalBytes(store);
  const tooMuch = () => total - chosen.bytes > bytesMax;
  for (const record of store.records.toSorted((a, b) => a.usedMs - b.usedMs)) {
    if (!tooMuch()) break;
    chosen.record(record);
  }
  for (const hex of chosen.unusedByAge()) {
    if (!tooMuch()) break;
    chosen.file(hex);
  }
  return chosen.removal();
}

/** Chooses the records of a test, and files that nobody uses from then on. */
export function removalOf(store: WalkedStore, test: (record: WalkedRecord) => boolean, nowMs: number): Removal {
  const chosen = new Choice(store);
  chosen.unused(nowMs - UNUSED_MS);
  for (const record of store.records) if (test(record)) chosen.record(record);
  return chosen.removal();
}

/** Chooses everything. */
export function removalOfAll(store: WalkedStore): Removal {
  const chosen = new Choice(store);
  for (const record of store.records) chosen.record(record);
  chosen.unused(Number.POSITIVE_INFINITY);
  return chosen.removal();
}

class Choice {
  readonly #store: WalkedStore;
  readonly #users = new Map<string, number>();
  readonly #records: string[] = [];
  readonly #files = new Set<string>();
  bytes = 0;

  constructor(store: WalkedStore) {
    this.#store = store;
    for (const { files } of store.records)
      for (const hex of new Set(files)) this.#users.set(hex, (this.#users.get(hex) ?? 0) + 1);
  }

  record({ path, bytes, files }: WalkedRecord): void {
    this.#records.push(path);
    this.bytes += bytes;
    for (const hex of new Set(files)) {
      const users = this.#users.get(hex)! - 1;
      this.#users.set(hex, users);
      if (users === 0) this.file(hex);
    }
  }

  /** Files without a user that were last used before a time. */
  unused(beforeMs: number): void {
    for (const [hex, { usedMs }] of this.#store.files) if (usedMs < beforeMs && this.#isUnused(hex)) this.file(hex);
  }

  unusedByAge(): string[] {
    const unused = [...this.#store.files].filter(([hex]) => this.#isUnused(hex) && !this.#files.has(hex));
    return unused.sort(([, a], [, b]) => a.usedMs - b.usedMs).map(([hex]) => hex);
  }

  removal(): Removal {
    const files = [...this.#files].map((hex) => this.#store.files.get(hex)!.path);
    // Records first: a walk that is killed leaves files without users, and no users without files.
    return {
      paths: [...this.#records, ...files],
      records: this.#records.length,
      files: files.length,
      bytes: this.bytes,
    };
  }

  #isUnused(hex: string): boolean {
    return (this.#users.get(hex) ?? 0) === 0;
  }

  file(hex: string): void {
    const file = this.#store.files.get(hex);
    if (file === undefined || this.#files.has(hex)) return;
    this.#files.add(hex);
    this.bytes += file.bytes;
  }
}

/** Walks a store. Damaged records are removed; what has no name of the store's own is somebody else's, and stays. */
export async function walkStore(files: DiskFiles): Promise<WalkedStore> {
  const records: WalkedRecord[] = [];
  for await (const { path, info } of entriesOf(files, RECORDS_AREA)) {
    const head = await readHead(path, Number(info.size));
    if (typeof head === "string") await rm(path, { force: true });
    else records.push(walkedRecord(path, info, head));
  }
  const found = new Map<string, WalkedFile>();
  for await (const { path, info } of entriesOf(files, FILES_AREA))
    found.set(basename(path), { path, bytes: bytesOnDisk(Number(info.size)), usedMs: Number(info.atimeMs) });
  return { records, files: found };
}

/** Removes what was chosen; what is gone already counts as removed. */
export async function remove({ paths }: Removal): Promise<void> {
  for (const path of paths)
    await unlink(path).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
}

function walkedRecord(path: string, info: BigIntStats, head: RecordHead): WalkedRecord {
  const bytes = bytesOnDisk(Number(info.size));
  const files = head.files.map(({ digest }) => digestHex(digest));
  return { path, bytes, usedMs: Number(info.mtimeMs), project: head.project, files };
}

async function* entriesOf(files: DiskFiles, area: string): AsyncGenerator<{ path: string; info: BigIntStats }> {
  const root = files.plainPath(area, "");
  for (const fan of await foldersOf(root))
    for (const name of await readdir(join(root, fan)).catch(() => [])) {
      if (!HEX_NAME.test(name) || !name.startsWith(fan)) continue;
      const path = join(root, fan, name);
      const info = await lstat(path, { bigint: true }).catch(() => null);
      if (info === null) continue;
      if (info.isFile()) yield { path, info };
    }
}

/** The fan-out folders. */
async function foldersOf(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (isMissing(error)) return [];
    throw error;
  });
  return entries.filter((entry) => entry.isDirectory() && FAN_NAME.test(entry.name)).map(({ name }) => name);
}

/** A string tells what is wrong with a record. */
async function readHead(path: string, sizeBytes: number): Promise<RecordHead | string> {
  if (sizeBytes > 2 * RECORD_BYTES_MAX) return "it is too long";
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => null);
  if (handle === null) return "it cannot be read";
  try {
    const head = decodeHead(await startOf(handle, HEAD_BYTES));
    return typeof head !== "string" || sizeBytes <= HEAD_BYTES ? head : decodeHead(await startOf(handle, sizeBytes));
  } finally {
    await handle.close();
  }
}

async function startOf(handle: FileHandle, lengthMax: number): Promise<Uint8Array> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(lengthMax), 0, lengthMax, 0);
  return buffer.subarray(0, bytesRead);
}
