// What stands in a segment in place of rows that retention removed: the hashes of their records, and which prune removed them
// (docs/specs/audit-log.md). Pure. A run of removed rows is one frame, or several if it is long.
import { crc32 } from "node:zlib";
import { HASH_BYTES } from "../core/merkle/hashes.ts";
import { decodeBase64 } from "../core/note/signed-note.ts";

/** Names a prune: one tenant's rows, of a log that had so many rows then. */
export interface PruneId {
  readonly size: number;
  readonly tenant: string;
}

export interface PrunedFrame {
  readonly id: PruneId;
  /** Number of the first removed row. */
  readonly first: number;
  /** Leaf hashes of the rows, in order; at least one. */
  readonly leaves: readonly Buffer[];
  /** Where the frame ends in its segment. */
  readonly end: number;
}

/** "%gone <payload length> <crc32> <number of the first row>\n", in hex with leading zeros. */
const HEADER = /^%gone ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{16})\n$/;
const HEADER_BYTES = 41;
/** "<size> <tenant>" */
const ID = /^([1-9][0-9]{0,15}) ([A-Za-z0-9][A-Za-z0-9._-]{0,127})$/;
const NAME = /^([0-9]{16})-([A-Za-z0-9][A-Za-z0-9._-]{0,127})$/;
/** Rows of one frame. */
export const FRAME_ROWS_MAX = 4096;
const PAYLOAD_BYTES_MAX = 256 * 1024;

/** The name of a prune's stub; names sort in order of time. */
export function pruneName({ size, tenant }: PruneId): string {
  return `${String(size).padStart(16, "0")}-${tenant}`;
}

/** Null for another file. */
export function parsePruneName(name: string): PruneId | null {
  const [, size, tenant] = NAME.exec(name) ?? [];
  return size === undefined || tenant === undefined ? null : { size: Number(size), tenant };
}

export function encodePruned({ size, tenant }: PruneId, first: number, leaves: readonly Uint8Array[]): Buffer {
  if (leaves.length === 0 || leaves.length > FRAME_ROWS_MAX) throw new Error("bug: a frame of removed rows");
  const hashes = leaves.map((leaf) => `${Buffer.from(leaf).toString("base64")}\n`).join("");
  const payload = Buffer.from(`${size} ${tenant}\n${hashes}`, "latin1");
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const header = `%gone ${hex(payload.length, 8)} ${hex(crc32(payload), 8)} ${hex(first, 16)}\n`;
  return Buffer.concat([Buffer.from(header, "latin1"), payload]);
}

/** The frame at an offset; null when none is whole and right there. UNTRUSTED: a log. */
export function decodePruned(segment: Buffer, offset: number): PrunedFrame | null {
  const [, length = "", crc = "", number = ""] =
    HEADER.exec(segment.toString("latin1", offset, offset + HEADER_BYTES)) ?? [];
  const start = offset + HEADER_BYTES;
  const end = start + Number.parseInt(length, 16);
  if (!(end <= segment.length) || end - start > PAYLOAD_BYTES_MAX) return null;
  const payload = segment.subarray(start, end);
  if (crc32(payload) !== Number.parseInt(crc, 16)) return null;
  const lines = payload.toString("latin1").split("\n");
  const [, size, tenant] = ID.exec(lines[0]!) ?? [];
  const leaves = lines.slice(1, -1).map(decodeBase64);
  const good = leaves.length > 0 && leaves.length <= FRAME_ROWS_MAX && lines.at(-1) === "";
  const first = Number.parseInt(number, 16);
  if (!good || tenant === undefined || leaves.some((leaf) => leaf?.length !== HASH_BYTES)) return null;
  if (!Number.isSafeInteger(first + leaves.length) || first < 1) return null;
  return { id: { size: Number(size), tenant }, first, leaves: leaves as Buffer[], end };
}
