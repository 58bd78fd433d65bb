// The port of a user's own store of results on this machine: whole files, as a hit hands them out, and small records by key. Made for many
// processes; anything may be evicted at any time. A miss is a value; a store that fails throws `store.io`.
import type { ByteString } from "../../base/byte-string.ts";
import type { Digest } from "../../core/digest/digest.ts";

export interface KeptFile {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Host path of a file with these bytes. It is the store's: to be read or cloned, never written or linked. */
  readonly path: ByteString;
}

export interface LocalStore {
  /** Keeps a file's bytes: cloned where the file system can, else copied. The file itself stays. */
  keepFile(path: ByteString): Promise<KeptFile>;
  keepBytes(bytes: Uint8Array): Promise<KeptFile>;
  /** A kept file whose bytes are those of the digest: one that was changed or cut is removed and missed. */
  find(digest: Digest): Promise<KeptFile | null>;
  /** Counts as use. A damaged record is removed and missed. */
  readRecord(key: Digest): Promise<Uint8Array | null>;
  /** Replaces the record of that key. `project` (its root) is what `hpcc clean --project` and statistics go by. */
  writeRecord(key: Digest, record: Uint8Array, project: ByteString | null, files: readonly Digest[]): Promise<void>;
}
