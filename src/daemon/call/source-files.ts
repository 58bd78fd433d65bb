// The tree that a guest gets for one compile, as manifest and blobs. Blobs stay in memory until the job is done; they become
// zstd frames only when a worker asks for them. UNTRUSTED: the digests that a worker asks for.
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import {
  encodeSourceManifest,
  type SourceEntry,
  type SourceForm,
  sourceDigest,
  sourceManifest,
} from "../../core/action/source-manifest.ts";
import type { GuestFile } from "../../core/compile/view/guest-file.ts";
import { type Digest, digestHex, sha256 } from "../../core/digest/digest.ts";
import { compressBytes } from "../../store/zstd-codec.ts";

export interface SourceFiles {
  readonly manifest: Uint8Array;
  readonly digest: Digest;
  /** Uncompressed bytes of all files together. */
  readonly sizeBytes: number;
  /** Value of `-frandom-seed`: it comes from what is compiled, never from where. */
  readonly randomSeed: ByteString;
  /** The zstd frame of one of the manifest's blobs. */
  openBlob(digest: Digest): Promise<Uint8Array>;
}

export interface SourceParts {
  readonly files: readonly GuestFile[];
  readonly links?: readonly { readonly path: ByteString; readonly target: ByteString }[];
  /** Folders that must exist, those of files and links among them. */
  readonly folders: readonly ByteString[];
}

/** Digests of bytes that are kept as one object while their file is unchanged. */
const digests = new WeakMap<Uint8Array, Digest>();

export function digestOf(bytes: Uint8Array): Digest {
  const known = digests.get(bytes);
  if (known !== undefined) return known;
  const digest = sha256(bytes);
  digests.set(bytes, digest);
  return digest;
}

/** Builds the manifest of a tree. */
export function collectSourceFiles(form: SourceForm, { files, links = [], folders }: SourceParts): SourceFiles {
  const blobs = new Map<Digest, Uint8Array>();
  const entries: SourceEntry[] = [];
  let sizeBytes = 0;
  for (const { path, bytes } of files) {
    const digest = digestOf(bytes);
    blobs.set(digest, bytes);
    sizeBytes += bytes.length;
    entries.push({ kind: "file", path, mode: 0o644, digest, size: bytes.length });
  }
  for (const { path, target } of links) entries.push({ kind: "link", path, target });
  for (const path of emptyFolders(entries, folders)) entries.push({ kind: "folder", path });
  const manifest = encodeSourceManifest(sourceManifest(form, entries));
  const digest = sourceDigest(manifest);
  return {
    manifest,
    digest,
    sizeBytes,
    randomSeed: ascii(digestHex(digest).slice(0, 16)),
    async openBlob(wanted) {
      const bytes = blobs.get(wanted);
      if (bytes === undefined)
        throw new HpccError("peer.protocol", `the worker asked for ${wanted}, which is not a source`);
      return compressBytes(bytes);
    },
  };
}

/** Folders in which nothing else stands: the others follow from what does. */
function emptyFolders(entries: readonly SourceEntry[], folders: readonly ByteString[]): ByteString[] {
  const implied = new Set<string>();
  const note = (path: string) => {
    for (let end = path.lastIndexOf("/"); end > 0; end = path.lastIndexOf("/", end - 1)) {
      const folder = path.slice(0, end);
      if (implied.has(folder)) return;
      implied.add(folder);
    }
  };
  for (const { path } of entries) note(path);
  for (const folder of folders) note(folder);
  return [...new Set(folders)].filter((folder) => !implied.has(folder));
}
