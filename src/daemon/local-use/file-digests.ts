// Digests of files of this machine, read again only when a file's stamp differs. Kept by the daemon, bounded. UNTRUSTED: files are a
// checkout's, and may change while they are read.
import { closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { changedMs, type FileStamp, sameStamp, stampFrom, stampOf } from "../call/file-stamp.ts";
import { Remembered } from "../call/remembered.ts";

export interface DigestedFile {
  readonly digest: Digest;
  /** Of the very bytes that the digest is of. */
  readonly stamp: FileStamp;
}

export interface ReadDigestedFile extends DigestedFile {
  readonly bytes: Buffer;
}

const FILES_MAX = 60_000;
const FILE_BYTES_MAX = 256 * 1024 * 1024;
/** A file that changed so shortly before it was read may change again and look the same: clocks of file systems are coarse. */
const SETTLED_MS = 50;

export class FileDigests {
  readonly #known = new Remembered<DigestedFile>(FILES_MAX);
  readonly #clock: Pick<Clock, "wallMs">;

  constructor(clock: Pick<Clock, "wallMs">) {
    this.#clock = clock;
  }

  /** The digest of a regular file; null when it cannot be read, is too large, or changes while it is read. */
  digest(path: ByteString): DigestedFile | null {
    const stamp = stampOf(path);
    if (stamp === null) return null;
    const known = this.#known.get(path);
    if (known !== undefined && sameStamp(known.stamp, stamp)) return known;
    const read = this.read(path);
    return read === null ? null : { digest: read.digest, stamp: read.stamp };
  }

  /** The same with the bytes, which are always read. */
  read(path: ByteString): ReadDigestedFile | null {
    let fd = -1;
    try {
      // A fifo is not even opened: its writer would take that for its reader.
      if (statSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() !== true) return null;
      fd = openSync(bytesOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
      const before = fstatSync(fd, { bigint: true });
      if (!before.isFile() || before.size > FILE_BYTES_MAX) return null;
      const bytes = readFileSync(fd);
      const stamp = stampFrom(fstatSync(fd, { bigint: true }));
      if (!sameStamp(stampFrom(before), stamp) || BigInt(bytes.length) !== stamp.size) return null;
      const known = this.#known.get(path);
      const digest = known !== undefined && sameStamp(known.stamp, stamp) ? known.digest : sha256(bytes);
      if (this.#clock.wallMs() - changedMs(stamp) > SETTLED_MS) this.#known.set(path, { digest, stamp });
      return { digest, stamp, bytes };
    } catch {
      return null;
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }
}
