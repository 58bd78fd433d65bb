// Where the local store lies in the user's cache folder: below the version of its layout, so that a later one never reads this one's files, and
// a cache folder that is set to a place with other things in it loses none of them.
import { mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { DiskFiles, type WriteAt } from "../disk/disk-files.ts";

const LAYOUT = "v1";
/** Tells programs that make backups to leave the folder out (bford.info/cachedir). */
const CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# hpcc's local store: `hpcc clean` empties it.\n";

export function localFiles(cache: string, write?: WriteAt): DiskFiles {
  return new DiskFiles(join(cache, LAYOUT), write === undefined ? {} : { write });
}

/** Makes the folders. What others put there would be handed out as results, so they must not be able to. */
export async function prepareFolders(cache: string): Promise<void> {
  const root = join(cache, LAYOUT);
  await mkdir(root, { recursive: true, mode: 0o700 });
  for (const folder of [cache, root]) {
    const info = await stat(folder);
    if (info.uid !== process.geteuid?.() || (info.mode & 0o022) !== 0)
      throw new HpccError("store.io", `${folder} belongs to another user, or others may write to it`, {
        hint: "Give it to this user alone (chmod 700), or set HPCC_CACHE_DIR.",
      });
  }
  // In the folder of our own: the one that is named may have other things in it, which backups are not to leave out.
  await writeFile(join(root, "CACHEDIR.TAG"), CACHE_TAG, { flag: "wx" }).catch(() => {});
}
