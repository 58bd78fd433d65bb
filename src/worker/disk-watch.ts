// Watches the free space of the file systems that the log and the store lie on. It warns long before a row cannot be written any more,
// which is when a worker refuses every job; just before that, nobody new is sent here.
import { statfs } from "node:fs/promises";
import type { Clock, Timer } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";

export interface DiskRoom {
  readonly freeBytes: number;
  readonly totalBytes: number;
}

/** Below these a worker warns, and takes nobody new; null: a share of the file system, within a bound. */
export interface DiskMarks {
  readonly lowBytes: number | null;
  readonly hardBytes: number | null;
}

/** `low`: somebody should make room. `full`: nobody new is sent here. */
export type DiskState = "ok" | "low" | "full";

export interface DiskStatus extends DiskRoom {
  readonly state: DiskState;
  /** The folder with the least room. */
  readonly folder: string;
  readonly lowBytes: number;
  readonly hardBytes: number;
}

export interface DiskWatchOptions {
  readonly folders: readonly string[];
  readonly marks: DiskMarks;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A test's place for a disk that fills up. */
  readonly roomOf?: (folder: string) => Promise<DiskRoom>;
}

const GIB = 1024 ** 3;
const LOW = { share: 0.1, bytesMax: 10 * GIB };
const HARD = { share: 0.02, bytesMax: GIB };
export const WATCH_MS = 10_000;
/** A warning is said again after so many looks. */
const LOOKS_PER_WARNING = 360;
/** A full disk is not full any more when there is so much more room than the mark. */
const RECOVERY_SHARE = 1.25;

/** What is there for whoever is not root. */
async function roomOnDisk(folder: string): Promise<DiskRoom> {
  const { bavail, blocks, bsize } = await statfs(folder);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

function markOf(bytes: number | null, { share, bytesMax }: typeof LOW, totalBytes: number): number {
  return bytes ?? Math.min(bytesMax, Math.floor(totalBytes * share));
}

/** How a folder's file system is, held against the marks; `was` full, it is full until there is clearly more. */
export function diskStatus(folder: string, room: DiskRoom, marks: DiskMarks, was: DiskState = "ok"): DiskStatus {
  const hardBytes = markOf(marks.hardBytes, HARD, room.totalBytes);
  const lowBytes = Math.max(hardBytes, markOf(marks.lowBytes, LOW, room.totalBytes));
  const full = room.freeBytes < (was === "full" ? hardBytes * RECOVERY_SHARE : hardBytes);
  const state = full ? "full" : room.freeBytes < lowBytes ? "low" : "ok";
  return { ...room, folder, lowBytes, hardBytes, state };
}

const SEVERITY: Readonly<Record<DiskState, number>> = { ok: 0, low: 1, full: 2 };

/** The worst of some folders. */
export async function diskStatusOf(
  folders: readonly string[],
  marks: DiskMarks,
  { was = "ok", roomOf = roomOnDisk }: { readonly was?: DiskState; readonly roomOf?: typeof roomOnDisk } = {},
): Promise<DiskStatus> {
  const all = await Promise.all(folders.map(async (folder) => diskStatus(folder, await roomOf(folder), marks, was)));
  const [worst] = all.sort((a, b) => SEVERITY[b.state] - SEVERITY[a.state] || a.freeBytes - b.freeBytes);
  if (worst === undefined) throw new Error("bug: no folder to watch");
  return worst;
}

export class DiskWatch {
  readonly #options: DiskWatchOptions;
  #status: DiskStatus | null = null;
  #looks = 0;
  #timer: Timer | null = null;
  #closed = false;
  #looking: Promise<void> = Promise.resolve();
  #follow: (full: boolean) => void = () => undefined;

  constructor(options: DiskWatchOptions) {
    this.#options = options;
    this.#looking = this.#look();
  }

  /** As it was seen last; null before the first look. */
  get status(): DiskStatus | null {
    return this.#status;
  }

  /** Is told at each change whether there is room for new jobs, and how it is now if there is not. */
  follow(told: (full: boolean) => void): void {
    this.#follow = told;
    if (this.#status?.state === "full") told(true);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { folders, marks, clock, logger, roomOf } = this.#options;
    const was = this.#status?.state ?? "ok";
    try {
      const status = await diskStatusOf(folders, marks, { was, ...(roomOf && { roomOf }) });
      this.#status = status;
      this.#say(status, was);
    } catch (error) {
      logger.warn("worker.disk.unknown", { error: String(error) });
    }
    if (this.#closed) return;
    this.#timer = clock.after(WATCH_MS, () => {
      this.#looking = this.#look();
    });
  }

  #say(status: DiskStatus, was: DiskState): void {
    const { logger } = this.#options;
    const { state, ...fields } = status;
    const again = state !== "ok" && this.#looks++ % LOOKS_PER_WARNING === 0;
    if (state === "ok") this.#looks = 0;
    if (state !== was || again) {
      if (state === "full") logger.error("worker.disk.full", fields);
      else if (state === "low") logger.warn("worker.disk.low", fields);
      else logger.info("worker.disk.recovered", fields);
    }
    if ((state === "full") !== (was === "full")) this.#follow(state === "full");
  }
}
