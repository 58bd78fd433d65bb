// Where an audit log ends on disk, found at a start: what was written and never acknowledged is set aside as a whole, and what is
// acknowledged is made sure of once more. Also how a segment comes to be.
import { type FileHandle, mkdir, open, readdir, readFile, rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HpccError } from "../base/errors.ts";
import type { LogDisk } from "./log-disk.ts";
import { CHAIN_START, decodePart, followPart, listSegments, readSegment } from "./read-log.ts";
import { type ChainState, hasLaterGroup, segmentName, segmentSequence } from "./segment.ts";

export interface LogEnd {
  readonly handle: FileHandle;
  readonly size: number;
  readonly chain: ChainState;
  /** What was set aside, and no row says so yet. */
  readonly torn: readonly TornEnd[];
  /** The log's newest key, if its last segments name one. */
  readonly key: string | null;
}

export interface TornEnd {
  readonly bytes: number;
  readonly file: string;
}

/** Looks at where a log ends, and at the newest key that its rows say, before anything is changed; throws for a log that must stay as it is. */
export type CheckEnd = (chain: ChainState, key: string | null) => Promise<void>;

/** Finds where the log ends, and sets aside what was written and never acknowledged. */
export async function openEnd(folder: string, disk: LogDisk, check: CheckEnd): Promise<LogEnd> {
  await makeFolder(folder);
  const segments = await listSegments(folder);
  const last = segments.at(-1);
  if (last === undefined) {
    await check(CHAIN_START, null);
    const handle = await createSegment(folder, 1);
    await closingOnFailure(handle, async () => syncFolder(folder));
    return { handle, size: 0, chain: CHAIN_START, torn: [], key: null };
  }
  const before = segments.at(-2);
  const said: Said = { torn: new Set(), key: null };
  const from = before === undefined ? CHAIN_START : readRows(await readSegment(folder, before), null, said).chain;
  const bytes = await readSegment(folder, last);
  const { chain, end, group } = readRows(bytes, from, said);
  if (end < bytes.length && hasLaterGroup(bytes, end, chain.sequence + 1))
    throw new HpccError("audit.corrupt", `${last} is damaged at byte ${end}, with synced rows after it`);
  await check(chain, said.key);
  if (end < bytes.length) await setAside(folder, `${last}.torn-${end}-${chain.sequence}`, bytes.subarray(end));
  const torn = await unsaidEnds(folder, said, segmentSequence(before ?? last)! - 1);
  const handle = await open(join(folder, last), "r+");
  await closingOnFailure(handle, async () => {
    if (end < bytes.length) await handle.truncate(end);
    // After a sync that failed, memory may show rows that the disk does not hold and that no sync would write: only new bytes are written.
    if (group < end) await disk.write(handle, bytes.subarray(group, end), group);
    await handle.datasync();
    await syncFolder(folder);
  });
  return { handle, size: end, chain, torn, key: said.key };
}

/** A new segment, or the empty one that an earlier try has left; its name is durable when the folder is synced. */
export async function createSegment(folder: string, firstSequence: number): Promise<FileHandle> {
  const name = segmentName(firstSequence);
  const path = join(folder, name);
  const handle = await open(path, "wx", 0o600).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
    return open(path, "r+");
  });
  await closingOnFailure(handle, async () => {
    if ((await handle.stat()).size > 0)
      throw new HpccError("audit.corrupt", `${name} has rows that the log does not know`);
  });
  return handle;
}

export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function closingOnFailure(handle: FileHandle, run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}

/** Makes a folder whose name is durable too. */
export async function makeFolder(folder: string): Promise<void> {
  const first = await mkdir(folder, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  for (let made = folder; ; made = dirname(made)) {
    await syncFolder(dirname(made));
    if (made === first || made === dirname(made)) return;
  }
}

/** What the last segments' rows say of the log itself. */
interface Said {
  /** Files with torn ends. */
  readonly torn: Set<string>;
  key: string | null;
}

interface RowsEnd {
  readonly chain: ChainState;
  /** Where the rows end, and where the group of the last one begins. */
  readonly end: number;
  readonly group: number;
}

/** Follows a segment's records from a state; null begins at whatever the first record says. */
function readRows(bytes: Buffer, from: ChainState | null, said: Said): RowsEnd {
  let chain = from;
  let [end, group, groupFirst] = [0, 0, 0];
  for (let part = decodePart(bytes, 0); part !== null; part = decodePart(bytes, end)) {
    chain = followPart(chain, part);
    if ("record" in part) {
      if (part.group !== groupFirst) [group, groupFirst] = [end, part.group];
      const { envelope } = part.record;
      if (envelope.kind === "log" && envelope.event === "torn") said.torn.add(envelope.file);
      if (envelope.kind === "log" && envelope.event === "key") said.key = envelope.key;
    } else [group, groupFirst] = [part.end, 0];
    end = part.end;
  }
  if (from === null && end !== bytes.length)
    throw new HpccError("audit.corrupt", `an audit segment is damaged at byte ${end}`);
  return { chain: chain ?? CHAIN_START, end, group };
}

/** Keeps a torn end as a file, once: a start that ended before it was cut off has left it. */
async function setAside(folder: string, name: string, bytes: Buffer): Promise<void> {
  const names = new Set(await readdir(folder));
  let file = name;
  for (let n = 1; names.has(file); n++) {
    if (bytes.equals(await readFile(join(folder, file)))) return syncFolder(folder);
    file = `${name}-${n}`;
  }
  const temporary = join(folder, `${name}.new`);
  const handle = await open(temporary, "w", 0o600);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, join(folder, file));
  await syncFolder(folder);
}

const TORN_FILE = /^[0-9]{16}\.log\.torn-[0-9]+-([0-9]+)(?:-[0-9]+)?$/;

/** Torn ends after row `since` that no row names: a start that set them aside ended before it had written one. */
async function unsaidEnds(folder: string, said: Said, since: number): Promise<TornEnd[]> {
  const names = (await readdir(folder)).filter((name) => {
    const row = TORN_FILE.exec(name)?.[1];
    return row !== undefined && Number(row) >= since && !said.torn.has(name);
  });
  return Promise.all(names.sort().map(async (file) => ({ file, bytes: (await stat(join(folder, file))).size })));
}
