// What a log's folder still says of its tree where the checkpoint is gone: tiles that lie there, and checkpoints that witnesses have cosigned.
// A log that is shorter than they say, or has other rows, is not signed anew. UNTRUSTED: a log.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { HASH_BYTES } from "../core/merkle/hashes.ts";
import { equal, type TreeHead } from "../core/merkle/proof.ts";
import { TILE_WIDTH, type TileBytes, TileTree } from "../core/merkle/tile-tree.ts";
import { readPlainFile } from "./plain-file.ts";
import { readLeaves } from "./tiles.ts";

interface LeftTile {
  readonly path: string;
  readonly width: number;
  /** Rows that a tree with this tile has at least. */
  readonly rows: number;
}

const TILE = /^(\d)\/((?:x\d{3}\/)*\d{3})(?:\.p\/(\d{1,3}))?$/;
/** Rows after which the tiles that they give are looked at. */
const COMPARE_ROWS = 65_536;

/** Throws `audit.corrupt` unless the log's rows give all tiles and roots that are known of it. */
export async function checkLeftEvidence(folder: string, size: number, heads: readonly TreeHead[]): Promise<void> {
  const left = await leftTiles(folder);
  const beyond = (rows: number, what: string) =>
    refusal(folder, `it ends at row ${size}, and ${what} for ${rows} rows`);
  for (const head of heads) if (head.size > size) throw beyond(head.size, "a witness has cosigned it");
  const tree = new TileTree();
  const compare = async (made: readonly TileBytes[]) => {
    for (const { level, index, width, bytes } of made) {
      for (const tile of left.get(`${level}/${index}`) ?? []) {
        if (tile.width > width) throw beyond(tile.rows, `${tile.path} was made`);
        const found = await readPlainFile(join(folder, tile.path));
        // One of another length was cut off by a crash: its name alone says something.
        if (found.length === tile.width * HASH_BYTES && !found.equals(bytes.subarray(0, found.length)))
          throw refusal(folder, `its rows are not those of ${tile.path}`);
      }
      left.delete(`${level}/${index}`);
    }
  };
  const roots = new Map(heads.map((head) => [head.size, head.root]));
  for await (const leaf of readLeaves(folder, size)) {
    tree.append(leaf);
    const root = roots.get(tree.size);
    if (root !== undefined && !equal(root, tree.root()))
      throw refusal(folder, `its first ${tree.size} rows are not those that a witness has cosigned`);
    if (tree.size % COMPARE_ROWS === 0) await compare(tree.takeFull());
  }
  await compare([...tree.takeFull(), ...tree.edge()]);
  for (const [tile] of left.values()) throw beyond(tile!.rows, `${tile!.path} was made`);
}

/** By level and index. */
async function leftTiles(folder: string): Promise<Map<string, LeftTile[]>> {
  const names = await readdir(join(folder, "tile"), { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const tiles = new Map<string, LeftTile[]>();
  for (const name of names) {
    const [, level, place, part] = TILE.exec(name) ?? [];
    if (level === undefined || place === undefined) continue;
    // A full tile's name is also the start of its partial ones' folder.
    const width = part === undefined ? TILE_WIDTH : Number(part);
    const index = Number(place.replaceAll(/[x/]/g, ""));
    const tile = { path: `tile/${name}`, width, rows: (index * TILE_WIDTH + width) * TILE_WIDTH ** Number(level) };
    const key = `${level}/${index}`;
    tiles.set(key, [...(tiles.get(key) ?? []), tile]);
  }
  return tiles;
}

function refusal(folder: string, problem: string): HpccError {
  return new HpccError("audit.corrupt", `the audit log has no checkpoint of its own, and ${problem}`, {
    hint:
      `The log was cut off or altered: keep ${folder}, and find out by whom. ` +
      `Only where it is certain that the tiles alone are damaged, move ${join(folder, "tile")} aside and start again.`,
  });
}
