// Whether an audit log is what was signed: the whole judgement, without disk, network, clock or configuration. Read it with
// docs/specs/audit-log.md; it trusts the keys that it is given, SHA-256 and Ed25519, and nothing that the log says of itself.
//
// A log is rows, one leaf of a tree each. A checkpoint is the log's signature over how many rows there are and the tree's root. Where
// rows and signature disagree, the tiles (the leaves' hashes as they were when it was signed) tell which row is the first bad one,
// if they give the signed root themselves. A checkpoint or a receipt that somebody has kept shows that rows were signed which are
// there no more, or that two logs were signed. Of a row that retention removed, its hash stays, and pruned-rows.ts judges whether it may be gone.
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { HASH_BYTES, leafHex } from "../../core/merkle/hashes.ts";
import { equal } from "../../core/merkle/proof.ts";
import { TILE_WIDTH, TileTree } from "../../core/merkle/tile-tree.ts";
import { readCheckpoint } from "../../core/note/checkpoint.ts";
import type { NoteVerifier } from "../../core/note/signed-note.ts";
import { FIRST_PREVIOUS } from "../envelope.ts";
import { decodePruned, type PrunedFrame, pruneName } from "../pruned-frame.ts";
import { type AuditRecord, type ChainState, decodeRecord, hasLaterGroup, kindOfRecord, readFrame } from "../segment.ts";
import { type KeptReceipt, KeptWords, type PrunedReceipt } from "./kept-words.ts";
import { KeyHistory } from "./key-history.ts";
import { PrunedRows, type PrunedSummary, type StubFile } from "./pruned-rows.ts";
import { type WitnessDemand, type Witnessed, Witnesses } from "./witnesses.ts";

/** All that is judged. UNTRUSTED: everything but `keys`. */
export interface Evidence {
  /** The log's segments, oldest first; they are read a second time where something is wrong. */
  readonly segments: AsyncIterable<{ readonly name: string; readonly bytes: Buffer }>;
  /** A tile of leaves as it was for a tree of this size; null where there is none. */
  readonly leafTile: (index: number, size: number) => Promise<Uint8Array | null>;
  /** The log's newest checkpoint; null where there is none. */
  readonly checkpoint: string | null;
  /** Checkpoints and receipts of this log that somebody has kept elsewhere. */
  readonly kept: readonly string[];
  readonly receipts: readonly KeptReceipt[];
  /** Stubs of what retention removed, as they lie beside the log. */
  readonly stubs: readonly StubFile[];
  /** The log's keys, known from elsewhere; none: those that it names itself. */
  readonly keys: readonly NoteVerifier[];
  /** Checkpoints of this log that witnesses have cosigned, and what is demanded of them; left out where nothing is. */
  readonly witnessed?: { readonly checkpoints: readonly string[]; readonly demand: WitnessDemand };
}

export interface Problem {
  /** The first row that is not as it was signed; null where no row can be named. */
  readonly row: number | null;
  readonly problem: string;
}

export interface Verdict {
  /** Rows that were read, and how many of them the newest checkpoint has signed. */
  readonly rows: number;
  readonly signedRows: number;
  /** The key of the newest checkpoint; null without one. */
  readonly key: string | null;
  /** Bytes at the end that a crash has left, which are no row. */
  readonly tornBytes: number;
  /** Receipts of this log that were held against it. */
  readonly receipts: number;
  /** Receipts of other logs, which say nothing of this one. */
  readonly otherReceipts: number;
  /** Receipts that prove nothing, and that no worker of this log gave: each is named with who did. */
  readonly worthless: readonly string[];
  /** What retention removed, as it was signed; its rows are among `rows`. */
  readonly pruned: readonly PrunedSummary[];
  /** Receipts of rows that it removed. Their proofs were held against the log like all others. */
  readonly prunedReceipts: readonly PrunedReceipt[];
  /** The newest word of each witness that counts, and the row up to which as many of them as were demanded have seen the log. */
  readonly witnessed: readonly Witnessed[];
  readonly witnessedRows: number;
  /** None: the log is what was signed. */
  readonly problems: readonly Problem[];
}

const NO_DEMAND: WitnessDemand = { keys: [], quorum: 0, sinceMs: null };
/** Memory of a tree is given back after so many rows. */
const ROWS_AT_ONCE = 1024;

export async function verifyLog(evidence: Evidence): Promise<Verdict> {
  // Rows that give the signed root need no tiles. Only where something is wrong do these tell which row it is.
  const verdict = await judge(new LogVerifier(evidence));
  if (verdict.problems.length === 0) return verdict;
  const verifier = new LogVerifier(evidence);
  await verifier.readSignedLeaves();
  return judge(verifier);
}

async function judge(verifier: LogVerifier): Promise<Verdict> {
  await verifier.readRows();
  return verifier.verdict();
}

class LogVerifier {
  readonly #evidence: Evidence;
  readonly #tree = new TileTree();
  readonly #problems: Problem[] = [];
  readonly #keys: KeyHistory;
  readonly #kept: KeptWords;
  readonly #pruned: PrunedRows;
  readonly #witnesses: Witnesses;
  /** The newest checkpoint as it reads; whether its signature is good is found out when the keys are known. */
  readonly #head: ReturnType<typeof readCheckpoint> | null;
  /** Hashes of the rows as they were signed; null where no tiles prove them. */
  #signed: Buffer | null = null;
  #last: ChainState = { sequence: 0, leaf: FIRST_PREVIOUS };
  #tornBytes = 0;
  #damaged = false;

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
    this.#keys = new KeyHistory(evidence.keys);
    const { kept, witnessed } = evidence;
    const cosigned = witnessed?.checkpoints ?? [];
    const checkpoints = [
      ...kept.map((checkpoint, at) => ({ what: `kept checkpoint ${at + 1}`, checkpoint })),
      ...cosigned.map((checkpoint, at) => ({ what: `cosigned checkpoint ${at + 1}`, checkpoint })),
    ];
    this.#kept = new KeptWords(checkpoints, evidence.receipts);
    this.#witnesses = new Witnesses([...kept, ...cosigned], witnessed?.demand ?? NO_DEMAND);
    this.#pruned = new PrunedRows(evidence.stubs);
    this.#head = this.#tried(null, () => (evidence.checkpoint === null ? null : readCheckpoint(evidence.checkpoint)));
  }

  /** Takes the leaf tiles for what was signed if they give the signed root. */
  async readSignedLeaves(): Promise<void> {
    if (this.#head === null) return;
    const { size, root } = this.#head;
    const tiles: Buffer[] = [];
    const tree = new TileTree();
    for (let index = 0; index * TILE_WIDTH < size; index++) {
      const width = Math.min(TILE_WIDTH, size - index * TILE_WIDTH);
      const tile = await this.#evidence.leafTile(index, size);
      if (tile === null || tile.length !== width * HASH_BYTES) return;
      for (let at = 0; at < tile.length; at += HASH_BYTES) tree.append(tile.subarray(at, at + HASH_BYTES));
      tree.takeFull();
      tiles.push(Buffer.from(tile));
    }
    if (equal(tree.root(), root)) this.#signed = Buffer.concat(tiles);
  }

  async readRows(): Promise<void> {
    for await (const { name, bytes } of this.#evidence.segments) {
      if (this.#damaged) return;
      if (this.#tornBytes > 0) {
        this.#damage(`is damaged, and ${name} comes after it`);
        return;
      }
      this.#readSegment(name, bytes);
    }
  }

  #readSegment(name: string, bytes: Buffer): void {
    for (let offset = 0; offset < bytes.length; ) {
      const frame = readFrame(bytes, offset);
      const pruned = frame === null ? decodePruned(bytes, offset) : null;
      if (pruned !== null) {
        if (!this.#passes(pruned)) return;
        offset = pruned.end;
        continue;
      }
      if (frame === null) {
        // Perhaps what a crash has left, if nothing comes after it and all that was signed is there.
        this.#tornBytes = bytes.length - offset;
        if (hasLaterGroup(bytes, offset, this.#last.sequence + 1))
          this.#damage(`is damaged, in ${name} at byte ${offset}`);
        return;
      }
      const leaf = leafHex(frame.payload);
      const hash = Buffer.from(leaf, "hex");
      const kind = kindOfRecord(frame.payload, this.#last);
      if (kind === null || !this.#isAsSigned(hash)) {
        this.#damage(this.#whyNotNext(frame.payload, `in ${name} at byte ${offset}`));
        return;
      }
      if (!this.#take(frame.payload, { leaf, hash, kind })) return;
      offset = frame.end;
    }
  }

  #isAsSigned(hash: Buffer): boolean {
    const at = this.#last.sequence * HASH_BYTES;
    const signed = this.#signed?.subarray(at, at + HASH_BYTES);
    return signed === undefined || signed.length === 0 || equal(signed, hash);
  }

  #whyNotNext(payload: Buffer, where: string): string {
    let record: AuditRecord;
    try {
      record = decodeRecord(payload);
    } catch (error) {
      return `is no row, ${where}: ${(error as Error).message}`;
    }
    const { sequence } = record.envelope;
    const last = this.#last.sequence;
    if (sequence !== last + 1) return `is missing: row ${sequence} stands in its place`;
    if (!this.#isAsSigned(Buffer.from(digestHex(record.leaf), "hex"))) return "is not the one that was signed";
    return `does not follow row ${last}; one of the two was altered`;
  }

  /** Takes a row that is next in the chain, and as it was signed. */
  #take(payload: Buffer, { leaf, hash, kind }: { leaf: string; hash: Buffer; kind: string }): boolean {
    const row = this.#last.sequence + 1;
    if ((kind === "log" || kind === "prune") && !this.#takeWords(row, payload)) return false;
    this.#pruned.there(row, hash);
    return this.#append({ leaf, hash }, null);
  }

  /** Takes removed rows that are next in the chain, and as they were signed. */
  #passes({ id, first, leaves }: PrunedFrame): boolean {
    for (const [at, hash] of leaves.entries()) {
      const row = this.#last.sequence + 1;
      if (first + at !== row) return this.#damage(`is missing: removed row ${first + at} stands in its place`);
      if (!this.#isAsSigned(hash)) return this.#damage("is not the one that was signed");
      this.#pruned.gone(id, row, hash);
      if (!this.#append({ leaf: hash.toString("hex"), hash }, pruneName(id))) return false;
    }
    return true;
  }

  #append({ leaf, hash }: { leaf: string; hash: Buffer }, prunedBy: string | null): boolean {
    const row = this.#last.sequence + 1;
    this.#last = { sequence: row, leaf: `sha256:${leaf}` as Digest };
    this.#tree.append(hash);
    this.#kept.take(row, hash, this.#tree, prunedBy);
    this.#pruned.take(row, this.#tree);
    if (row % ROWS_AT_ONCE === 0) this.#tree.takeFull();
    if (row === this.#head?.size && !equal(this.#tree.root(), this.#head.root))
      return this.#damage(`and all before it are not what was signed, and no tiles tell which is the first bad one`);
    return true;
  }

  /** What a row says of the log itself: its key, or what is removed. */
  #takeWords(row: number, payload: Buffer): boolean {
    try {
      const { row: columns, envelope } = decodeRecord(payload);
      if (envelope.kind === "prune" && envelope.event === "rows") this.#pruned.said(row, columns.tenant, envelope);
      if (envelope.kind === "log" && envelope.event === "key") this.#keys.take(row, envelope, this.#say);
      return true;
    } catch (error) {
      return this.#damage(`is no row: ${(error as Error).message}`);
    }
  }

  verdict(): Verdict {
    const rows = this.#tree.size;
    const key = this.#checkHead(rows);
    if (!this.#damaged) this.#kept.end(rows, this.#keys, this.#say);
    const pruned = this.#damaged ? [] : this.#pruned.end(this.#keys, this.#say);
    const witnessed = this.#witnesses.end(this.#say);
    return {
      rows,
      signedRows: Math.min(rows, this.#head?.size ?? 0),
      key: key?.text ?? null,
      tornBytes: this.#tornBytes,
      ...this.#kept.count(this.#keys),
      worthless: this.#kept.worthless,
      pruned,
      ...witnessed,
      problems: this.#problems,
    };
  }

  /** The key of the newest checkpoint, when it is the one that was in force for so many rows. */
  #checkHead(rows: number): NoteVerifier | null {
    const { checkpoint } = this.#evidence;
    if (checkpoint === null) this.#say(null, "the log has no checkpoint: nothing says how many rows were signed");
    if (checkpoint === null || this.#head === null) return null;
    const { size } = this.#head;
    if (rows < size && !this.#damaged)
      this.#say(rows + 1, `is missing: the log ends at row ${rows}, and ${size} rows were signed`);
    return this.#tried(null, () => this.#keys.open(checkpoint, "the newest checkpoint"));
  }

  #tried<T>(otherwise: T, run: () => T): T {
    try {
      return run();
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      this.#say(null, error.message);
      return otherwise;
    }
  }

  /** The next row is bad, and what comes after it cannot be judged. */
  #damage(problem: string): false {
    this.#damaged = true;
    this.#say(this.#tree.size + 1, problem);
    return false;
  }

  readonly #say = (row: number | null, problem: string): void => void this.#problems.push({ row, problem });
}
