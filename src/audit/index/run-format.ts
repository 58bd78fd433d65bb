// The form of a run on disk: sorted entries that are never changed, in blocks with checksums, and above them a tree of the blocks' first
// entries, so that a look-up reads one block for each of a few levels and keeps nothing in memory. Pure.
import { crc32 } from "node:zlib";
import { HpccError } from "../../base/errors.ts";
import { ENTRY_BYTES } from "./entry.ts";

export const BLOCK_BYTES = 4096;
const TRAILER_BYTES = 32;
export const BLOCK_ENTRIES = (BLOCK_BYTES - TRAILER_BYTES) / ENTRY_BYTES;
const TRAILER_AT = BLOCK_BYTES - TRAILER_BYTES;
const CRC_AT = BLOCK_BYTES - 4;
/** Changes with the form of entries and blocks. */
const MAGIC = 0x68695831;
export const RUN_ID_BYTES = 8;

/** What the state says of a run. */
export interface RunShape {
  /** Random, in each of its blocks. */
  readonly id: Buffer;
  readonly entries: number;
}

/** Blocks of each level, from the entries up to the one block at the top. */
export function levelsOf(entries: number): number[] {
  const levels = [Math.max(1, Math.ceil(entries / BLOCK_ENTRIES))];
  while (levels.at(-1)! > 1) levels.push(Math.ceil(levels.at(-1)! / BLOCK_ENTRIES));
  return levels;
}

export function runBytes(entries: number): number {
  return levelsOf(entries).reduce((sum, blocks) => sum + blocks, 0) * BLOCK_BYTES;
}

/** Ends a block whose entries are in place. */
export function sealBlock(
  block: Buffer,
  id: Uint8Array,
  place: { readonly number: number; readonly count: number },
): void {
  block.fill(0, place.count * ENTRY_BYTES, CRC_AT);
  block.writeUInt32BE(MAGIC, TRAILER_AT);
  block.set(id, TRAILER_AT + 4);
  block.writeUInt32BE(place.number, TRAILER_AT + 12);
  block.writeUInt16BE(place.count, TRAILER_AT + 16);
  block.writeUInt32BE(crc32(block.subarray(0, CRC_AT)), CRC_AT);
}

/** Entries of a block. Throws `IndexDamaged` for one that is not the run's block of this number. UNTRUSTED: a disk. */
export function openBlock(block: Buffer, id: Uint8Array, number: number): number {
  const whole =
    block.length === BLOCK_BYTES &&
    crc32(block.subarray(0, CRC_AT)) === block.readUInt32BE(CRC_AT) &&
    block.readUInt32BE(TRAILER_AT) === MAGIC &&
    block.compare(id, 0, RUN_ID_BYTES, TRAILER_AT + 4, TRAILER_AT + 12) === 0 &&
    block.readUInt32BE(TRAILER_AT + 12) === number;
  const count = whole ? block.readUInt16BE(TRAILER_AT + 16) : 0;
  if (count < 1 || count > BLOCK_ENTRIES) throw new IndexDamaged(`block ${number} of a run is damaged`);
  return count;
}

/** The index is not what was written, and is made again from the log. */
export class IndexDamaged extends HpccError {
  constructor(problem: string, cause?: unknown) {
    super("audit.io", `the index of the audit log cannot be read: ${problem}`, { cause });
  }
}
