// The source manifest: which files a compile sees, by path, mode and digest (docs/specs/manifest.md). One value has one
// encoding, and the decoder takes no other.
import type { ByteString } from "../../base/byte-string.ts";
import { assert } from "../../base/errors.ts";
import { type Digest, sha256 } from "../digest/digest.ts";
import { FieldReader, FieldWriter } from "./fields.ts";
import { comparePaths, foldersAbove, isJobPath } from "./guest-path.ts";

export interface SourceEntry {
  /** Absolute path in the guest, below /hpcc, normal. */
  readonly path: ByteString;
  readonly mode: 0o644 | 0o755;
  /** Digest of the uncompressed bytes. */
  readonly digest: Digest;
  /** Uncompressed size in bytes. */
  readonly size: number;
}

/** Sorted by the bytes of the paths; no path twice, none a folder of another. */
export interface SourceManifest {
  readonly entries: readonly SourceEntry[];
}

export const SOURCE_MANIFEST_BYTES_MAX = 1024 * 1024;
export const SOURCE_ENTRIES_MAX = 16_384;

const SCHEMA = "hpcc.source.v1";

/** A manifest of entries in any order; throws `argument.invalid` for paths that no manifest may hold. */
export function sourceManifest(entries: readonly SourceEntry[]): SourceManifest {
  const sorted = [...entries].sort((a, b) => comparePaths(a.path, b.path));
  const problem = problemOf(sorted);
  if (problem !== null) new FieldReader(new Uint8Array(), "the source manifest").fail(problem);
  return { entries: sorted };
}

export function encodeSourceManifest(manifest: SourceManifest): Uint8Array {
  const fields = new FieldWriter().ascii(1, SCHEMA);
  for (const { path, mode, digest, size } of manifest.entries)
    fields.record(2, (entry) => entry.byteString(1, path).u32(2, mode).digest(3, digest).u64(4, size));
  return fields.finish();
}

/** UNTRUSTED: clients, stores. */
export function decodeSourceManifest(bytes: Uint8Array): SourceManifest {
  const fields = new FieldReader(bytes, "the source manifest");
  if (bytes.length > SOURCE_MANIFEST_BYTES_MAX) fields.fail(`is larger than ${SOURCE_MANIFEST_BYTES_MAX} bytes`);
  if (fields.byteString(1) !== SCHEMA) fields.fail("has another schema");
  const entries: SourceEntry[] = [];
  while (fields.peek() !== null) {
    if (entries.length === SOURCE_ENTRIES_MAX) fields.fail(`has more than ${SOURCE_ENTRIES_MAX} entries`);
    entries.push(fields.record(2, decodeEntry));
  }
  const problem = problemOf(entries);
  if (problem !== null) fields.fail(problem);
  return { entries };
}

/** Digest of a manifest's encoding. */
export function sourceDigest(encoded: Uint8Array): Digest {
  return sha256(encoded);
}

function decodeEntry(fields: FieldReader): SourceEntry {
  const path = fields.byteString(1);
  const mode = fields.u32(2);
  if (mode !== 0o644 && mode !== 0o755) fields.fail("has a mode that is neither 0644 nor 0755");
  return { path, mode, digest: fields.digest(3), size: fields.u64(4) };
}

function problemOf(entries: readonly SourceEntry[]): string | null {
  if (entries.length > SOURCE_ENTRIES_MAX) return `has more than ${SOURCE_ENTRIES_MAX} entries`;
  const paths = new Set<ByteString>();
  let last: ByteString | null = null;
  for (const { path, mode } of entries) {
    assert(mode === 0o644 || mode === 0o755, "a source entry's mode is 0644 or 0755");
    if (!isJobPath(path)) return "has a path that is not a normal one below /hpcc";
    if (last !== null && last >= path) return "has paths that are not in strict order of their bytes";
    last = path;
    paths.add(path);
  }
  for (const path of paths)
    for (const folder of foldersAbove(path)) if (paths.has(folder)) return "has a file where a folder must be";
  return null;
}
