// The proof of one row of a log's folder under its newest checkpoint, and the log as tlog-tiles has it: made from rows and tiles on disk.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { equal, inclusionProof, rootOfInclusion } from "../core/merkle/proof.ts";
import { TILE_WIDTH, tilePath } from "../core/merkle/tile-tree.ts";
import { encodeProof, openCheckpoint, readCheckpoint } from "../core/note/checkpoint.ts";
import { type NoteVerifier, parseVerifier } from "../core/note/signed-note.ts";
import { encodeEnvelope } from "./envelope.ts";
import { findRow } from "./find-row.ts";
import { CHECKPOINT_FILE, readLogKey } from "./log-tree.ts";
import { readPlainFile } from "./plain-file.ts";
import { readItems, recordsWith } from "./read-log.ts";
import type { AuditRecord } from "./segment.ts";
import { CheckedTiles, remakeTiles, TileLost, type TilesOfRows, tilesOfRows } from "./tiles.ts";

/** The record as it is hashed: both lines with their line ends. */
function entryOf({ line, envelope }: AuditRecord): Buffer {
  return Buffer.from(`${line}\n${encodeEnvelope(envelope)}\n`, "latin1");
}

export interface ProvenRow {
  readonly row: string;
  readonly envelope: string;
  readonly sequence: number;
  readonly digest: Digest;
  readonly leaf: Digest;
  /** C2SP's tlog-proof. */
  readonly proof: string;
}

/** Proves rows of a log's folder under its newest checkpoint. */
export interface Prover extends AsyncDisposable {
  /** Rows that are signed. */
  readonly size: number;
  /** C2SP's tlog-proof of a row that is signed. Where tiles are lost or damaged it is made from the rows. */
  proofOf(record: AuditRecord): Promise<string>;
}

export async function openProver(folder: string): Promise<Prover> {
  const checkpoint = await readCheckpointFile(folder);
  const head = readCheckpoint(checkpoint);
  const { size, root } = head;
  // What is given was checked, at least under a key that the log names.
  openCheckpoint(checkpoint, await keysOf(folder));
  const tiles = new CheckedTiles(folder, head);
  let made: TilesOfRows | null = null;
  const pathOf = async (index: number) => {
    if (made !== null) return inclusionProof(index, size, made.hashAt);
    try {
      return inclusionProof(index, size, tiles.hashAt);
    } catch (error) {
      if (!(error instanceof TileLost)) throw error;
      made = await tilesOfRows(folder, head);
      return inclusionProof(index, size, made.hashAt);
    }
  };
  return {
    size,
    proofOf: async ({ envelope, leaf }) => {
      const index = envelope.sequence - 1;
      const path = await pathOf(index);
      const found = rootOfInclusion(Buffer.from(digestHex(leaf), "hex"), { index, size }, path);
      if (found === null || !equal(found, root))
        throw new HpccError("audit.corrupt", `row ${envelope.sequence} is not the one that was signed`, {
          hint: "`hpcc audit verify` says what is wrong with the log.",
        });
      return encodeProof({ index, path, checkpoint });
    },
    [Symbol.asyncDispose]: async () => made?.[Symbol.asyncDispose](),
  };
}

/** The key that stands beside the log, or where that is lost those that its rows name. */
async function keysOf(folder: string): Promise<NoteVerifier[]> {
  const key = await readLogKey(folder);
  if (key !== null) return [key];
  const keys: NoteVerifier[] = [];
  for await (const { envelope } of recordsWith(folder, '"kind":"log","event":"key"'))
    if (envelope.kind === "log" && envelope.event === "key") keys.push(parseVerifier(envelope.key));
  return keys;
}

/** A row by its number, or by its digest or 8 or more of its first digits. */
export async function proveRow(folder: string, row: string): Promise<ProvenRow> {
  await using prover = await openProver(folder);
  const record = await findRow(folder, row, prover.size);
  return {
    row: record.line,
    envelope: encodeEnvelope(record.envelope),
    sequence: record.envelope.sequence,
    digest: record.digest,
    leaf: record.leaf,
    proof: await prover.proofOf(record),
  };
}

async function readCheckpointFile(folder: string): Promise<string> {
  try {
    return (await readPlainFile(join(folder, CHECKPOINT_FILE))).toString("utf8");
  } catch (error) {
    throw new HpccError("audit.io", `${folder} has no checkpoint; a worker writes it a second after a row`, {
      cause: error,
    });
  }
}

export interface WrittenBundles {
  readonly rows: number;
  /** Rows in bundles that are left out, as rows of them were pruned. */
  readonly leftOut: number;
}

/**
 * Writes the tiles and entry bundles of tlog-tiles for all signed rows, made from these; with the log's checkpoint they are a log that
 * other tools read. A bundle is all of its rows: one with a row that was pruned is left out.
 */
export async function writeTiles(folder: string, out: string): Promise<WrittenBundles> {
  // A worker may replace its own meanwhile.
  const head = readCheckpoint(await readCheckpointFile(out));
  const { size } = head;
  await remakeTiles(folder, head, { folder: out, write: writeBelow });
  let bundle: Buffer[] = [];
  let [width, leftOut] = [0, 0];
  let hasGap = false;
  const take = async (index: number, entry: Buffer | null) => {
    width++;
    if (entry === null) hasGap = true;
    else bundle.push(lengthOf(entry), entry);
    if (index % TILE_WIDTH !== TILE_WIDTH - 1 && index !== size - 1) return;
    const path = join(out, tilePath({ level: "entries", index: Math.floor(index / TILE_WIDTH), width }));
    if (hasGap) leftOut += width;
    else await writeBelow(path, Buffer.concat(bundle));
    [bundle, width, hasGap] = [[], 0, false];
  };
  for await (const item of readItems(folder)) {
    const first = item.t === "row" ? item.placed.record.envelope.sequence : item.frame.first;
    const entries = item.t === "row" ? [entryOf(item.placed.record)] : item.frame.leaves.map(() => null);
    for (const [at, entry] of entries.entries()) if (first - 1 + at < size) await take(first - 1 + at, entry);
    if (first > size) break;
  }
  return { rows: size, leftOut };
}

async function writeBelow(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
}

function lengthOf(entry: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(entry.length);
  return length;
}
