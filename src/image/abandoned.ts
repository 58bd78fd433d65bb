// Folders of pulls and imports that were interrupted and that nobody goes on with.
import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";

const ABANDONED_MS = 24 * 60 * 60_000;
const UNFINISHED = /^\.(?:pull|import)-/;

/** Removes what has not changed for a day. */
export async function removeAbandoned(ociFolder: string): Promise<void> {
  for (const name of await readdir(ociFolder)) {
    if (!UNFINISHED.test(name)) continue;
    const path = join(ociFolder, name);
    // Where blobs arrive.
    const inner = await stat(join(path, "blobs", "sha256")).catch(() => null);
    const found = inner ?? (await stat(path).catch(() => null));
    if (found !== null && Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { recursive: true, force: true });
  }
}
