// The source manifest: the tree that an execution finds, as files by digest, links and empty folders
// (docs/specs/manifest.md). One tree has one encoding, and the decoder takes no other.
import type { ByteString } from "../../base/byte-string.ts";
import { assert } from "../../base/errors.ts";
import { NumberTable } from "../../base/number-table.ts";
import { type Digest, sha256 } from "../digest/digest.ts";
import { FieldReader, FieldWriter } from "./fields.ts";
import { comparePaths, isJobFolder, isJobPath, someNest } from "./guest-path.ts";

/** A path is absolute in the guest and normal, and is where a job's files may be (guest-path.ts). */
export type SourceEntry =
  | {
      readonly kind: "file";
      readonly path: ByteString;
      readonly mode: 0o644 | 0o755;
      /** Digest of the uncompressed bytes. */
      readonly digest: Digest;
      /** Uncompressed size in bytes. */
      readonly size: number;
    }
  | {
      readonly kind: "link";
      readonly path: ByteString;
      /** As spelled, absolute or not: 1 to 4,095 bytes without NUL. */
      readonly target: ByteString;
    }
  /** A folder in which no other entry stands; all other folders follow from the paths. */
  | { readonly kind: "folder"; readonly path: ByteString };

export type SourceFile = Extract<SourceEntry, { kind: "file" }>;

/** `files`: what the compiler reads, as it is; `text`: preprocessed text. */
export type SourceForm = "files" | "text";

/** Entries are sorted by the bytes of their paths; no path twice, none below another. */
export interface SourceManifest {
  readonly form: SourceForm;
  readonly entries: readonly SourceEntry[];
}

export const SOURCE_MANIFEST_BYTES_MAX = 4 * 1024 * 1024;
export const SOURCE_ENTRIES_MAX = 16_384;
const TARGET_LENGTH_MAX = 4095;

const SCHEMA = "hpcc.source.v2";
const FORMS = new NumberTable<SourceForm>({ files: 1, text: 2 });
/** Field of an entry's record. */
const TAGS = new NumberTable<SourceEntry["kind"]>({ file: 3, link: 4, folder: 5 });

/** A manifest of entries in any order; throws `argument.invalid` for a tree that no manifest may hold. */
export function sourceManifest(form: SourceForm, entries: readonly SourceEntry[]): SourceManifest {
  const sorted = [...entries].sort((a, b) => comparePaths(a.path, b.path));
  const problem = problemOf(sorted);
  if (problem !== null) new FieldReader(new Uint8Array(), "the source manifest").fail(problem);
  return { form, entries: sorted };
}

/** The files of a manifest, which alone have blobs. */
export function filesOf(manifest: SourceManifest): SourceFile[] {
  return manifest.entries.filter((entry) => entry.kind === "file");
}

export function encodeSourceManifest(manifest: SourceManifest): Uint8Array {
  const fields = new FieldWriter().ascii(1, SCHEMA).u32(2, FORMS.numberOf(manifest.form));
  for (const entry of manifest.entries) fields.record(TAGS.numberOf(entry.kind), (inner) => encodeEntry(entry, inner));
  return fields.finish();
}

/** UNTRUSTED: clients, stores. */
export function decodeSourceManifest(bytes: Uint8Array): SourceManifest {
  const fields = new FieldReader(bytes, "the source manifest");
  if (bytes.length > SOURCE_MANIFEST_BYTES_MAX) fields.fail(`is larger than ${SOURCE_MANIFEST_BYTES_MAX} bytes`);
  if (fields.byteString(1) !== SCHEMA) fields.fail("has another schema");
  const form = FORMS.nameOf(fields.u32(2)) ?? fields.fail("has no known form");
  const entries: SourceEntry[] = [];
  for (let tag = fields.peek(); tag !== null; tag = fields.peek()) {
    if (entries.length === SOURCE_ENTRIES_MAX) fields.fail(`has more than ${SOURCE_ENTRIES_MAX} entries`);
    const kind = TAGS.nameOf(tag) ?? fields.fail("has an entry of no known kind");
    entries.push(fields.record(tag, (inner) => decodeEntry(kind, inner)));
  }
  const problem = problemOf(entries);
  if (problem !== null) fields.fail(problem);
  return { form, entries };
}

/** Digest of a manifest's encoding. */
export function sourceDigest(encoded: Uint8Array): Digest {
  return sha256(encoded);
}

function encodeEntry(entry: SourceEntry, fields: FieldWriter): void {
  fields.byteString(1, entry.path);
  if (entry.kind === "file") fields.u32(2, entry.mode).digest(3, entry.digest).u64(4, entry.size);
  if (entry.kind === "link") fields.byteString(2, entry.target);
}

function decodeEntry(kind: SourceEntry["kind"], fields: FieldReader): SourceEntry {
  const path = fields.byteString(1);
  switch (kind) {
    case "file": {
      const mode = fields.u32(2);
      if (mode !== 0o644 && mode !== 0o755) fields.fail("has a mode that is neither 0644 nor 0755");
      return { kind, path, mode, digest: fields.digest(3), size: fields.u64(4) };
    }
    case "link":
      return { kind, path, target: fields.byteString(2) };
    case "folder":
      return { kind, path };
  }
}

function problemOf(entries: readonly SourceEntry[]): string | null {
  if (entries.length > SOURCE_ENTRIES_MAX) return `has more than ${SOURCE_ENTRIES_MAX} entries`;
  let last: ByteString | null = null;
  for (const entry of entries) {
    const problem = problemOfEntry(entry);
    if (problem !== null) return problem;
    if (last !== null && last >= entry.path) return "has paths that are not in strict order of their bytes";
    last = entry.path;
  }
  return someNest(entries.map(({ path }) => path)) ? "has an entry below another one" : null;
}

function problemOfEntry(entry: SourceEntry): string | null {
  const { kind, path } = entry;
  if (!(kind === "folder" ? isJobFolder(path) : isJobPath(path)))
    return "has a path that is not a normal one below a folder that is a job's";
  if (kind === "file") assert(entry.mode === 0o644 || entry.mode === 0o755, "a source entry's mode is 0644 or 0755");
  if (kind === "link" && !isTarget(entry.target))
    return `has a link's target that is not 1 to ${TARGET_LENGTH_MAX} bytes`;
  return null;
}

function isTarget(target: ByteString): boolean {
  return target.length >= 1 && target.length <= TARGET_LENGTH_MAX && !target.includes("\0");
}
