// Keeps the evictable part of a disk store below a size: results and cached actions, the least recently used first. What is
// kept as long as audit rows are (sources and manifests) is in another folder, which this never opens.
import { readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";

const EVICTABLE = ["cache", "actions"];
/** Evicts down to this share of the limit, so that not every write starts a sweep. */
const TARGET_SHARE = 0.9;

interface Entry {
  readonly path: string;
  readonly bytes: number;
  readonly usedMs: number;
}

/** Returns how many entries were removed. */
export async function evict(root: string, bytesMax: number): Promise<number> {
  const entries: Entry[] = [];
  for (const tenant of await foldersOf(root))
    for (const area of EVICTABLE)
      for (const fan of await foldersOf(join(root, tenant, area)))
        entries.push(...(await entriesOf(join(root, tenant, area, fan))));
  let total = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  if (total <= bytesMax) return 0;
  entries.sort((a, b) => a.usedMs - b.usedMs);
  let removed = 0;
  for (const { path, bytes } of entries) {
    if (total <= bytesMax * TARGET_SHARE) break;
    await unlink(path).catch(() => {});
    total -= bytes;
    removed++;
  }
  return removed;
}

async function foldersOf(folder: string): Promise<string[]> {
  const names = await readdir(folder, { withFileTypes: true }).catch(() => []);
  return names.filter((name) => name.isDirectory()).map((name) => name.name);
}

async function entriesOf(folder: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (const name of await readdir(folder).catch(() => [])) {
    const path = join(folder, name);
    const info = await stat(path).catch(() => null);
    if (info !== null) entries.push({ path, bytes: info.size, usedMs: info.mtimeMs });
  }
  return entries;
}
