// Stamps of files: what tells one from another without reading it.
import { type BigIntStats, lstatSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { FileStamp } from "./answered-call.ts";

export type { FileStamp } from "./answered-call.ts";

/** The stamp of a regular file, links followed; null when there is none. */
export function stampOf(path: ByteString): FileStamp | null {
  try {
    const stat = statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
    return stat?.isFile() === true ? stampFrom(stat) : null;
  } catch {
    return null;
  }
}

export function stampFrom({ dev, ino, size, mtimeNs, ctimeNs, mode }: BigIntStats): FileStamp {
  return { dev, ino, size, mtimeNs, ctimeNs, mode };
}

export function sameStamp(a: FileStamp, b: FileStamp): boolean {
  return (
    a.ino === b.ino &&
    a.mtimeNs === b.mtimeNs &&
    a.ctimeNs === b.ctimeNs &&
    a.size === b.size &&
    a.dev === b.dev &&
    a.mode === b.mode
  );
}

/** Some file systems count in whole seconds, or every second one. */
const COARSE_MS = 2000;

/** The latest time at which a file can have changed, in milliseconds since 1970. */
export function changedMs({ mtimeNs, ctimeNs }: FileStamp): number {
  return Math.max(Number(mtimeNs) / 1e6, statusMs(ctimeNs));
}

/** The latest time that a time of change may stand for, in milliseconds since 1970. */
export function statusMs(ctimeNs: bigint): number {
  return Number(ctimeNs) / 1e6 + (ctimeNs % 1_000_000_000n === 0n ? COARSE_MS : 0);
}

/** The latest time at which what stands at a path, links not followed unless `read` does, can have come there or changed; null for nothing. */
export function movedMs(path: ByteString, read: typeof lstatSync = lstatSync): number | null {
  try {
    const stat = read(bytesOf(path), { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? null : statusMs(stat.ctimeNs);
  } catch {
    return null;
  }
}

/** A stamp as a part of a key. */
export function stampKey(path: ByteString): string {
  const stamp = stampOf(path);
  return stamp === null ? "-" : `${stamp.dev}:${stamp.ino}:${stamp.size}:${stamp.mtimeNs}:${stamp.ctimeNs}`;
}
