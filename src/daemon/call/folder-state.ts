// What stands at a path that is meant as a folder.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";

/** Nothing, no folder, or a folder, by its device and inode; links followed. */
export type FolderState = "nothing" | "no folder" | `${bigint}:${bigint}`;

/** What changes when a name in a folder does; null for no folder. */
export function folderChange(path: ByteString): string | null {
  try {
    const stat = statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
    return stat?.isDirectory() === true ? `${stat.dev}:${stat.ino}:${stat.ctimeNs}` : null;
  } catch {
    return null;
  }
}

export function folderState(path: ByteString): FolderState {
  try {
    const stat = statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) return "nothing";
    return stat.isDirectory() ? `${stat.dev}:${stat.ino}` : "no folder";
  } catch {
    return "nothing";
  }
}
