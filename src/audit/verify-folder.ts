// An audit log's folder as evidence for its verification: reads files, and judges nothing.
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { digestHex, isDigest } from "../core/digest/digest.ts";
import { HASH_BYTES } from "../core/merkle/hashes.ts";
import { TILE_WIDTH, tilePath } from "../core/merkle/tile-tree.ts";
import type { NoteVerifier } from "../core/note/signed-note.ts";
import { CHECKPOINT_FILE, cosignedCheckpoints } from "./log-tree.ts";
import { readPlainFile } from "./plain-file.ts";
import { listPrunes } from "./prune/stub-files.ts";
import { listSegments, readSegment } from "./read-log.ts";
import type { KeptReceipt } from "./verify/kept-words.ts";
import type { StubFile } from "./verify/pruned-rows.ts";
import type { Evidence } from "./verify/verify-log.ts";
import type { WitnessDemand } from "./verify/witnesses.ts";

/** The folder of the log: the one that is named, or `audit` in a worker's state folder. */
export async function logFolder(folder: string): Promise<string> {
  for (const candidate of [folder, join(folder, "audit")])
    if ((await listSegments(candidate)).length > 0) return candidate;
  throw new HpccError(
    "argument.invalid",
    `${folder} holds no audit log; name a worker's state_dir or its audit folder`,
  );
}

export interface FolderOptions {
  readonly keys: readonly NoteVerifier[];
  readonly kept?: readonly string[];
  readonly receipts?: readonly KeptReceipt[];
  /** What is demanded of witnesses; left out for nothing. */
  readonly witnesses?: WitnessDemand;
  /** Is told how many rows' segments are read. */
  readonly onSegment?: (name: string) => void;
}

export async function evidenceOfFolder(folder: string, options: FolderOptions): Promise<Evidence> {
  const { keys, kept = [], receipts = [], onSegment } = options;
  return {
    segments: { [Symbol.asyncIterator]: () => segmentsOf(folder, onSegment) },
    leafTile: async (index, size) => leafTile(folder, index, size),
    checkpoint: await readOrNull(join(folder, CHECKPOINT_FILE)).then((bytes) => bytes?.toString("utf8") ?? null),
    kept,
    ...(options.witnesses && {
      witnessed: { checkpoints: await cosignedCheckpoints(folder), demand: options.witnesses },
    }),
    receipts,
    stubs: await readStubs(folder),
    keys,
  };
}

async function* segmentsOf(folder: string, onSegment: FolderOptions["onSegment"]) {
  for (const name of await listSegments(folder)) {
    onSegment?.(name);
    yield { name, bytes: await readSegment(folder, name) };
  }
}

/** The full tile serves where the partial one is gone. */
async function leafTile(folder: string, index: number, size: number): Promise<Uint8Array | null> {
  const width = Math.min(TILE_WIDTH, size - index * TILE_WIDTH);
  const own = await readOrNull(join(folder, tilePath({ level: 0, index, width })));
  if (own !== null || width === TILE_WIDTH) return own;
  const full = await readOrNull(join(folder, tilePath({ level: 0, index, width: TILE_WIDTH })));
  return full?.subarray(0, width * HASH_BYTES) ?? null;
}

async function readOrNull(
  path: string,
  read: (path: string) => Promise<Buffer> = readPlainFile,
): Promise<Buffer | null> {
  try {
    return await read(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new HpccError("audit.io", `cannot read ${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function readStubs(folder: string): Promise<StubFile[]> {
  const stubs: StubFile[] = [];
  for (const { name, note, ranges } of await listPrunes(folder))
    stubs.push({ name, note: note.toString("utf8"), ranges: ranges?.toString("latin1") ?? null });
  return stubs;
}

const RECEIPTS_BYTES_MAX = 256 * 1024 * 1024;

/** Receipts as a client keeps them, one JSON object a line. Throws `argument.invalid` where there is none. UNTRUSTED: a client. */
export async function readReceipts(path: string): Promise<KeptReceipt[]> {
  const files = (await isFolder(path)) ? ["previous.jsonl", "current.jsonl"].map((name) => join(path, name)) : [path];
  const receipts: KeptReceipt[] = [];
  for (const file of files) {
    // One that is named may be a pipe that somebody writes into.
    const bytes = await readOrNull(file, files.length > 1 ? readPlainFile : async (named) => readFile(named));
    if (bytes === null && files.length > 1) continue;
    if (bytes === null) throw new HpccError("argument.invalid", `there is no file ${file}`);
    if (bytes.length > RECEIPTS_BYTES_MAX) throw new HpccError("limit.exceeded", `${file} is too large`);
    // What follows the last line end is what a client was still writing.
    const lines = bytes.toString("utf8").split("\n").slice(0, -1);
    for (const [at, line] of lines.entries()) receipts.push(parseReceipt(line, `${file}:${at + 1}`));
  }
  // A check that saw none would call any log good.
  if (receipts.length === 0) throw new HpccError("argument.invalid", `there are no receipts in ${path}`);
  return receipts;
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function parseReceipt(line: string, where: string): KeptReceipt {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = null;
  }
  const { row, leaf, proof, from } = (value ?? {}) as Record<string, unknown>;
  if (
    typeof row !== "string" ||
    !isDigest(row) ||
    typeof leaf !== "string" ||
    !isDigest(leaf) ||
    typeof proof !== "string" ||
    (from !== undefined && typeof from !== "string")
  )
    throw new HpccError("argument.invalid", `${where} is no receipt`);
  return { row, leaf: Buffer.from(digestHex(leaf), "hex"), proof, ...(from !== undefined && { from }) };
}
