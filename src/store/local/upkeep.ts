// What a person asks of the local store: how much lies there, and to make it less. For any process, beside a daemon that uses the store.
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import type { ByteString } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { isMissing, storeError } from "../disk/disk-files.ts";
import { localFiles, prepareFolders } from "./layout.ts";
import { UsageLog } from "./usage-log.ts";
import {
  type Removal,
  removalOf,
  removalOfAll,
  remove,
  totalBytes,
  type WalkedRecord,
  type WalkedStore,
  walkStore,
} from "./walk.ts";

export interface ProjectFigures {
  /** Null for results of no project. */
  readonly root: ByteString | null;
  readonly records: number;
  /** Files that projects share count for each of them. */
  readonly bytes: number;
}

export interface LocalStoreFigures {
  readonly bytes: number;
  readonly bytesMax: number;
  readonly records: number;
  readonly files: number;
  /** When the record that was not used for the longest time was used last; milliseconds since 1970. */
  readonly oldestUseMs: number | null;
  /** The largest first. */
  readonly projects: readonly ProjectFigures[];
}

/** What lies in the store of a cache folder; walks it. */
export async function localStoreFigures(cache: string, bytesMax: number): Promise<LocalStoreFigures> {
  const store = await walked(cache);
  const uses = store.records.map(({ usedMs }) => usedMs);
  return {
    bytes: totalBytes(store),
    bytesMax,
    records: store.records.length,
    files: store.files.size,
    oldestUseMs: uses.length === 0 ? null : uses.reduce((a, b) => Math.min(a, b)),
    projects: projectFigures(store),
  };
}

/** What is to be removed; all when neither is set, records that fit both when both are. */
export interface CleanChoice {
  /** Not used for so long. */
  readonly unusedMs: number | null;
  /** Of this project, and of those below its root. */
  readonly project: ByteString | null;
  /** Later uses than the store knows of, by key; milliseconds since 1970. */
  readonly used?: ReadonlyMap<Digest, number>;
}

export interface Cleaned {
  readonly records: number;
  readonly files: number;
  readonly bytes: number;
  readonly leftBytes: number;
}

/** Removes what is chosen from the store of a cache folder. */
export async function cleanLocalStore(cache: string, choice: CleanChoice, clock: Clock): Promise<Cleaned> {
  const nowMs = clock.wallMs();
  const store = await walked(cache);
  const removal = chosen(store, choice, nowMs);
  const leftBytes = totalBytes(store) - removal.bytes;
  try {
    await remove(removal);
    if (totalBytes(store) > 0) await new UsageLog(localFiles(cache), clock, 0).reset(leftBytes);
  } catch (error) {
    throw storeError(error, "cannot empty the local store");
  }
  return { records: removal.records, files: removal.files, bytes: removal.bytes, leftBytes };
}

function chosen(store: WalkedStore, { unusedMs, project, used }: CleanChoice, nowMs: number): Removal {
  if (unusedMs === null && project === null) return removalOfAll(store);
  const lastUse = ({ path, usedMs }: WalkedRecord) =>
    Math.max(usedMs, used?.get(`sha256:${basename(path)}` as Digest) ?? 0);
  const fits = (record: WalkedRecord) =>
    (unusedMs === null || nowMs - lastUse(record) >= unusedMs) &&
    (project === null || isBelow(record.project, project));
  return removalOf(store, fits, nowMs);
}

function isBelow(path: ByteString | null, root: ByteString): boolean {
  return path !== null && (path === root || path.startsWith(root === "/" ? root : `${root}/`));
}

async function walked(cache: string): Promise<WalkedStore> {
  try {
    await stat(cache);
    await prepareFolders(cache);
    return await walkStore(localFiles(cache));
  } catch (error) {
    if (isMissing(error)) return { records: [], files: new Map() };
    throw storeError(error, "cannot read the local store");
  }
}

function projectFigures(store: WalkedStore): ProjectFigures[] {
  const projects = new Map<ByteString | null, { records: number; bytes: number; files: Set<string> }>();
  for (const { project, bytes, files } of store.records) {
    const sum = projects.get(project) ?? { records: 0, bytes: 0, files: new Set() };
    projects.set(project, sum);
    sum.records++;
    sum.bytes += bytes;
    for (const hex of files) {
      if (!sum.files.has(hex)) sum.bytes += store.files.get(hex)?.bytes ?? 0;
      sum.files.add(hex);
    }
  }
  return [...projects]
    .map(([root, { records, bytes }]) => ({ root, records, bytes }))
    .sort((a, b) => b.bytes - a.bytes || (String(a.root) < String(b.root) ? -1 : 1));
}
