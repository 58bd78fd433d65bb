// The record of a call in the local store: which inputs gave which results. Files and absent names stand in it once, however many of its
// variants share them. One value has one encoding (docs/specs/local-record.md). UNTRUSTED: the store's bytes may be damaged.
import type { ByteString } from "../../base/byte-string.ts";
import { NumberTable } from "../../base/number-table.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { OutputManner } from "../../wire/launcher/messages.ts";

/** A path as the call means it: absolute, or relative to its working folder. */
export interface RecordedFile {
  readonly path: ByteString;
  readonly digest: Digest;
}

/** Names that a folder has not; a folder that is not there has none. */
export interface RecordedNames {
  readonly folder: ByteString;
  readonly names: readonly ByteString[];
}

export interface RecordedOutput {
  readonly destination: ByteString;
  readonly digest: Digest;
  readonly manner: OutputManner;
}

/** One result, and what must be as it was for it to hold. */
export interface Variant {
  readonly files: readonly RecordedFile[];
  readonly absent: readonly RecordedNames[];
  /** Pairs of indexes of files that may be one to a compiler. */
  readonly same: readonly number[];
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly outputs: readonly RecordedOutput[];
}

/** Newest first. */
export type LocalRecord = readonly Variant[];

const SCHEMA = "hpcc.local.v2";
export const VARIANTS_MAX = 8;
const ITEMS_MAX = 200_000;
const MANNERS = new NumberTable<OutputManner>({ assembler: 1, text: 2, clang: 3 });
const TAG = { schema: 1, file: 2, absent: 3, variant: 4 } as const;

export function encodeRecord(variants: LocalRecord): Uint8Array {
  const files = new Table<RecordedFile>(({ path, digest }) => `${digest}${path}`);
  const groups = new Table<RecordedNames>(({ folder, names }) => [folder, ...names].join("\0"));
  const indexed = variants.map((variant) => ({
    ...variant,
    files: variant.files.map((file) => files.index(file)),
    absent: variant.absent.map((group) => groups.index(group)),
  }));
  const fields = new FieldWriter().ascii(TAG.schema, SCHEMA);
  for (const { path, digest } of files.items)
    fields.record(TAG.file, (entry) => entry.byteString(1, path).digest(2, digest));
  for (const { folder, names } of groups.items)
    fields.record(TAG.absent, (entry) => entry.byteString(1, folder).byteString(2, names.join("\0") as ByteString));
  for (const variant of indexed)
    fields.record(TAG.variant, (entry) => {
      entry.bytes(1, packed(variant.files)).bytes(2, packed(variant.absent)).bytes(6, packed(variant.same));
      entry.bytes(3, variant.stdout).bytes(4, variant.stderr);
      for (const { destination, digest, manner } of variant.outputs)
        entry.record(5, (output) =>
          output.byteString(1, destination).digest(2, digest).u32(3, MANNERS.numberOf(manner)),
        );
    });
  return fields.finish();
}

/** Throws `argument.invalid` for bytes that are no such record. */
export function decodeRecord(bytes: Uint8Array): LocalRecord {
  const fields = new FieldReader(bytes, "the local record");
  if (fields.byteString(TAG.schema) !== SCHEMA) fields.fail("has another schema");
  const files: RecordedFile[] = [];
  const names: RecordedNames[] = [];
  const variants: Variant[] = [];
  while (fields.peek() === TAG.file) {
    files.push(fields.record(TAG.file, (entry) => ({ path: entry.byteString(1), digest: entry.digest(2) })));
    if (files.length > ITEMS_MAX) fields.fail("has too many files");
  }
  while (fields.peek() === TAG.absent) {
    names.push(
      fields.record(TAG.absent, (entry) => ({
        folder: entry.byteString(1),
        names: entry.byteString(2).split("\0") as ByteString[],
      })),
    );
    if (names.length > ITEMS_MAX) fields.fail("has too many names");
  }
  while (fields.peek() === TAG.variant) {
    variants.push(fields.record(TAG.variant, (entry) => decodeVariant(entry, files, names)));
    if (variants.length > VARIANTS_MAX) fields.fail("has too many variants");
  }
  fields.end();
  return variants;
}

function decodeVariant(fields: FieldReader, files: readonly RecordedFile[], names: readonly RecordedNames[]): Variant {
  const picked = <T>(tag: number, items: readonly T[]): T[] =>
    unpacked(fields, tag).map((index) => items[index] ?? fields.fail("names an item that it has not"));
  const variant = {
    files: picked(1, files),
    absent: picked(2, names),
    same: unpacked(fields, 6),
    stdout: Uint8Array.from(fields.bytes(3)),
    stderr: Uint8Array.from(fields.bytes(4)),
  };
  const outputs: RecordedOutput[] = [];
  while (fields.peek() === 5)
    outputs.push(
      fields.record(5, (output) => ({
        destination: output.byteString(1),
        digest: output.digest(2),
        manner: MANNERS.nameOf(output.u32(3)) ?? fields.fail("has an output of no known manner"),
      })),
    );
  return { ...variant, outputs };
}

class Table<T> {
  readonly items: T[] = [];
  readonly #indexes = new Map<string, number>();
  readonly #keyOf: (item: T) => string;

  constructor(keyOf: (item: T) => string) {
    this.#keyOf = keyOf;
  }

  index(item: T): number {
    const key = this.#keyOf(item);
    const known = this.#indexes.get(key);
    if (known !== undefined) return known;
    this.#indexes.set(key, this.items.length);
    return this.items.push(item) - 1;
  }
}

function packed(indexes: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(indexes.length * 4);
  for (const [at, index] of indexes.entries()) bytes.writeUInt32LE(index, at * 4);
  return bytes;
}

function unpacked(fields: FieldReader, tag: number): number[] {
  const bytes = Buffer.from(fields.bytes(tag));
  if (bytes.length % 4 !== 0) fields.fail("has a list that is cut short");
  return Array.from({ length: bytes.length / 4 }, (_, at) => bytes.readUInt32LE(at * 4));
}
