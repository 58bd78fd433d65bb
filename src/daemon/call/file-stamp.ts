// Stamps of files: what tells one from another without reading it.
import { type BigIntStats, statSync } from "node:fs";
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

/** The later of a file's times, in milliseconds since 1970. */
export function changedMs({ mtimeNs, ctimeNs }: FileStamp): number {
  return Number(mtimeNs > ctimeNs ? mtimeNs : ctimeNs) / 1e6;
}
