// The tiles of a log's tree on disk: read, and made again from the rows. None is believed: each is held against the root that was signed.
// UNTRUSTED: a log.
import { statSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { HpccError } from "../base/errors.ts";
import { HASH_BYTES, leafHash, nodeHash } from "../core/merkle/hashes.ts";
import { equal, type HashAt, type TreeHead } from "../core/merkle/proof.ts";
import { edgeTiles, TILE_WIDTH, type TileBytes, TileTree, tilePath } from "../core/merkle/tile-tree.ts";
import { readPlainFile, readPlainFileSync } from "./plain-file.ts";
import { decodePruned } from "./pruned-frame.ts";
import { listSegments, readSegment } from "./read-log.ts";
import { readFrame } from "./segment.ts";

const LEAVES_AT_ONCE = 1024;
/** Rows after which the tiles of a tree that is made again are written. */
const REBUILD_ROWS = 65_536;
/** Full tiles of each level that a start reads. */
const NEWEST_TILES = 64;
/** Tiles that are remembered; one takes some 25 KB. */
const TILES_MAX = 1024;

/** A tile that is not there, or not what was signed. The rows give it again. */
export class TileLost extends HpccError {
  constructor(path: string, cause?: unknown) {
    super("audit.io", `the tile ${path} of the audit log is lost or damaged`, { cause });
  }
}

/** Reads the tiles of a tree, each held against the tile above it, and those at the edge against the root. */
export class CheckedTiles {
  readonly #folder: string;
  readonly #head: TreeHead;
  readonly #tiles = new Map<string, Uint8Array[]>();
  #edgeIsGood = false;

  constructor(folder: string, head: TreeHead) {
    this.#folder = folder;
    this.#head = head;
  }

  /** Throws `TileLost`. */
  readonly hashAt: HashAt = hashesIn((level, index) => this.#tile(level, index));

  /** The tree as it was signed. Throws `TileLost`. */
  tree(): TileTree {
    return TileTree.restore(this.#head.size, ({ level, index }) => Buffer.concat(this.#tile(level, index)));
  }

  /** The hash of the last row. Throws `TileLost`. */
  lastLeaf(): Uint8Array {
    return this.hashAt(0, this.#head.size - 1);
  }

  /** Throws `TileLost` where one of the newest is not what was signed, or an older one is not there at its length. */
  checkNewest(): void {
    for (let level = 0, count = this.#head.size; count >= TILE_WIDTH; level++) {
      count = Math.floor(count / TILE_WIDTH);
      for (let index = 0; index < count; index++)
        if (index < count - NEWEST_TILES) this.#mustBeThere(tilePath({ level, index, width: TILE_WIDTH }));
        else this.#tile(level, index);
    }
  }

  #mustBeThere(path: string): void {
    if (statSync(join(this.#folder, path), { throwIfNoEntry: false })?.size !== TILE_WIDTH * HASH_BYTES)
      throw new TileLost(path);
  }

  #tile(level: number, index: number): Uint8Array[] {
    const count = Math.floor(this.#head.size / TILE_WIDTH ** level);
    const width = Math.min(TILE_WIDTH, count - index * TILE_WIDTH);
    const path = tilePath({ level, index, width });
    const known = this.#tiles.get(path);
    if (known !== undefined) return known;
    const hashes = hashesOf(this.#read(path), width, path);
    if (this.#tiles.size >= TILES_MAX) this.#tiles.clear();
    this.#tiles.set(path, hashes);
    try {
      if (width < TILE_WIDTH) this.#checkEdge(path);
      else {
        const above = this.#tile(level + 1, Math.floor(index / TILE_WIDTH))[index % TILE_WIDTH];
        if (above === undefined || !equal(fold(hashes), above)) throw new TileLost(path);
      }
    } catch (error) {
      this.#tiles.delete(path);
      throw error;
    }
    return hashes;
  }

  /** All tiles at the edge, at once. */
  #checkEdge(path: string): void {
    if (this.#edgeIsGood) return;
    const { size, root } = this.#head;
    const edge = new Map(edgeTiles(size).map((tile) => [tilePath(tile), this.#read(tilePath(tile))]));
    const tree = TileTree.restore(size, (tile) => Buffer.concat(hashesOf(edge.get(tilePath(tile))!, tile.width, path)));
    if (!equal(tree.root(), root)) throw new TileLost(path);
    this.#edgeIsGood = true;
  }

  #read(path: string): Buffer {
    try {
      return readPlainFileSync(join(this.#folder, path));
    } catch (error) {
      throw new TileLost(path, error);
    }
  }
}

function hashesIn(tile: (level: number, index: number) => readonly Uint8Array[]): HashAt {
  return (height, at) => {
    const span = 2 ** (height % 8);
    const first = (at * span) % TILE_WIDTH;
    return fold(tile(Math.floor(height / 8), Math.floor((at * span) / TILE_WIDTH)).slice(first, first + span));
  };
}

function hashesOf(bytes: Uint8Array, width: number, path: string): Uint8Array[] {
  if (bytes.length !== width * HASH_BYTES) throw new TileLost(path);
  return Array.from({ length: width }, (_, at) => bytes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES));
}

function fold(hashes: readonly Uint8Array[]): Uint8Array {
  const [first] = hashes;
  if (hashes.length === 1) return first!;
  const half = hashes.length / 2;
  return nodeHash(fold(hashes.slice(0, half)), fold(hashes.slice(half)));
}

/** The hashes of a log's first rows, removed ones too, of which nothing else is looked at: the root says whether they are right. */
export async function* readLeaves(folder: string, size: number): AsyncGenerator<Buffer> {
  let left = size;
  for (const segment of await listSegments(folder)) {
    if (left === 0) return;
    const bytes = await readSegment(folder, segment);
    for (let offset = 0; offset < bytes.length && left > 0; ) {
      const frame = readFrame(bytes, offset);
      const pruned = frame === null ? decodePruned(bytes, offset) : null;
      const leaves = frame === null ? (pruned?.leaves ?? []) : [leafHash(frame.payload)];
      offset = frame?.end ?? pruned?.end ?? bytes.length;
      for (const leaf of leaves.slice(0, left)) {
        yield leaf;
        if (--left % LEAVES_AT_ONCE === 0) await setImmediate();
      }
    }
  }
}

/** The tree of a log's first rows, and its full tiles on the way. Throws `audit.corrupt` unless the rows give the root. */
async function treeOfRows(
  folder: string,
  { size, root }: TreeHead,
  take: (tiles: readonly TileBytes[]) => Promise<void>,
): Promise<void> {
  const tree = new TileTree();
  for await (const leaf of readLeaves(folder, size)) {
    tree.append(leaf);
    if (tree.size % REBUILD_ROWS === 0) await take(tree.takeFull());
  }
  if (tree.size !== size || !equal(tree.root(), root))
    throw new HpccError("audit.corrupt", `the first ${size} rows of the audit log are not those that were signed`);
  await take([...tree.takeFull(), ...tree.edge()]);
}

/**
 * Puts the tiles that the rows give into a folder, those that are not there yet; tells how many. Throws `audit.corrupt` for rows that are not those that
 * were signed, before any tile is touched: right tiles tell which row it is.
 */
export async function remakeTiles(
  folder: string,
  head: TreeHead,
  to: { readonly folder: string; readonly write: (path: string, bytes: Uint8Array) => Promise<void> },
): Promise<number> {
  await treeOfRows(folder, head, async () => {});
  let made = 0;
  await treeOfRows(folder, head, async (tiles) => {
    for (const tile of tiles) {
      const path = join(to.folder, tilePath(tile));
      const there = await readPlainFile(path).catch(() => null);
      if (there?.equals(tile.bytes)) continue;
      await to.write(path, tile.bytes);
      made++;
    }
  });
  return made;
}

/** A tree whose tiles were made from the rows, in a folder of its own for as long as they are needed. */
export interface TilesOfRows extends AsyncDisposable {
  readonly hashAt: HashAt;
}

/** Throws `audit.corrupt` for rows that are not those that were signed. */
export async function tilesOfRows(folder: string, head: TreeHead): Promise<TilesOfRows> {
  const made = await mkdtemp(join(tmpdir(), "hpcc-tiles-"));
  const remove = () => rm(made, { recursive: true, force: true });
  try {
    const write = async (path: string, bytes: Uint8Array) => {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, bytes);
    };
    await remakeTiles(folder, head, { folder: made, write });
    return { hashAt: new CheckedTiles(made, head).hashAt, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
