// The right edge of a growing RFC 6962 tree, in the tiles of C2SP's tlog-tiles: what is needed to take leaves, to say the root,
// to prove the newest leaves and to write tiles. Pure; memory does not grow with the tree.
import { HpccError } from "../../base/errors.ts";
import { HASH_BYTES, nodeHash } from "./hashes.ts";
import { type HashAt, inclusionProof, rootOf } from "./proof.ts";

/** Levels of the tree in one tile, and the hashes at a tile's foot. */
const TILE_LEVELS = 8;
export const TILE_WIDTH = 256;

export interface Tile {
  readonly level: number;
  readonly index: number;
  /** Hashes, 1 to 256; fewer than 256 for one at the tree's edge. */
  readonly width: number;
}

export interface TileBytes extends Tile {
  readonly bytes: Uint8Array;
}

/** Where tlog-tiles has a tile, below the log's folder: "tile/0/x001/234.p/7"; `entries` for bundles of entries. */
export function tilePath({
  level,
  index,
  width,
}: Omit<Tile, "level"> & { readonly level: number | "entries" }): string {
  let path = String(index % 1000).padStart(3, "0");
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000))
    path = `x${String(rest % 1000).padStart(3, "0")}/${path}`;
  return `tile/${level}/${path}${width === TILE_WIDTH ? "" : `.p/${width}`}`;
}

/** The tiles at the right edge of a tree, which are not full. */
export function edgeTiles(size: number): Tile[] {
  const tiles: Tile[] = [];
  for (let level = 0, count = size; count > 0; level++, count = Math.floor(count / TILE_WIDTH)) {
    const width = count % TILE_WIDTH;
    if (width > 0) tiles.push({ level, index: Math.floor(count / TILE_WIDTH), width });
  }
  return tiles;
}

/** A tile with the nodes that its hashes already make, by height within it. */
class OpenTile {
  readonly nodes: Uint8Array[][] = Array.from({ length: TILE_LEVELS + 1 }, () => []);
  readonly level: number;
  readonly index: number;

  constructor(level: number, index: number) {
    this.level = level;
    this.index = index;
  }

  get width(): number {
    return this.nodes[0]!.length;
  }

  push(hash: Uint8Array): void {
    this.nodes[0]!.push(hash);
    for (let height = 0, node = hash; height < TILE_LEVELS && this.nodes[height]!.length % 2 === 0; height++) {
      node = nodeHash(this.nodes[height]!.at(-2)!, node);
      this.nodes[height + 1]!.push(node);
    }
  }

  bytes(): TileBytes {
    const { level, index, width } = this;
    return { level, index, width, bytes: Buffer.concat(this.nodes[0]!) };
  }
}

export class TileTree {
  #size = 0;
  readonly #open: OpenTile[] = [];
  /** Full tiles since the last `takeFull`, by level and index. */
  #full = new Map<string, OpenTile>();

  /** A tree as it was at a size, from its edge tiles. Throws `audit.corrupt` for tiles that are none. UNTRUSTED: a disk. */
  static restore(size: number, readTile: (tile: Tile) => Uint8Array): TileTree {
    const tree = new TileTree();
    for (const tile of edgeTiles(size)) {
      const bytes = readTile(tile);
      if (bytes.length !== tile.width * HASH_BYTES)
        throw new HpccError("audit.corrupt", `${tilePath(tile)} has ${bytes.length} bytes`);
      const open = tree.#tile(tile.level, tile.index);
      for (let at = 0; at < bytes.length; at += HASH_BYTES) open.push(bytes.subarray(at, at + HASH_BYTES));
    }
    for (let level = 0, count = size; count > 0; level++, count = Math.floor(count / TILE_WIDTH))
      tree.#tile(level, Math.floor(count / TILE_WIDTH));
    tree.#size = size;
    return tree;
  }

  get size(): number {
    return this.#size;
  }

  append(leaf: Uint8Array): void {
    this.#push(0, leaf);
    this.#size++;
  }

  root(): Uint8Array {
    return rootOf(this.#size, this.#hashAt);
  }

  /** Path of a leaf that was appended since the last `takeFull`, or that is in the open tile. */
  inclusion(index: number): Uint8Array[] {
    return inclusionProof(index, this.#size, this.#hashAt);
  }

  /** Full tiles that were not taken yet, oldest first; they are forgotten here. */
  takeFull(): TileBytes[] {
    const tiles = [...this.#full.values()].map((tile) => tile.bytes());
    this.#full = new Map();
    return tiles;
  }

  /** The tiles at the edge. */
  edge(): TileBytes[] {
    return this.#open.filter(({ width }) => width > 0).map((tile) => tile.bytes());
  }

  #push(level: number, hash: Uint8Array): void {
    const tile = this.#open[level] ?? this.#tile(level, 0);
    tile.push(hash);
    if (tile.width < TILE_WIDTH) return;
    this.#full.set(`${level} ${tile.index}`, tile);
    this.#open[level] = new OpenTile(level, tile.index + 1);
    this.#push(level + 1, tile.nodes[TILE_LEVELS]![0]!);
  }

  #tile(level: number, index: number): OpenTile {
    const tile = (this.#open[level] ??= new OpenTile(level, index));
    return tile;
  }

  readonly #hashAt: HashAt = (height, at) => {
    const level = Math.floor(height / TILE_LEVELS);
    const within = height % TILE_LEVELS;
    const perTile = TILE_WIDTH / 2 ** within;
    const index = Math.floor(at / perTile);
    const open = this.#open[level];
    const tile = open?.index === index ? open : this.#full.get(`${level} ${index}`);
    const hash = tile?.nodes[within]?.[at % perTile];
    if (hash === undefined) throw new Error(`bug: node ${at} of height ${height} is not at the edge of the tree`);
    return hash;
  };
}
