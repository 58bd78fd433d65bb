// The Merkle tree over a log's records: its checkpoint and tiles on disk, which are made from the log and can be made again, and the
// receipts of new rows. What was signed once is never signed otherwise: a log that does not hold it does not open.
import { open, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { type Tile, type TileBytes, TileTree, tilePath } from "../core/merkle/tile-tree.ts";
import {
  encodeProof,
  openCheckpoint,
  readCheckpoint,
  type SignedCheckpoint,
  signCheckpoint,
} from "../core/note/checkpoint.ts";
import { type NoteSigner, type NoteVerifier, parseVerifier } from "../core/note/signed-note.ts";
import { checkLeftEvidence } from "./left-evidence.ts";
import { makeFolder, syncFolder } from "./log-end.ts";
import { readPlainFile } from "./plain-file.ts";
import { CHAIN_START, type LogItem, readItems } from "./read-log.ts";
import type { ChainState } from "./segment.ts";
import { CheckedTiles, remakeTiles, TileLost } from "./tiles.ts";

export interface LogTreeOptions {
  readonly folder: string;
  readonly signer: NoteSigner;
  /** The key before this one; null for none. */
  readonly before: NoteVerifier | null;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly disk?: TreeDisk;
  /** Is told when a checkpoint was replaced. */
  readonly published?: () => void;
}

/** What touches the disk; a test's place for faults. */
export interface TreeDisk {
  /** Puts a file in place as a whole; its bytes are durable when asked, its name is once the folder is synced. */
  replace(path: string, bytes: Uint8Array | string, durable: boolean): Promise<void>;
  syncFolder(path: string): Promise<void>;
}

export const TREE_DISK: TreeDisk = {
  async replace(path, bytes, durable) {
    await makeFolder(dirname(path));
    const temporary = `${path}.new`;
    await writeFile(temporary, bytes, { mode: 0o600 });
    if (durable) await syncFile(temporary);
    await rename(temporary, path);
  },
  syncFolder,
};

export const CHECKPOINT_FILE = "checkpoint";
/** Folder of checkpoints that witnesses have cosigned; a file is named by the id of the witness's key. */
export const WITNESSED_FOLDER = "witnessed";
/** While rows come a checkpoint is never older than this. */
const PUBLISH_DELAY_MS = 1000;
/** The log's key, for whoever has the folder alone; who trusts it has it from elsewhere. */
const KEY_FILE = "key";
/** Rows after which the tiles of a tree without a checkpoint are written. */
const WRITE_ROWS = 65_536;

export class LogTree {
  readonly #options: LogTreeOptions;
  readonly #disk: TreeDisk;
  readonly #tree: TileTree;
  /** Full tiles that are not on disk yet. */
  readonly #unwritten: TileBytes[] = [];
  #edge: readonly Tile[] = [];
  #published = -1;
  /** No checkpoint of it is surely on the disk. */
  #unsigned: boolean;
  #timer: { cancel(): void } | null = null;
  #publishing: Promise<void> = Promise.resolve();

  private constructor(options: LogTreeOptions, disk: TreeDisk, kept: Restored | null) {
    this.#options = options;
    this.#disk = disk;
    this.#tree = kept?.tree ?? new TileTree();
    this.#unsigned = kept === null;
  }

  /** The tree of a log that is there and whole up to `end`. Throws `audit.corrupt` where the log is not what its checkpoint says. */
  static async open(options: LogTreeOptions, end: ChainState): Promise<LogTree> {
    const checkpoint = await readOwnCheckpoint(options);
    if (checkpoint === null) await checkUnsigned(options, end.sequence);
    if (checkpoint !== null && checkpoint.size > end.sequence)
      throw new HpccError(
        "audit.corrupt",
        `the audit log ends at row ${end.sequence}, and its checkpoint was signed for ${checkpoint.size} rows`,
      );
    const disk = options.disk ?? TREE_DISK;
    const kept = checkpoint === null ? null : await restore(options, checkpoint, disk);
    if (kept !== null && kept.end.sequence === end.sequence && kept.end.leaf !== end.leaf)
      throw new HpccError("audit.corrupt", `row ${end.sequence} of the audit log is not the one that was signed`);
    const log = new LogTree(options, disk, kept);
    for await (const leaf of leavesAfter(options.folder, kept?.end ?? CHAIN_START)) {
      log.#tree.append(leaf);
      if (log.#tree.size % WRITE_ROWS === 0) await log.#writeFull();
      if (log.#tree.size === end.sequence) break;
    }
    if (log.#tree.size !== end.sequence)
      throw new HpccError("audit.corrupt", "the audit log cannot be read to its end");
    return log;
  }

  /** Takes the leaves of durable rows; gives each its receipt. */
  add(leaves: readonly Buffer[]): string[] {
    const first = this.#tree.size;
    for (const leaf of leaves) this.#tree.append(leaf);
    const checkpoint = this.#checkpoint();
    this.#timer ??= this.#options.clock.after(PUBLISH_DELAY_MS, () => {
      this.#timer = null;
      void this.publish();
    });
    return leaves.map((_, at) =>
      encodeProof({ index: first + at, path: this.#tree.inclusion(first + at), checkpoint }),
    );
  }

  /**
   * Publishes what a start has found. A log without a checkpoint has one for good after this, before it takes another row, or this throws:
   * one that is gone later was taken away.
   */
  async begin(): Promise<void> {
    if (!this.#unsigned) return this.publish();
    const begun = this.#publishing.then(async () => {
      await this.#write();
      await this.#disk.syncFolder(this.#options.folder);
      this.#unsigned = false;
    });
    this.#publishing = begun.catch(() => undefined);
    await begun;
  }

  /** Puts the tiles and then a checkpoint of all rows on disk. What fails is logged and tried again with the next one. */
  async publish(): Promise<void> {
    this.#publishing = this.#publishing.then(async () => {
      try {
        await this.#write();
      } catch (error) {
        this.#options.logger.error("audit.checkpoint.failed", { error: String(error) });
      }
    });
    await this.#publishing;
  }

  /** Makes the tiles of the checkpoint again that are lost or damaged. Throws what stands in the way. */
  async mend(): Promise<void> {
    const mended = this.#publishing.then(async () => {
      const checkpoint = await readOwnCheckpoint(this.#options);
      if (checkpoint !== null) await remake(this.#options, checkpoint, this.#disk);
    });
    this.#publishing = mended.catch(() => undefined);
    await mended;
  }

  async close(): Promise<void> {
    this.#timer?.cancel();
    await this.publish();
  }

  /** Publishes nothing more. */
  abandon(): void {
    this.#timer?.cancel();
  }

  #checkpoint(): string {
    return signCheckpoint({ size: this.#tree.size, root: this.#tree.root() }, this.#options.signer);
  }

  async #write(): Promise<void> {
    const size = this.#tree.size;
    if (size === this.#published || size === 0) return;
    const { folder } = this.#options;
    const edge = this.#tree.edge();
    const checkpoint = this.#checkpoint();
    await this.#writeFull();
    for (const tile of edge) await this.#disk.replace(join(folder, tilePath(tile)), tile.bytes, false);
    await this.#disk.replace(join(folder, CHECKPOINT_FILE), checkpoint, true);
    const now = new Set(edge.map(tilePath));
    for (const tile of this.#edge)
      if (!now.has(tilePath(tile))) await rm(join(folder, tilePath(tile)), { force: true });
    this.#edge = edge.map(({ level, index, width }) => ({ level, index, width }));
    this.#published = size;
    this.#options.published?.();
  }

  async #writeFull(): Promise<void> {
    this.#unwritten.push(...this.#tree.takeFull());
    if (this.#unwritten.length === 0) return;
    // They are written once and a checkpoint covers them for good: after a loss of power they must be there with all their bytes.
    const paths = this.#unwritten.map((tile) => join(this.#options.folder, tilePath(tile)));
    for (const [at, tile] of this.#unwritten.entries()) await this.#disk.replace(paths[at]!, tile.bytes, true);
    for (const folder of new Set(paths.map((path) => dirname(path)))) await this.#disk.syncFolder(folder);
    this.#unwritten.length = 0;
  }
}

/** The key under which the log was signed until now; null for a new log. */
export async function readLogKey(folder: string): Promise<NoteVerifier | null> {
  try {
    return parseVerifier((await readPlainFile(join(folder, KEY_FILE))).toString("utf8").trim());
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new HpccError("audit.io", `the key of the audit log in ${folder} cannot be read`, { cause: error });
  }
}

export async function writeLogKey(folder: string, { text }: NoteVerifier): Promise<void> {
  await TREE_DISK.replace(join(folder, KEY_FILE), `${text}\n`, true);
}

/** The last checkpoint that this log's key, or the one before, has signed; null when there is none. */
async function readOwnCheckpoint(options: LogTreeOptions): Promise<SignedCheckpoint | null> {
  const { folder, logger } = options;
  let note: string;
  try {
    note = (await readPlainFile(join(folder, CHECKPOINT_FILE))).toString("utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new HpccError("audit.io", "the audit log's checkpoint cannot be read", { cause: error });
  }
  try {
    return await openOwn(options, note);
  } catch (error) {
    logger.error("audit.checkpoint.not_ours", { error: String(error) });
    return null;
  }
}

/** A log whose checkpoint is gone must be what the rest of its folder says. Throws `audit.corrupt`. */
async function checkUnsigned(options: LogTreeOptions, rows: number): Promise<void> {
  const { folder, logger } = options;
  const notes = await cosignedCheckpoints(folder);
  const cosigned = (await Promise.all(notes.map(async (note) => openOwn(options, note).catch(() => [])))).flat();
  await checkLeftEvidence(folder, rows, cosigned);
  if (cosigned.length === 0 && (await tookRowsSigned(folder)))
    throw new HpccError(
      "audit.corrupt",
      "the audit log has rows, and neither its checkpoint nor a witness's vouches for them",
      {
        hint:
          `Put a checkpoint that was kept, however old, into ${join(folder, CHECKPOINT_FILE)}; each receipt ends with one. ` +
          `Without any keep ${folder}, find out who removed it, and start with an empty one.`,
      },
    );
  if (rows > 0) logger.warn("audit.checkpoint.remade", { rows });
}

/** Whether a log that names its key has more than the rows of a start: it had a checkpoint before the first of them. */
async function tookRowsSigned(folder: string): Promise<boolean> {
  let [signed, took] = [false, false];
  for await (const item of readItems(folder)) {
    const key = keyNamed(item);
    signed ||= key !== null;
    took ||= item.t === "pruned" || item.placed.record.envelope.kind !== "log";
    if (signed && took) return true;
  }
  return false;
}

/** A checkpoint that the log's key, or the one before, has signed; also the one that was the key for so many rows, as a start that ended early leaves it. */
async function openOwn({ folder, signer, before }: LogTreeOptions, note: string): Promise<SignedCheckpoint> {
  const keys = [signer.verifier, ...(before === null ? [] : [before])];
  try {
    return openCheckpoint(note, keys);
  } catch (error) {
    const key = await keyInForce(folder, readCheckpoint(note).size);
    if (key === null) throw error;
    return openCheckpoint(note, [parseVerifier(key)]);
  }
}

/** The key that the first rows of a log name last. */
async function keyInForce(folder: string, rows: number): Promise<string | null> {
  let key: string | null = null;
  for await (const item of readItems(folder)) {
    if (item.t === "row" && item.placed.record.envelope.sequence > rows) break;
    key = keyNamed(item) ?? key;
  }
  return key;
}

function keyNamed(item: LogItem): string | null {
  const body = item.t === "row" ? item.placed.record.envelope : null;
  return body?.kind === "log" && body.event === "key" ? body.key : null;
}

/** More than anybody has witnesses. */
const COSIGNED_FILES_MAX = 64;

/** The newest checkpoint that each witness has cosigned, as the worker keeps them. UNTRUSTED: a log. */
export async function cosignedCheckpoints(folder: string): Promise<string[]> {
  const path = join(folder, WITNESSED_FOLDER);
  const names = await readdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new HpccError("audit.io", `cannot read ${path}`, { cause: error });
  });
  const files = names.filter((name) => /^[0-9a-f]{8}$/.test(name)).slice(0, COSIGNED_FILES_MAX);
  const notes = files.map(async (name) =>
    readPlainFile(join(path, name)).then(
      (bytes) => bytes.toString("utf8"),
      (error: unknown) => {
        throw new HpccError("audit.io", `cannot read ${join(path, name)}`, { cause: error });
      },
    ),
  );
  return Promise.all(notes);
}

/** The leaves of all rows, those that were removed too. */
async function* leavesAfter(folder: string, from: ChainState): AsyncGenerator<Buffer> {
  for await (const item of readItems(folder, from))
    if (item.t === "row") yield Buffer.from(digestHex(item.placed.record.leaf), "hex");
    else yield* item.frame.leaves;
}

interface Restored {
  readonly tree: TileTree;
  readonly end: ChainState;
}

/** The tree that a checkpoint says, from its tiles; where these are lost or damaged the rows give them again. */
async function restore(options: LogTreeOptions, checkpoint: SignedCheckpoint, disk: TreeDisk): Promise<Restored> {
  try {
    return restored(options.folder, checkpoint);
  } catch (error) {
    if (!(error instanceof TileLost)) throw error;
    await remake(options, checkpoint, disk);
    return restored(options.folder, checkpoint);
  }
}

function restored(folder: string, checkpoint: SignedCheckpoint): Restored {
  const tiles = new CheckedTiles(folder, checkpoint);
  const tree = tiles.tree();
  tiles.checkNewest();
  const { size } = checkpoint;
  const leaf = size === 0 ? CHAIN_START.leaf : (`sha256:${Buffer.from(tiles.lastLeaf()).toString("hex")}` as Digest);
  return { tree, end: { sequence: size, leaf } };
}

async function remake({ folder, logger }: LogTreeOptions, checkpoint: SignedCheckpoint, disk: TreeDisk): Promise<void> {
  const folders = new Set<string>();
  const tiles = await remakeTiles(folder, checkpoint, {
    folder,
    async write(path, bytes) {
      await disk.replace(path, bytes, true);
      folders.add(dirname(path));
    },
  });
  for (const one of folders) await disk.syncFolder(one);
  if (tiles > 0) logger.error("audit.tiles.lost", { size: checkpoint.size, tiles });
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r+");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
