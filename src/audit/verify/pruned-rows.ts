// Rows that retention has removed, held against what was signed when they went. A removed row leaves its hash, which the tree needs; that
// it was removed by who may, and no other one with it, is said by a row of the log and a signed stub, which both name the root over
// the numbers and hashes of exactly these rows. Whatever is gone beyond that is an alarm, as any missing row is. Pure.
import { HpccError } from "../../base/errors.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { equal } from "../../core/merkle/proof.ts";
import type { TileTree } from "../../core/merkle/tile-tree.ts";
import { type PruneId, pruneName } from "../pruned-frame.ts";
import { type PrunedStub, RemovedRows, readStub } from "../pruned-stub.ts";
import { parseRanges, RangeCursor } from "../removed-ranges.ts";
import type { BodyOfKind } from "../rows/bodies.ts";
import type { KeyHistory, Say } from "./key-history.ts";

/** A stub as it lies beside the log. UNTRUSTED. */
export interface StubFile {
  /** `pruneName` of its prune. */
  readonly name: string;
  readonly note: string;
  /** Which rows go, while the prune is not finished; null for one that is. */
  readonly ranges: string | null;
}

/** What a stub says of rows that are gone, once it is proven. */
export interface PrunedSummary extends Pick<PrunedStub, "tenant" | "first" | "last" | "rows" | "by" | "why"> {
  readonly name: string;
  readonly when: string;
  /** False: some of the rows are still there. */
  readonly finished: boolean;
}

type PruneRow = Extract<BodyOfKind<"prune">, { readonly event: "rows" }>;

interface Prune {
  readonly name: string;
  readonly file: StubFile | null;
  readonly stub: PrunedStub | null;
  /** Says which rows go, of a prune that is not finished. */
  readonly toGo: RangeCursor | null;
  readonly removed: RemovedRows;
  /** The first row that is gone; null for none. */
  first: number | null;
  still: number;
  otherRoot: boolean;
  /** The log's own row of it. */
  row: { readonly sequence: number; readonly body: PruneRow; readonly tenant: string } | null;
}

export class PrunedRows {
  readonly #prunes = new Map<string, Prune>();
  readonly #unfinished: Prune[] = [];
  readonly #bySize = new Map<number, Prune[]>();
  readonly #unreadable: string[] = [];

  constructor(files: readonly StubFile[]) {
    for (const file of files) {
      try {
        const stub = readStub(file.note);
        if (pruneName(stub) !== file.name) throw new HpccError("audit.corrupt", "it says that it is another one");
        const toGo = file.ranges === null ? null : new RangeCursor(parseRanges(file.ranges));
        const prune = this.#of(file.name, { file, stub, toGo });
        if (toGo !== null) this.#unfinished.push(prune);
        this.#bySize.set(stub.size, [...(this.#bySize.get(stub.size) ?? []), prune]);
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
        this.#unreadable.push(`the stub ${file.name} of removed rows cannot be read: ${error.message}`);
      }
    }
  }

  /** Takes a row that is gone. */
  gone(id: PruneId, row: number, leaf: Uint8Array): void {
    const prune = this.#of(pruneName(id), {});
    prune.first ??= row;
    prune.removed.add(row, leaf);
  }

  /** Takes a row that is there. */
  there(row: number, leaf: Uint8Array): void {
    for (const prune of this.#unfinished)
      if (prune.toGo!.has(row)) {
        prune.removed.add(row, leaf);
        prune.still++;
      }
  }

  /** Takes a row of the log that says what is removed. */
  said(sequence: number, tenant: string, body: PruneRow): void {
    this.#of(pruneName({ size: body.size, tenant }), {}).row = { sequence, body, tenant };
  }

  /** Holds the stubs that were signed for as many rows against the tree. */
  take(row: number, tree: TileTree): void {
    for (const prune of this.#bySize.get(row) ?? []) prune.otherRoot = !equal(prune.stub!.root, tree.root());
  }

  /** Tells what speaks against the log, now that its keys are known; gives what is proven. */
  end(keys: KeyHistory, say: Say): PrunedSummary[] {
    for (const problem of this.#unreadable) say(null, problem);
    return [...this.#prunes.values()].flatMap((prune) => {
      const problem = problemOf(prune, keys);
      if (problem === null) return summaryOf(prune);
      say(prune.first ?? prune.row?.sequence ?? null, problem);
      return [];
    });
  }

  #of(name: string, known: Partial<Pick<Prune, "file" | "stub" | "toGo">>): Prune {
    let prune = this.#prunes.get(name);
    if (prune === undefined) {
      const none = { file: null, stub: null, toGo: null, first: null, still: 0, otherRoot: false, row: null };
      prune = { ...none, name, removed: new RemovedRows(), ...known };
      this.#prunes.set(name, prune);
    }
    return prune;
  }
}

/** Null where all is as it was signed. */
function problemOf({ name, file, stub, removed, first, otherRoot, row }: Prune, keys: KeyHistory): string | null {
  const what = first === null ? "says that rows were removed" : "was removed, and others with it";
  if (file === null || stub === null) return `${what}, and there is no stub ${name} that proves who did`;
  // Prepared, and given up before anything was said or done.
  if (row === null && first === null) return null;
  try {
    keys.signed(file.note, stub.size);
    // By whom it is said to be: an older key says nothing more, whatever it may have signed once.
    if (row !== null) keys.signed(file.note, row.sequence);
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return `${what}, and the stub ${name} is not signed with the log's key: ${error.message}`;
  }
  if (row === null) return `${what}, and no row of the log says so`;
  const root = removed.root();
  const agrees = row.body.stub === sha256(Buffer.from(file.note)) && row.body.removed === digestOf(stub.removed);
  if (!agrees) return `${what}, and the row that says so names another stub than ${name}`;
  if (removed.rows !== stub.rows || !equal(root, stub.removed))
    return `${what}, and these ${removed.rows} rows are not the ${stub.rows} that the stub ${name} proves`;
  return otherRoot ? `${what}, of a log that is not this one: two logs were signed` : null;
}

function digestOf(hash: Uint8Array): Digest {
  return `sha256:${Buffer.from(hash).toString("hex")}` as Digest;
}

function summaryOf({ name, stub, first, still }: Prune): PrunedSummary[] {
  if (stub === null || (first === null && still === 0)) return [];
  const { tenant, rows, whenMs, by, why } = stub;
  const when = new Date(whenMs).toISOString();
  return [{ name, tenant, first: stub.first, last: stub.last, rows, when, by, why, finished: still === 0 }];
}
