// What must be as it is for a call's result to hold, gathered for a replay record: stamps, names at which nothing may be, and places. It takes
// nothing that it cannot prove: the first doubt ends it. UNTRUSTED: paths are a checkout's.
import { type BigIntStats, lstatSync, statfsSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { ReplayPlace, ReplayStamp, StampedPath } from "../../wire/launcher/replay-record.ts";

/** A file that changed so shortly before it was looked at may change again and look the same: clocks of file systems are coarse. */
const RACY_MS = 50;
/** Some file systems count whole seconds, or every second one. */
const RACY_COARSE_MS = 2_100;
const NS_PER_MS = 1_000_000n;
const NS_PER_S = 1_000_000_000n;

/**
 * File systems on which a change always shows in what stat tells, by the kernel's magic numbers. Not among them: those of a network, whose
 * attributes are remembered for seconds and whose clock is another one's, those of user space, and those without a time of change.
 */
const TRUSTED_FILE_SYSTEMS: ReadonlySet<bigint> = new Set([
  0xef53n, // ext2 to ext4
  0x58465342n, // XFS
  0x9123683en, // Btrfs
  0xca451a4en, // bcachefs
  0xf2f52010n, // F2FS
  0x2fc12fc1n, // ZFS
  0x01021994n, // tmpfs
  0x858458f6n, // ramfs
  0x794c7630n, // overlayfs
  0x73717368n, // squashfs
  0xe0f5e1e2n, // EROFS
  0x9660n, // ISO 9660
]);

/** A name that must not be there, or a doubt. */
export type Found = BigIntStats | null | "doubt";

export interface EvidenceOptions {
  /** When the call began, in milliseconds since 1970: what had changed by then shows. */
  readonly startedMs: number;
  readonly nowMs: number;
}

export class Evidence {
  readonly #stamps = new Map<string, StampedPath>();
  readonly #absent = new Set<ByteString>();
  readonly #places = new Map<ByteString, ReplayPlace>();
  readonly #trusted = new Map<bigint, boolean>();
  readonly #startedMs: number;
  readonly #nowMs: number;
  #doubt: string | null = null;

  constructor({ startedMs, nowMs }: EvidenceOptions) {
    this.#startedMs = startedMs;
    this.#nowMs = nowMs;
  }

  /** Why there can be no record; null while there can. */
  get doubt(): string | null {
    return this.#doubt;
  }

  get stamps(): StampedPath[] {
    return [...this.#stamps.values()];
  }

  get absent(): ByteString[] {
    return [...this.#absent];
  }

  get places(): ReplayPlace[] {
    return [...this.#places.values()];
  }

  refuse(why: string): void {
    this.#doubt ??= why;
  }

  /** A file, folder or link (by its mode) with what stat told when its bytes were read. */
  stamp(path: ByteString, stamp: ReplayStamp): void {
    if (this.#doubt !== null) return;
    // Both of two stamps that differ must hold, so that none does.
    const key = `${stamp.mode}:${stamp.ino}:${stamp.ctimeNs}:${path}`;
    if (this.#stamps.has(key)) return;
    if (!this.isSettledAtStart(stamp)) return this.refuse("racy");
    if (!this.isTrusted(path, stamp.dev)) return this.refuse("file_system");
    this.#stamps.set(key, { path, stamp });
  }

  /** What is at a path now: its stamp, or that there is nothing. */
  asItIs(path: ByteString): void {
    const found = look(path);
    if (found === null) this.nothingAt(path);
    else if (found === "doubt") this.refuse("unreadable");
    else this.stamp(path, stampOf(found));
  }

  /** A link as such: where it leads. */
  link(path: ByteString): void {
    const found = look(path, lstatSync);
    if (found === null || found === "doubt" || !found.isSymbolicLink()) return this.refuse("unreadable");
    this.stamp(path, stampOf(found));
  }

  /** Something must be there, and be the same, whatever becomes of its content. */
  place(path: ByteString): void {
    const found = look(path);
    if (found === null || found === "doubt") return this.refuse("unreadable");
    if (!this.isTrusted(path, found.dev)) return this.refuse("file_system");
    this.#places.set(path, { path, dev: found.dev, ino: found.ino });
  }

  /** Nothing is there, not even a link to nothing, and nothing may be. */
  nothingAt(path: ByteString): void {
    if (this.#doubt !== null || this.#absent.has(path)) return;
    if (look(path, lstatSync) !== null) return this.refuse("present");
    this.#absent.add(path);
  }

  /** The same for a path at which nothing is known to be. */
  absentIs(path: ByteString): void {
    this.#absent.add(path);
  }

  /** Whether a change after `sinceMs` shows in the stamp. */
  isSettled(stamp: Pick<ReplayStamp, "mtimeNs" | "ctimeNs">, sinceMs: number): boolean {
    const racyMs = stamp.ctimeNs % NS_PER_S === 0n ? RACY_COARSE_MS : RACY_MS;
    const beforeNs = BigInt(Math.floor(Math.min(sinceMs, this.#nowMs) - racyMs)) * NS_PER_MS;
    return stamp.mtimeNs < beforeNs && stamp.ctimeNs < beforeNs;
  }

  /** Whether a change since the call began shows in the stamp. */
  isSettledAtStart(stamp: Pick<ReplayStamp, "mtimeNs" | "ctimeNs">): boolean {
    return this.isSettled(stamp, this.#startedMs);
  }

  /** Whether a change from now on shows in the stamp. */
  isSettledNow(stamp: Pick<ReplayStamp, "mtimeNs" | "ctimeNs">): boolean {
    return this.isSettled(stamp, this.#nowMs);
  }

  /** Whether the path's file system shows each change. */
  isTrusted(path: ByteString, dev: bigint): boolean {
    let trusted = this.#trusted.get(dev);
    if (trusted === undefined) {
      trusted = fileSystemOf(path);
      this.#trusted.set(dev, trusted);
    }
    return trusted;
  }
}

function fileSystemOf(path: ByteString): boolean {
  try {
    return TRUSTED_FILE_SYSTEMS.has(statfsSync(bytesOf(path), { bigint: true }).type);
  } catch {
    return false;
  }
}

/** What stat tells; null when there is nothing. */
export function look(path: ByteString, read: typeof lstatSync = statSync): Found {
  try {
    // A file where a folder is meant counts as nothing, too.
    return read(bytesOf(path), { bigint: true, throwIfNoEntry: false }) ?? null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOTDIR" || code === "ENOENT" ? null : "doubt";
  }
}

export function stampOf(stat: BigIntStats): ReplayStamp {
  const { dev, ino, size, mtimeNs, ctimeNs, mode } = stat;
  return { dev, ino, size, mtimeNs, ctimeNs, mode };
}
