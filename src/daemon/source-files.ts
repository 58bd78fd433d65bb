// The files that a guest gets for one compile, as manifest and blobs. Blobs stay in memory until the job is done; they become
// zstd frames only when a worker asks for them.
import { ascii, type ByteString } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import {
  encodeSourceManifest,
  type SourceEntry,
  sourceDigest,
  sourceManifest,
} from "../core/action/source-manifest.ts";
import type { GuestFile } from "../core/compile/view/guest-file.ts";
import { type Digest, digestHex, sha256 } from "../core/digest/digest.ts";
import { compressBytes } from "../store/zstd-codec.ts";

export interface SourceFiles {
  readonly manifest: Uint8Array;
  readonly digest: Digest;
  /** Value of `-frandom-seed`: it comes from what is compiled, never from where. */
  readonly randomSeed: ByteString;
  /** The zstd frame of one of the manifest's blobs. */
  openBlob(digest: Digest): Promise<Uint8Array>;
}

/** Builds the manifest of the rebuilt files and the folders that must exist beside them. */
export function collectSourceFiles(files: readonly GuestFile[], folders: readonly ByteString[]): SourceFiles {
  const blobs = new Map<Digest, Uint8Array>();
  const entries: SourceEntry[] = [];
  for (const { path, bytes } of files) {
    const digest = sha256(bytes);
    blobs.set(digest, bytes);
    entries.push({ kind: "file", path, mode: 0o644, digest, size: bytes.length });
  }
  const paths = [...files.map((file) => file.path), ...folders];
  for (const path of new Set(folders))
    if (!paths.some((other) => other.startsWith(`${path}/`))) entries.push({ kind: "folder", path });
  const manifest = encodeSourceManifest(sourceManifest("text", entries));
  const digest = sourceDigest(manifest);
  return {
    manifest,
    digest,
    randomSeed: ascii(digestHex(digest).slice(0, 16)),
    async openBlob(wanted) {
      const bytes = blobs.get(wanted);
      if (bytes === undefined)
        throw new HpccError("peer.protocol", `the worker asked for ${wanted}, which is not a source`);
      return compressBytes(bytes);
    },
  };
}
