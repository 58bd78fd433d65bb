// The form of an audit log on disk: segments of framed records, each a row's line and its envelope's line
// (docs/specs/audit-log.md). Pure; what reads and writes files is beside it.
import { crc32 } from "node:zlib";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { leafHex } from "../core/merkle/hashes.ts";
import { type AuditEnvelope, decodeEnvelope, placeOf } from "./envelope.ts";
import { type AuditRow, decodeRow, ROW_PATTERN, rowDigest } from "./row.ts";
import { checkColumns } from "./rows/columns.ts";

/** A record as read back. */
export interface AuditRecord {
  readonly row: AuditRow;
  /** The row's line. */
  readonly line: string;
  /** Digest of the line. */
  readonly digest: Digest;
  readonly envelope: AuditEnvelope;
  /** Hash of the record as a leaf of the log's tree (RFC 6962), which the next one names. */
  readonly leaf: Digest;
}

/** A whole frame, whose record is not looked into. */
export interface RawFrame {
  /** The record's two lines with their line ends. */
  readonly payload: Buffer;
  /** Sequence of the first record that was written and synced together with this one. */
  readonly group: number;
  /** Where the frame ends in its segment. */
  readonly end: number;
}

export interface Frame extends Omit<RawFrame, "payload"> {
  readonly record: AuditRecord;
}

/** "%hpcc <length> <crc32> <group>\n", the numbers in hex with leading zeros. */
const HEADER = /^%hpcc ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{16})\n$/;
const HEADER_BYTES = 41;
/** The two lines of a record with their line ends; entries of C2SP's tlog-tiles are no longer. */
export const RECORD_BYTES_MAX = 64 * 1024 - 1;
export const FRAME_BYTES_MAX = HEADER_BYTES + RECORD_BYTES_MAX;

/** Name of the segment whose first record has this sequence; names sort in order of sequence. */
export function segmentName(firstSequence: number): string {
  return `${String(firstSequence).padStart(16, "0")}.log`;
}

/** First sequence of a segment by its name; null for another file. */
export function segmentSequence(name: string): number | null {
  const match = /^([0-9]{16})\.log$/.exec(name);
  return match === null ? null : Number(match[1]);
}

export interface EncodedRecord {
  readonly frame: Uint8Array;
  readonly leaf: Digest;
}

export function encodeRecord(line: string, envelope: string, group: number): EncodedRecord {
  const payload = Buffer.from(`${line}\n${envelope}\n`, "latin1");
  if (payload.length > RECORD_BYTES_MAX) throw new Error("bug: an audit record is too large");
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const header = `%hpcc ${hex(payload.length, 8)} ${hex(crc32(payload), 8)} ${hex(group, 16)}\n`;
  return { frame: Buffer.concat([Buffer.from(header, "latin1"), payload]), leaf: leafDigest(payload) };
}

function leafDigest(payload: Uint8Array): Digest {
  return `sha256:${leafHex(payload)}` as Digest;
}

/** The frame at an offset; null when none is whole and right there. UNTRUSTED: a log. */
export function readFrame(segment: Buffer, offset: number): RawFrame | null {
  const match = HEADER.exec(segment.toString("latin1", offset, offset + HEADER_BYTES));
  if (match === null) return null;
  const start = offset + HEADER_BYTES;
  const end = start + Number.parseInt(match[1]!, 16);
  if (end > segment.length || end - start > RECORD_BYTES_MAX) return null;
  const payload = segment.subarray(start, end);
  if (crc32(payload) !== Number.parseInt(match[2]!, 16)) return null;
  return { payload, group: Number.parseInt(match[3]!, 16), end };
}

/** The same, with its record. Throws `audit.corrupt` for a record that no worker writes. */
export function decodeFrame(segment: Buffer, offset: number): Frame | null {
  const frame = readFrame(segment, offset);
  return frame && { record: decodeRecord(frame.payload), group: frame.group, end: frame.end };
}

/** UNTRUSTED: a log. */
export function decodeRecord(payload: Buffer): AuditRecord {
  const [line, envelope, rest, ...more] = payload.toString("latin1").split("\n");
  if (line === undefined || envelope === undefined || rest !== "" || more.length > 0)
    throw new HpccError("audit.corrupt", "an audit record is not two lines");
  const decoded = decodeEnvelope(envelope);
  const row = decodeRow(line);
  checkColumns(row, decoded.kind);
  return { row, line, digest: rowDigest(line), envelope: decoded, leaf: leafDigest(payload) };
}

const ROW = new RegExp(`${ROW_PATTERN}\\n`, "y");
const KIND = /"kind":"([a-z]+)"/y;

/**
 * The kind of the record that stands at this place of the chain: it has the nine columns of a row, and one more line, an envelope that names
 * the place. Null for any other record. What else the envelope says is not looked at.
 */
export function kindOfRecord(payload: Buffer, place: ChainState): string | null {
  const text = payload.toString("latin1");
  ROW.lastIndex = 0;
  if (!ROW.test(text)) return null;
  const envelope = ROW.lastIndex;
  const begin = placeOf({ sequence: place.sequence + 1, previous: place.leaf });
  if (!text.startsWith(begin, envelope) || text.indexOf("\n", envelope) !== text.length - 1) return null;
  KIND.lastIndex = envelope + begin.length;
  return text.endsWith("}\n") ? (KIND.exec(text)?.[1] ?? null) : null;
}

/** Whether a whole frame of a group that began after `sequence` stands anywhere after `offset`. */
export function hasLaterGroup(segment: Buffer, offset: number, sequence: number): boolean {
  for (let at = segment.indexOf("%hpcc ", offset); at >= 0; at = segment.indexOf("%hpcc ", at + 1)) {
    const frame = tryDecode(segment, at);
    if (frame !== null && frame.group > sequence) return true;
  }
  return false;
}

function tryDecode(segment: Buffer, offset: number): Frame | null {
  try {
    return decodeFrame(segment, offset);
  } catch {
    return null;
  }
}

/** Where a chain of records stands. */
export interface ChainState {
  readonly sequence: number;
  readonly leaf: Digest;
}

/** Throws `audit.corrupt` unless the record follows the state. */
export function follow(state: ChainState, record: AuditRecord): ChainState {
  const { sequence, previous } = record.envelope;
  if (sequence !== state.sequence + 1 || previous !== state.leaf)
    throw new HpccError("audit.corrupt", `audit record ${sequence} does not follow record ${state.sequence}`);
  return { sequence, leaf: record.leaf };
}
