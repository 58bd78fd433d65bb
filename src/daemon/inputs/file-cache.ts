// Keeps the bytes of files that preprocessing reads again and again (headers), as long as they have not changed. Handing back the
// same object for an unchanged file lets users of it keep what they derived. Bounded by bytes. UNTRUSTED: the files are a checkout's.
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { type FileStamp, stampFrom } from "../call/file-stamp.ts";

const FILE_BYTES_MAX = 32 * 1024 * 1024;
/** A file that changed so shortly before it was read may change again and look the same: clocks of file systems are coarse. */
const SETTLED_MS = 50;

interface Entry {
  readonly bytes: Buffer;
  readonly stamp: string;
}

export interface ReadFile {
  /** The same object as before while the file is unchanged. */
  readonly bytes: Buffer;
  /** The later of the times of its last change of content and of anything, in milliseconds since 1970. */
  readonly changedMs: number;
  /** Time of its last change of content, in whole seconds since 1970. */
  readonly modifiedS: number;
  /** Device and inode. */
  readonly identity: string;
  readonly hardLinks: number;
  readonly stamp: FileStamp;
}

export class FileCache {
  readonly #entries = new Map<ByteString, Entry>();
  readonly #bytesMax: number;
  readonly #clock: Pick<Clock, "wallMs">;
  readonly #readAll: (descriptor: number) => Buffer;
  #bytes = 0;

  /** `readAll` reads a file to its end. */
  constructor(
    bytesMax: number,
    clock: Pick<Clock, "wallMs">,
    readAll: (descriptor: number) => Buffer = (descriptor) => readFileSync(descriptor),
  ) {
    this.#bytesMax = bytesMax;
    this.#clock = clock;
    this.#readAll = readAll;
  }

  /** The bytes of a regular file; null when it cannot be read, or is larger than 32 MiB. */
  read(path: ByteString): Buffer | null {
    return this.readFile(path)?.bytes ?? null;
  }

  /** A regular file; null when it cannot be read, or is larger than 32 MiB. */
  readFile(path: ByteString): ReadFile | null {
    let fd = -1;
    try {
      // A fifo is not even opened: its writer would take that for its reader.
      if (statSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() !== true) return null;
      fd = openSync(bytesOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
      const opened = fstatSync(fd, { bigint: true });
      if (!opened.isFile() || opened.size > FILE_BYTES_MAX) return null;
      const known = this.#entries.get(path);
      this.#forget(path);
      const isKnown = known?.stamp === stampOf(opened);
      const bytes = isKnown ? known.bytes : this.#readAll(fd);
      // Its times before the reading would hide a change during it.
      const stat = isKnown ? opened : fstatSync(fd, { bigint: true });
      const entry = isKnown ? known : { bytes, stamp: stampOf(stat) };
      if (this.#clock.wallMs() - Number(stat.ctimeMs) > SETTLED_MS) this.#keep(path, entry);
      return {
        bytes: entry.bytes,
        changedMs: Math.max(Number(stat.mtimeNs), Number(stat.ctimeNs)) / 1e6,
        modifiedS: Number(stat.mtimeNs / 1_000_000_000n),
        identity: `${stat.dev}:${stat.ino}`,
        hardLinks: Number(stat.nlink),
        stamp: stampFrom(stat),
      };
    } catch {
      return null;
    } finally {
      if (fd >= 0) closeSync(fd);
    }
  }

  #forget(path: ByteString): void {
    const entry = this.#entries.get(path);
    if (entry === undefined) return;
    this.#entries.delete(path);
    this.#bytes -= entry.bytes.length;
  }

  #keep(path: ByteString, entry: Entry): void {
    if (entry.bytes.length > this.#bytesMax) return;
    this.#entries.set(path, entry);
    this.#bytes += entry.bytes.length;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#forget(oldest);
    }
  }
}

function stampOf(stat: BigIntStats): string {
  return `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
}
