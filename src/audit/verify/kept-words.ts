// What others have kept of a log, held against its rows: checkpoints, and receipts of single rows. Each was signed; a log that does not
// agree with one of them was cut off, rolled back, or is one of two logs under one key. Pure.
import { HpccError } from "../../base/errors.ts";
import { equal } from "../../core/merkle/proof.ts";
import type { TileTree } from "../../core/merkle/tile-tree.ts";
import { checkProof, decodeProof, readCheckpoint } from "../../core/note/checkpoint.ts";
import type { KeyHistory, Say } from "./key-history.ts";

/** A receipt as a client keeps it. UNTRUSTED. */
export interface KeptReceipt {
  /** Digest of the row's line. */
  readonly row: string;
  /** Hash of its record. */
  readonly leaf: Uint8Array;
  /** C2SP's tlog-proof. */
  readonly proof: string;
  /** The log of the worker that gave it, by its certificate; left out where the client did not say. */
  readonly from?: string;
}

/** A checkpoint, alone or in a receipt. */
interface Word {
  readonly what: string;
  readonly checkpoint: string;
  /** The log that it is about. */
  readonly origin: string;
  readonly size: number;
  readonly root: Uint8Array;
  /** The row that the receipt is about; null for a checkpoint alone. */
  readonly of: { readonly row: number; readonly receipt: KeptReceipt } | null;
  /** What the rows had to say to it. */
  otherRoot: boolean;
  otherLeaf: boolean;
  /** The stub of the prune that removed the row; null while it is there. */
  prunedBy: string | null;
}

/** A kept receipt whose row retention has removed. */
export interface PrunedReceipt {
  readonly row: number;
  readonly receipt: string;
  readonly stub: string;
}

const UNJUDGED = { otherRoot: false, otherLeaf: false, prunedBy: null };

export class KeptWords {
  readonly #words: Word[] = [];
  readonly #bySize = new Map<number, Word[]>();
  readonly #byRow = new Map<number, Word[]>();
  readonly #unreadable: { readonly problem: string; readonly receipt: KeptReceipt | null }[] = [];
  /** What says nothing of this log, and nothing of any other. */
  readonly worthless: string[] = [];

  constructor(
    checkpoints: readonly { readonly what: string; readonly checkpoint: string }[],
    receipts: readonly KeptReceipt[],
  ) {
    for (const { what, checkpoint } of checkpoints) this.#read(what, null, () => ({ checkpoint, of: null }));
    for (const receipt of receipts)
      this.#read(nameOf(receipt), receipt, () => {
        const { index, checkpoint } = decodeProof(receipt.proof);
        return { checkpoint, of: { row: index + 1, receipt } };
      });
  }

  /** Receipts that could be read: those of this log, and those of others, as a client keeps what all its workers gave it. */
  count(keys: KeyHistory) {
    const all = this.#words.filter(({ of }) => of !== null);
    const own = all.filter(({ origin }) => keys.isOf(origin));
    const prunedReceipts = own.flatMap(({ of, prunedBy }): PrunedReceipt[] =>
      prunedBy === null ? [] : [{ row: of!.row, receipt: of!.receipt.row, stub: prunedBy }],
    );
    return { receipts: own.length, otherReceipts: all.length - own.length, prunedReceipts };
  }

  /** Holds what was kept of a row, and of the tree that ends with it, against them. */
  take(row: number, leaf: Uint8Array, tree: TileTree, prunedBy: string | null): void {
    for (const word of this.#byRow.get(row) ?? []) {
      word.otherLeaf = !equal(word.of!.receipt.leaf, leaf);
      word.prunedBy = prunedBy;
    }
    const words = this.#bySize.get(row);
    if (words === undefined) return;
    const root = tree.root();
    for (const word of words) word.otherRoot = !equal(word.root, root);
  }

  /** Tells what speaks against the log, now that its keys are known. */
  end(rows: number, keys: KeyHistory, say: Say): void {
    for (const { problem, receipt } of this.#unreadable) this.#sayOf(receipt, { problem, own: false }, keys, say);
    for (const word of this.#words) {
      if (word.of !== null && !keys.isOf(word.origin)) continue;
      try {
        // What nobody signed says nothing against the log.
        const key = keys.open(word.checkpoint, word.what);
        if (word.of !== null) checkProof(word.of.receipt.leaf, decodeProof(word.of.receipt.proof), [key]);
        judge(word, rows, say);
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
        const problem = `${word.what} is worth nothing: ${error.message}`;
        this.#sayOf(word.of?.receipt ?? null, { problem, own: true }, keys, say);
      }
    }
  }

  /** What one worker has given speaks against its own log alone, whichever one it names. */
  #sayOf(receipt: KeptReceipt | null, about: { problem: string; own: boolean }, keys: KeyHistory, say: Say): void {
    const against = receipt === null || (receipt.from === undefined ? about.own : keys.isOf(receipt.from));
    if (against) say(null, about.problem);
    else this.worthless.push(about.problem);
  }

  #read(what: string, receipt: KeptReceipt | null, read: () => Pick<Word, "checkpoint" | "of">): void {
    try {
      const { checkpoint, of } = read();
      const word = { what, checkpoint, of, ...readCheckpoint(checkpoint), ...UNJUDGED };
      this.#words.push(word);
      push(this.#bySize, word.size, word);
      if (of !== null) push(this.#byRow, of.row, word);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      this.#unreadable.push({ problem: `${what} cannot be read: ${error.message}`, receipt });
    }
  }
}

function nameOf({ row, from }: KeptReceipt): string {
  return `the receipt of ${row}${from === undefined ? "" : `, which ${from} gave,`}`;
}

function judge({ what, size, of, otherRoot, otherLeaf }: Word, rows: number, say: Say): void {
  if (size > rows) say(rows + 1, `is missing: the log ends at row ${rows}, and ${what} was signed for ${size} rows`);
  if (otherLeaf) say(of!.row, `is not the row that ${what} proves: two logs were signed`);
  else if (otherRoot) say(null, `the first ${size} rows are not those that ${what} proves: two logs were signed`);
}

function push<T>(map: Map<number, T[]>, key: number, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}
