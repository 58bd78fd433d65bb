// The local store on disk: whole files by digest, records by key, below a size. Any number of processes may write, read and evict at once;
// nothing is locked, everything is renamed into place. Its folder is the user's alone, and is not used when it is not.
import { constants } from "node:fs";
import { lstat, open, rm } from "node:fs/promises";
import type { ByteString } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { type DiskFiles, isMissing, storeError, type WriteAt } from "../disk/disk-files.ts";
import { KeptFiles } from "./kept-files.ts";
import { localFiles, prepareFolders } from "./layout.ts";
import type { KeptFile, LocalStore } from "./local-store.ts";
import { decodeRecord, encodeRecord, RECORD_BYTES_MAX } from "./record-codec.ts";
import { UsageLog } from "./usage-log.ts";
import { bytesOnDisk, RECORDS_AREA, removalDownTo, remove, totalBytes, walkStore } from "./walk.ts";

/** Evicts down to this share of the limit, so that not every write starts a walk. */
const TARGET_SHARE = 0.9;
/** A file may take this share of the limit. */
const FILE_SHARE = 0.5;
/** A record's time of last use is written no more often than this. */
const TOUCH_MS = 10 * 60 * 1000;
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface DiskLocalStoreOptions {
  /** Made when it is missing. */
  readonly root: string;
  readonly sizeBytesMax: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A test's place to run out of space. */
  readonly write?: WriteAt;
}

export interface LocalStoreCounters {
  /** Damaged entries that were found and removed. */
  readonly damaged: number;
  readonly evictedRecords: number;
  readonly evictedFiles: number;
  readonly walks: number;
}

export class DiskLocalStore implements LocalStore {
  readonly #options: DiskLocalStoreOptions;
  readonly #files: DiskFiles;
  readonly #kept: KeptFiles;
  readonly #usage: UsageLog;
  readonly #counters = { damaged: 0, evictedRecords: 0, evictedFiles: 0, walks: 0 };
  #ready: Promise<void> | null = null;
  #care: Promise<void> | null = null;

  /** Touches nothing yet: a folder that cannot be used fails each use, and is tried again with the next one. */
  constructor(options: DiskLocalStoreOptions) {
    this.#options = options;
    this.#files = localFiles(options.root, options.write);
    this.#usage = new UsageLog(this.#files, options.clock, options.sizeBytesMax);
    this.#kept = new KeptFiles({
      files: this.#files,
      clock: options.clock,
      fileBytesMax: options.sizeBytesMax * FILE_SHARE,
      grew: (bytes) => this.#grew(bytesOnDisk(bytes)),
      damaged: (digest, problem) => this.#damaged("file", digest, problem),
    });
  }

  get counters(): LocalStoreCounters {
    return { ...this.#counters };
  }

  keepFile(path: ByteString): Promise<KeptFile> {
    return this.#use("cannot keep a file", () => this.#kept.keepFile(path));
  }

  keepBytes(bytes: Uint8Array): Promise<KeptFile> {
    return this.#use("cannot keep a file", () => this.#kept.keepBytes(bytes));
  }

  find(digest: Digest): Promise<KeptFile | null> {
    return this.#use("cannot look for a file", () => this.#kept.find(digest));
  }

  readRecord(key: Digest): Promise<Uint8Array | null> {
    return this.#use("cannot read a record", () => this.#readRecord(key));
  }

  writeRecord(key: Digest, record: Uint8Array, project: ByteString | null, files: readonly Digest[]): Promise<void> {
    return this.#use("cannot write a record", async () => {
      const used = [];
      for (const digest of files) used.push({ digest, stamp: await this.#kept.stampOf(digest) });
      await this.#putRecord(key, encodeRecord({ key, project, files: used }, record));
    });
  }

  /** Resolves when nothing is being counted or evicted. */
  async settled(): Promise<void> {
    while (this.#care !== null) await this.#care;
  }

  /** Says what this process has added; to be called before it ends. */
  async close(): Promise<void> {
    await this.settled();
    await this.#usage.say();
  }

  async #use<T>(what: string, run: () => Promise<T>): Promise<T> {
    try {
      this.#ready ??= this.#prepare();
      await this.#ready;
      return await run();
    } catch (error) {
      throw storeError(error, what);
    }
  }

  async #prepare(): Promise<void> {
    try {
      await prepareFolders(this.#options.root);
    } catch (error) {
      this.#ready = null;
      throw error;
    }
    await this.#files.removeLeftovers(this.#options.clock.wallMs()).catch(() => {});
    if (this.#usage.totalBytes() === null) this.#takeCare();
  }

  async #readRecord(key: Digest): Promise<Uint8Array | null> {
    const path = this.#recordPath(key);
    const entry = await readEntry(path);
    if (entry === null) return null;
    const record = typeof entry === "string" ? entry : decodeRecord(key, entry.bytes);
    if (typeof record === "string") {
      await rm(path, { recursive: true, force: true });
      this.#damaged("record", key, record);
      return null;
    }
    for (const { digest, stamp } of record.head.files) if (stamp !== null) this.#kept.believe(digest, stamp);
    const nowMs = this.#options.clock.wallMs();
    if (typeof entry !== "string" && nowMs - entry.usedMs > TOUCH_MS) await this.#files.touch(path, nowMs);
    return record.body;
  }

  async #putRecord(key: Digest, entry: Uint8Array): Promise<void> {
    const path = this.#recordPath(key);
    const before = await lstat(path).catch(() => null);
    await this.#files.create(false, async (file) => {
      await file.append(entry);
      const nowMs = this.#options.clock.wallMs();
      await file.times(nowMs, nowMs);
      return path;
    });
    this.#grew(bytesOnDisk(entry.length) - (before === null ? 0 : bytesOnDisk(before.size)));
  }

  #recordPath(key: Digest): string {
    return this.#files.path(RECORDS_AREA, digestHex(key));
  }

  #grew(bytes: number): void {
    if (this.#usage.add(bytes)) this.#takeCare();
  }

  #damaged(kind: "file" | "record", digest: Digest, problem: string): void {
    this.#counters.damaged++;
    this.#options.logger.warn(`local.${kind}.damaged`, { digest, problem });
  }

  /** Holds the store below its limit, and its estimate near the truth. */
  #takeCare(): void {
    if (this.#care !== null) return;
    this.#care = this.#hold()
      .catch((error: unknown) => this.#options.logger.warn("local.eviction_failed", { error: String(error) }))
      .finally(() => {
        this.#care = null;
      });
  }

  async #hold(): Promise<void> {
    await this.#usage.say();
    const { sizeBytesMax, clock, logger } = this.#options;
    const estimate = this.#usage.totalBytes();
    if (estimate !== null && estimate <= sizeBytesMax) return;
    // Before the walk: what is kept meanwhile is young, however long it takes.
    const nowMs = clock.wallMs();
    const walked = await walkStore(this.#files);
    this.#counters.walks++;
    const total = totalBytes(walked);
    const target = total <= sizeBytesMax ? Number.POSITIVE_INFINITY : sizeBytesMax * TARGET_SHARE;
    const removal = removalDownTo(walked, target, nowMs);
    await remove(removal);
    await this.#usage.reset(total - removal.bytes);
    this.#counters.evictedRecords += removal.records;
    this.#counters.evictedFiles += removal.files;
    if (removal.paths.length > 0)
      logger.info("local.evicted", { records: removal.records, files: removal.files, bytes: removal.bytes });
  }
}

/** A string tells what is wrong with it. */
async function readEntry(path: string): Promise<{ bytes: Buffer; usedMs: number } | string | null> {
  const handle = await open(path, OPEN_FLAGS).catch((error: NodeJS.ErrnoException) => {
    if (isMissing(error) || error.code === "ENOTDIR") return null;
    if (error.code === "ELOOP") return "it is a link";
    throw error;
  });
  if (handle === null || typeof handle === "string") return handle;
  try {
    const info = await handle.stat();
    if (!info.isFile() || info.size > 2 * RECORD_BYTES_MAX) return "it is no record";
    return { bytes: await handle.readFile(), usedMs: info.mtimeMs };
  } finally {
    await handle.close();
  }
}
