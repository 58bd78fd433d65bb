// Lists folders for the mount plan, names as bytes.
import { readdirSync, readlinkSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { FolderEntry } from "./mount-plan.ts";

/** Folders, files and links of a folder, sorted; null when it is no folder. Sockets and devices are left out. */
export function listFolder(path: ByteString): FolderEntry[] | null {
  const folder = bytesOf(path === "" ? ("/" as ByteString) : path);
  try {
    const entries: FolderEntry[] = [];
    for (const found of readdirSync(folder, { withFileTypes: true, encoding: "buffer" })) {
      const name = byteStringOf(found.name);
      if (found.isSymbolicLink()) {
        const link = Buffer.concat([folder, Buffer.from("/"), found.name]);
        entries.push({ name, t: "symlink", target: byteStringOf(readlinkSync(link, { encoding: "buffer" })) });
      } else if (found.isDirectory()) entries.push({ name, t: "directory" });
      else if (found.isFile()) entries.push({ name, t: "file" });
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error;
  }
}
