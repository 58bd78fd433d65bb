// How far this worker has read each peer's list of revocations, in one small file, so that after a restart it goes on where it was.
// What is lost is read again, which changes nothing.
import { randomUUID } from "node:crypto";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../base/log.ts";

const FILE = "revocations-read.json";
const FILE_BYTES_MAX = 1024 * 1024;
/** Peers that are remembered; the one heard of longest ago is forgotten. */
const PEERS_REMEMBERED_MAX = 2_048;

export class ReadPlaces {
  readonly #folder: string;
  readonly #logger: Logger;
  readonly #places: Map<string, number>;
  #changed = false;
  #saving: Promise<void> | null = null;

  private constructor(folder: string, logger: Logger, places: Map<string, number>) {
    this.#folder = folder;
    this.#logger = logger;
    this.#places = places;
  }

  static async open(folder: string, logger: Logger): Promise<ReadPlaces> {
    let places = new Map<string, number>();
    try {
      places = parsePlaces(await readFile(join(folder, FILE)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT")
        logger.warn("worker.peers.places_unreadable", { error: String(error) });
    }
    return new ReadPlaces(folder, logger, places);
  }

  /** Sequence of the last revocation of a peer that was applied; 0 for none. */
  of(peer: string): number {
    return this.#places.get(peer) ?? 0;
  }

  note(peer: string, sequence: number): void {
    this.#places.delete(peer);
    this.#places.set(peer, sequence);
    const [oldest] = this.#places.keys();
    if (oldest !== undefined && this.#places.size > PEERS_REMEMBERED_MAX) this.#places.delete(oldest);
    this.#changed = true;
  }

  /** Resolves when what was noted is on disk, or could not be written. */
  async save(): Promise<void> {
    while (this.#changed || this.#saving !== null) {
      this.#saving ??= this.#write().finally(() => {
        this.#saving = null;
      });
      await this.#saving;
    }
  }

  async #write(): Promise<void> {
    this.#changed = false;
    const temporary = join(this.#folder, `.${FILE}.${randomUUID()}`);
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await writeFile(temporary, JSON.stringify(Object.fromEntries(this.#places)), { mode: 0o600 });
      await rename(temporary, join(this.#folder, FILE));
    } catch (error) {
      this.#logger.warn("worker.peers.places_not_written", { error: String(error) });
      await rm(temporary, { force: true }).catch(() => {});
    }
  }
}

/** UNTRUSTED: the disk. What is not as it was written is left out. */
function parsePlaces(bytes: Buffer): Map<string, number> {
  if (bytes.length > FILE_BYTES_MAX) throw new Error("it is too large");
  const places = new Map<string, number>();
  const read: unknown = JSON.parse(bytes.toString());
  if (typeof read !== "object" || read === null) return places;
  for (const [peer, sequence] of Object.entries(read as Record<string, unknown>))
    if (typeof sequence === "number" && Number.isSafeInteger(sequence) && sequence >= 0) places.set(peer, sequence);
  return places;
}
