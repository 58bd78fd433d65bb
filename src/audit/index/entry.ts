// The entries of the index of an audit log: which record names which hash, of which tenant, and where it stands. Entries of one size,
// whose order as bytes is the order in which they are looked for. Pure.
import { hash } from "node:crypto";
import type { Digest } from "../../core/digest/digest.ts";

/**
 * 8 bytes of the digest of the tenant's name, 12 of the hash, 1 of the kind, 6 of the record's number, 4 of where its frame begins in its
 * segment, and one that is 0. The tenant comes first: how many records another tenant has of a hash must not show in the time of an answer.
 */
export const ENTRY_BYTES = 32;
const TAG_BYTES = 8;
/** Fewer bytes than a digest has: what is found is held against the record, which has all of them. */
const HASH_BYTES = 12;
const KIND_AT = TAG_BYTES + HASH_BYTES;
const SEQUENCE_AT = KIND_AT + 1;
const OFFSET_AT = SEQUENCE_AT + 6;

/** What a hash is to a record, by the order in which it is looked for; `member` is a blob of the record's source or result. */
export const ENTRY_KINDS = { row: 1, action: 2, source: 3, result: 4, blob: 5, member: 6 } as const;
export type EntryKind = keyof typeof ENTRY_KINDS;

const NAMES = new Map<number, EntryKind>(Object.entries(ENTRY_KINDS).map(([name, at]) => [at, name as EntryKind]));

export interface Entry {
  readonly kind: EntryKind;
  readonly sequence: number;
  /** Where the record's frame begins in its segment. */
  readonly offset: number;
}

/** The tenant's part of its entries. */
export function tenantTag(tenant: string): Buffer {
  return Buffer.from(hash("sha256", tenant, "hex").slice(0, 2 * TAG_BYTES), "hex");
}

export function writeEntry(target: Buffer, at: number, tag: Uint8Array, digest: Digest, entry: Entry): void {
  target.set(tag, at);
  target.write(digest.slice(7, 7 + 2 * HASH_BYTES), at + TAG_BYTES, "hex");
  target[at + KIND_AT] = ENTRY_KINDS[entry.kind];
  target.writeUIntBE(entry.sequence, at + SEQUENCE_AT, 6);
  target.writeUInt32BE(entry.offset, at + OFFSET_AT);
  target[at + ENTRY_BYTES - 1] = 0;
}

/** What all entries of a tenant, a hash and a kind begin with. */
export function startOfGroup(tag: Uint8Array, digest: Digest, kind: EntryKind): Buffer {
  const bytes = Buffer.alloc(ENTRY_BYTES);
  writeEntry(bytes, 0, tag, digest, { kind, sequence: 0, offset: 0 });
  return groupOf(bytes);
}

/** The hash of an entry or of what a group begins with. */
export function hashOf(bytes: Buffer): string {
  return bytes.toString("hex", TAG_BYTES, KIND_AT);
}

export function kindOf(bytes: Buffer): EntryKind {
  return NAMES.get(bytes[KIND_AT]!) ?? "member";
}

/** What an entry says. UNTRUSTED: a disk. */
export function readEntry(bytes: Buffer): Entry {
  return {
    kind: kindOf(bytes),
    sequence: bytes.readUIntBE(SEQUENCE_AT, 6),
    offset: bytes.readUInt32BE(OFFSET_AT),
  };
}

export function tagOf(bytes: Buffer): Buffer {
  return bytes.subarray(0, TAG_BYTES);
}

/** What all entries of one tenant, hash and kind begin with. */
export function groupOf(bytes: Buffer): Buffer {
  return bytes.subarray(0, SEQUENCE_AT);
}

/** Entries of a group, or of all whose hash begins with the digits: from the first one on, and before the second. */
export interface Range {
  readonly from: Buffer;
  readonly to: Buffer;
}

/** The range of all entries that begin with some bytes. */
export function rangeOf(start: Uint8Array): Range {
  const from = Buffer.alloc(ENTRY_BYTES);
  const to = Buffer.alloc(ENTRY_BYTES, 0xff);
  from.set(start);
  to.set(start);
  return { from, to };
}

/** The range of all kinds of a tenant's hashes that begin with these hex digits. */
export function rangeOfPrefix(tag: Uint8Array, prefix: string): Range {
  const digits = prefix.slice(0, 2 * HASH_BYTES);
  const lowest = Buffer.from(digits.padEnd(2 * HASH_BYTES, "0"), "hex");
  const highest = Buffer.from(digits.padEnd(2 * HASH_BYTES, "f"), "hex");
  return { from: rangeOf(Buffer.concat([tag, lowest])).from, to: rangeOf(Buffer.concat([tag, highest])).to };
}

/** Sorted entries, whatever holds them. */
export interface SortedEntries {
  readonly count: number;
  /** Number of the first entry that is not below a key; `count` for none. */
  seek(key: Uint8Array): number;
  /** An entry's bytes; good until the next call. */
  at(index: number): Buffer;
}
