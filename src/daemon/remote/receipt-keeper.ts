// Receipts of audit rows, as workers gave them with results: kept in the client's state folder, where `hpcc audit check-receipts`
// finds them, bounded by two files of one size of which the older is replaced. No call waits for it, and none fails by it.
import { appendFile, mkdir, readFile, rename, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "../../base/log.ts";
import type { RemoteResult } from "./remote-job.ts";

export interface ReceiptKeeperOptions {
  /** The client's state folder. */
  readonly folder: string;
  readonly logger: Logger;
  readonly fileBytesMax?: number;
}

const FILE_BYTES_MAX = 16 * 1024 * 1024;
/** What waits to be written; more is dropped, as a disk that does not keep up must not fill the memory. */
const WAITING_MAX = 4096;

export class ReceiptKeeper {
  readonly #folder: string;
  readonly #options: ReceiptKeeperOptions;
  #waiting: string[] = [];
  #writing: Promise<void> | null = null;
  /** Null until the file has been looked at. */
  #size: number | null = null;

  constructor(options: ReceiptKeeperOptions) {
    this.#options = options;
    this.#folder = join(options.folder, "receipts");
  }

  keep({ rowDigest, receipt }: Pick<RemoteResult, "rowDigest" | "receipt">): void {
    if (receipt === null || this.#waiting.length >= WAITING_MAX) return;
    const { leaf, proof, from } = receipt;
    this.#waiting.push(`${JSON.stringify({ row: rowDigest, leaf, proof, ...(from !== null && { from }) })}\n`);
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
  }

  /** Resolves when all that was kept is written, or could not be. */
  async settled(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  async #write(): Promise<void> {
    try {
      while (this.#waiting.length > 0) {
        const lines = this.#waiting;
        this.#waiting = [];
        await this.#append(lines.join(""));
      }
    } catch (error) {
      this.#size = null;
      this.#options.logger.warn("receipts.not_kept", { error: String(error) });
    }
  }

  async #append(lines: string): Promise<void> {
    const current = join(this.#folder, "current.jsonl");
    if (this.#size === null) {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      this.#size = await cutTornLine(current);
    }
    if (this.#size > 0 && this.#size + lines.length > (this.#options.fileBytesMax ?? FILE_BYTES_MAX)) {
      await rename(current, join(this.#folder, "previous.jsonl"));
      this.#size = 0;
    }
    await appendFile(current, lines, { mode: 0o600 });
    this.#size += lines.length;
  }
}

/** The size of a file of lines, without the one that a kill or a full disk has broken off: the next would be joined to it. */
async function cutTornLine(path: string): Promise<number> {
  const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return Buffer.alloc(0);
    throw error;
  });
  const end = bytes.lastIndexOf("\n") + 1;
  if (end < bytes.length) await truncate(path, end);
  return end;
}
