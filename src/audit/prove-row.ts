// The proof of one row of a log's folder under its newest checkpoint, and the log as tlog-tiles has it: made from rows and tiles on disk.
import { readFileSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { HASH_BYTES, nodeHash } from "../core/merkle/hashes.ts";
import { type HashAt, inclusionProof } from "../core/merkle/proof.ts";
import { TILE_WIDTH, tilePath } from "../core/merkle/tile-tree.ts";
import { checkProof, encodeProof, readCheckpoint } from "../core/note/checkpoint.ts";
import { encodeEnvelope } from "./envelope.ts";
import { CHECKPOINT_FILE, readLogKey } from "./log-tree.ts";
import { pruneName } from "./pruned-frame.ts";
import { readItems } from "./read-log.ts";
import type { AuditRecord } from "./segment.ts";

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
export interface Prover {
  /** Rows that are signed. */
  readonly size: number;
  /** C2SP's tlog-proof of a row that is signed. */
  proofOf(record: AuditRecord): string;
}

export async function openProver(folder: string): Promise<Prover> {
  const checkpoint = await readCheckpointFile(folder);
  const { size } = readCheckpoint(checkpoint);
  const key = await readLogKey(folder);
  const hashes = tileHashes(folder, size);
  return {
    size,
    proofOf: ({ envelope, leaf }) => {
      const index = envelope.sequence - 1;
      const proof = { index, path: inclusionProof(index, size, hashes), checkpoint };
      // What is given was checked, at least under the key that the log names.
      if (key !== null) checkProof(Buffer.from(digestHex(leaf), "hex"), proof, [key]);
      return encodeProof(proof);
    },
  };
}

/** A row by its number, or by its digest or 8 or more of its first digits; the newest of equal ones. */
export async function proveRow(folder: string, row: string): Promise<ProvenRow> {
  const prover = await openProver(folder);
  const record = await findRow(folder, row, prover.size);
  return {
    row: record.line,
    envelope: encodeEnvelope(record.envelope),
    sequence: record.envelope.sequence,
    digest: record.digest,
    leaf: record.leaf,
    proof: prover.proofOf(record),
  };
}

async function readCheckpointFile(folder: string): Promise<string> {
  try {
    return await readFile(join(folder, CHECKPOINT_FILE), "utf8");
  } catch (error) {
    throw new HpccError("audit.io", `${folder} has no checkpoint; a worker writes it a second after a row`, {
      cause: error,
    });
  }
}

const SEQUENCE = /^[1-9][0-9]{0,15}$/;
const DIGEST_PREFIX = /^(?:sha256:)?([0-9a-f]{8,64})$/;

async function findRow(folder: string, text: string, size: number): Promise<AuditRecord> {
  const sequence = SEQUENCE.test(text) && text.length < 8 ? Number(text) : null;
  const prefix = DIGEST_PREFIX.exec(text)?.[1];
  if (sequence === null && prefix === undefined)
    throw new HpccError("argument.invalid", "a row is its number, or 8 or more hex digits of its digest");
  let found: AuditRecord | null = null;
  let removed = 0;
  for await (const item of readItems(folder)) {
    if (item.t === "pruned") {
      const { first, leaves, id } = item.frame;
      removed += leaves.length;
      if (sequence !== null && sequence >= first && sequence < first + leaves.length)
        throw new HpccError(
          "evidence.gone",
          `row ${sequence} was pruned; ${pruneName(id)} in ${folder}/pruned proves it`,
          {
            hint: "Its hash is still in the log: a receipt of it proves that it was there.",
          },
        );
      continue;
    }
    const { record } = item.placed;
    if (record.envelope.sequence > size) break;
    const hit =
      sequence === null ? digestHex(record.digest).startsWith(prefix!) : record.envelope.sequence === sequence;
    if (hit) found = record;
  }
  if (found !== null) return found;
  const gone = removed === 0 ? "" : `, and ${removed} of them were pruned`;
  throw new HpccError("hash.unknown", `no row of the ${size} that are signed is ${text}${gone}`);
}

/** Nodes of a tree of this size, from its tiles; throws `audit.io` where one is gone. */
export function tileHashes(folder: string, size: number): HashAt {
  const tiles = new Map<string, Uint8Array[]>();
  const tile = (level: number, index: number): Uint8Array[] => {
    const count = Math.floor(size / TILE_WIDTH ** level);
    const width = Math.min(TILE_WIDTH, count - index * TILE_WIDTH);
    const path = tilePath({ level, index, width });
    const known = tiles.get(path);
    if (known !== undefined) return known;
    const bytes = readTile(folder, path);
    const hashes = Array.from({ length: width }, (_, at) => bytes.subarray(at * HASH_BYTES, (at + 1) * HASH_BYTES));
    tiles.set(path, hashes);
    return hashes;
  };
  return (height, at) => {
    const level = Math.floor(height / 8);
    const span = 2 ** (height % 8);
    const first = at * span;
    const hashes = tile(level, Math.floor(first / TILE_WIDTH)).slice(first % TILE_WIDTH, (first % TILE_WIDTH) + span);
    if (hashes.length !== span) throw new HpccError("audit.corrupt", "a tile of the audit log is too short");
    return fold(hashes);
  };
}

function fold(hashes: readonly Uint8Array[]): Uint8Array {
  const [first] = hashes;
  if (hashes.length === 1) return first!;
  const half = hashes.length / 2;
  return nodeHash(fold(hashes.slice(0, half)), fold(hashes.slice(half)));
}

function readTile(folder: string, path: string): Buffer {
  try {
    return readFileSync(join(folder, path));
  } catch (error) {
    throw new HpccError("audit.io", `the tile ${path} is lost; a worker's start makes the tiles again`, {
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
 * Writes the entry bundles of tlog-tiles for all signed rows; with the log's checkpoint and tiles they are a log that other tools read.
 * A bundle is all of its rows: one with a row that was pruned is left out.
 */
export async function writeEntryBundles(folder: string, out: string): Promise<WrittenBundles> {
  const { size } = readCheckpoint(await readCheckpointFile(folder));
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
    else {
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, Buffer.concat(bundle));
    }
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

function lengthOf(entry: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(entry.length);
  return length;
}
