// How far a reading of an audit log is, on one line of a terminal: rows done of rows known. Elsewhere nothing.
import { join } from "node:path";
import { CHECKPOINT_FILE } from "../audit/log-tree.ts";
import { readPlainFile } from "../audit/plain-file.ts";
import { segmentSequence } from "../audit/segment.ts";
import { logFolder } from "../audit/verify-folder.ts";
import { readCheckpoint } from "../core/note/checkpoint.ts";
import type { Output } from "./output.ts";

/** Rows of a log's newest checkpoint; null where it has none. */
export async function signedRows(folder: string): Promise<number | null> {
  try {
    const note = await readPlainFile(join(await logFolder(folder), CHECKPOINT_FILE));
    return readCheckpoint(note.toString("utf8")).size;
  } catch {
    // Whoever reads the log says what is wrong with it.
    return null;
  }
}

export interface RowProgressOptions {
  /** Null where it is not known. */
  readonly total: number | null;
  /** Where nothing is shown whatever the terminal. */
  readonly isQuiet: boolean;
  readonly isTerminal?: boolean;
}

export class RowProgress implements Disposable {
  readonly #output: Output;
  readonly #isShown: boolean;
  readonly #total: number | null;
  #isOpen = false;

  constructor(output: Output, { total, isQuiet, isTerminal = process.stderr.isTTY }: RowProgressOptions) {
    this.#output = output;
    this.#isShown = !isQuiet && isTerminal;
    this.#total = total;
  }

  /** A segment is about to be read. */
  readonly segment = (name: string): void => this.rows((segmentSequence(name) ?? 1) - 1);

  readonly rows = (done: number): void => {
    if (!this.#isShown || done === 0) return;
    const of = this.#total === null ? "" : ` of ${this.#total.toLocaleString("en")}`;
    this.#output.error(`\r\u001b[K${done.toLocaleString("en")}${of} rows`);
    this.#isOpen = true;
  };

  [Symbol.dispose](): void {
    if (this.#isOpen) this.#output.error("\r\u001b[K");
    this.#isOpen = false;
  }
}
