// Looks for bytes in what a machine keeps: guest memory, a snapshot's files, a log. They are found as they are, and inside zstd frames, which
// is how sources travel.
import { type FileHandle, open } from "node:fs/promises";
import { zstdDecompressSync } from "node:zlib";

/** What is looked for, with a name for the report. At most a kilobyte. */
export interface Canary {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A file to look into; `ranges` where not all of it can be read, as of a process's memory. */
export interface Searched {
  readonly name: string;
  readonly path: string;
  readonly ranges?: readonly { readonly start: number; readonly end: number }[];
}

export interface Finding {
  readonly canary: string;
  readonly file: string;
  readonly offset: number;
  readonly within: "raw" | "zstd frame";
}

export interface Search {
  readonly findings: readonly Finding[];
  /** Bytes that were read; a search that saw nothing proves nothing. */
  readonly bytes: number;
  /** Those that were not zero. */
  readonly pagesInUse: number;
  /** Frames that could be decompressed. */
  readonly frames: number;
}

const CHUNK_BYTES = 4 * 2 ** 20;
/** What a chunk repeats of the one before: a canary, or a frame, may lie across the border. */
const FRAME_BYTES_MAX = 256 * 1024;
const FRAME_CONTENT_BYTES_MAX = 4 * 2 ** 20;
const PAGE_BYTES = 4096;
/** Of one canary in one chunk; more say no more. */
const FINDINGS_MAX = 16;
const ZSTD_MAGIC = Buffer.from("28b52ffd", "hex");
const ZERO_PAGE = Buffer.alloc(PAGE_BYTES);

/** Searches files for canaries. */
export async function findCanaries(files: readonly Searched[], canaries: readonly Canary[]): Promise<Search> {
  const needles = canaries.map(({ name, bytes }) => ({ name, bytes: Buffer.from(bytes) }));
  const found = new Map<string, Finding>();
  const sums = { bytes: 0, pagesInUse: 0, frames: 0 };
  for (const file of files) {
    await using handle = await open(file.path, "r");
    for (const { start, end } of file.ranges ?? [{ start: 0, end: await sizeOf(handle) }]) {
      for (let at = start; at < end; at += CHUNK_BYTES) {
        const chunk = await readAt(handle, at, Math.min(CHUNK_BYTES + FRAME_BYTES_MAX, end - at));
        sums.bytes += Math.min(chunk.length, CHUNK_BYTES);
        const pages = pagesInUse(chunk);
        if (pages === 0) continue;
        sums.pagesInUse += pages;
        for (const finding of searchChunk(chunk, needles, sums)) {
          const offset = at + finding.offset;
          found.set(`${finding.canary} ${file.name} ${offset}`, { ...finding, file: file.name, offset });
        }
      }
    }
  }
  return { findings: [...found.values()], ...sums };
}

/** The mappings of a process that can be read through /proc/<pid>/mem, for a search of all its memory. */
export function memoryRanges(maps: string): { start: number; end: number }[] {
  return [...maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) r\S* \S+ \S+ \d+ *(.*)$/gm)]
    .filter(([, , , name]) => !/^\[v(var|syscall)/.test(name ?? ""))
    .map(([, start = "", end = ""]) => ({ start: Number.parseInt(start, 16), end: Number.parseInt(end, 16) }));
}

type ChunkFinding = Omit<Finding, "file">;

function searchChunk(chunk: Buffer, needles: readonly { name: string; bytes: Buffer }[], sums: { frames: number }) {
  const findings: ChunkFinding[] = [];
  const within = (bytes: Buffer, offsetOf: (at: number) => number, kind: Finding["within"]): void => {
    for (const needle of needles) {
      let at = bytes.indexOf(needle.bytes);
      for (let count = 0; at >= 0 && count < FINDINGS_MAX; count += 1) {
        findings.push({ canary: needle.name, offset: offsetOf(at), within: kind });
        at = bytes.indexOf(needle.bytes, at + 1);
      }
    }
  };
  within(chunk, (at) => at, "raw");
  for (let at = chunk.indexOf(ZSTD_MAGIC); at >= 0 && at < CHUNK_BYTES; at = chunk.indexOf(ZSTD_MAGIC, at + 1)) {
    const content = decompressed(chunk.subarray(at, at + FRAME_BYTES_MAX));
    if (content === null) continue;
    sums.frames += 1;
    within(content, () => at, "zstd frame");
  }
  return findings;
}

/** Null for what only looks like a frame, and for one whose end is elsewhere. */
function decompressed(bytes: Buffer): Buffer | null {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: FRAME_CONTENT_BYTES_MAX });
  } catch {
    return null;
  }
}

function pagesInUse(chunk: Buffer): number {
  let pages = 0;
  for (let at = 0; at < Math.min(chunk.length, CHUNK_BYTES); at += PAGE_BYTES) {
    const page = chunk.subarray(at, at + PAGE_BYTES);
    if (!page.equals(page.length === PAGE_BYTES ? ZERO_PAGE : ZERO_PAGE.subarray(0, page.length))) pages += 1;
  }
  return pages;
}

async function sizeOf(handle: FileHandle): Promise<number> {
  return (await handle.stat()).size;
}

async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
