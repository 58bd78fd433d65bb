// The revocations of one tenant, or of all, as one small file that is written anew with each of them: durable before anybody is
// told, and for good. It knows no entries; whoever sweeps them says so here, and a process that is killed before goes on.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { HpccError } from "../../base/errors.ts";
import { NumberTable } from "../../base/number-table.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import type { Made, Revocation, RevocationKind, RevokedBy } from "../../core/revocation.ts";
import { REVOCATIONS_MAX, RevocationSet } from "../../core/revocation-set.ts";
import { type DiskFiles, isMissing, storeError } from "./disk-files.ts";

const NAME = "revocations";
const SCHEMA = "hpcc.revocations.v1";
const CHECKSUM_BYTES = 32;
/** Of who asked, as it is kept. */
const ASKED_BY_LENGTH_MAX = 256;
const KIND_NUMBERS = new NumberTable<RevocationKind>({ vm: 1, image: 2, principal: 3, key: 4 });
const CAUSE_NUMBERS = new NumberTable<RevokedBy["cause"]>({ breach: 1, confirmation: 2, operator: 3, peer: 4 });

/** A revocation as it is kept. */
export interface RevocationMark extends Revocation {
  readonly by: RevokedBy;
  /** When this worker heard of it, by its own clock. */
  readonly heardMs: number;
  /** Grows with each of a worker's revocations, also over its restarts. */
  readonly sequence: number;
}

export interface RevocationListOptions {
  readonly files: DiskFiles;
  /** The worker whose clock the times are; null where results are only read. */
  readonly worker: string | null;
  /** The list was damaged and is set aside: from now on nothing that is older is an answer. */
  readonly damaged: (problem: string) => void;
  /** A revocation that was added is durable; told once, by whichever write came through. */
  readonly durable: (mark: RevocationMark) => void;
  readonly nowMs: () => number;
}

export class RevocationList {
  readonly #options: RevocationListOptions;
  #set: RevocationSet<RevocationMark>;
  /** By sequence: those whose results may still be on the disk. */
  readonly #unswept = new Map<number, RevocationMark>();
  /** Those in force that no write has made durable yet. */
  readonly #owed = new Set<RevocationMark>();
  /** Not before anybody asks: who opens a store to read of rows changes nothing. */
  #loading: Promise<void> | null = null;
  #writing: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(options: RevocationListOptions) {
    this.#options = options;
    this.#set = new RevocationSet(options.worker);
  }

  /** Throws when the list cannot be read: nobody knows then what is revoked. */
  load(): Promise<void> {
    this.#loading ??= this.#load().catch((error: unknown) => {
      this.#loading = null;
      throw error;
    });
    return this.#loading;
  }

  /** Of the list as it is in memory; to be called after `load`. */
  covering(key: string, made: Made): RevocationMark | "horizon" | null {
    return this.#set.covering(key, made);
  }

  stamp(nowMs: number): number {
    return this.#set.stamp(nowMs);
  }

  marks(): RevocationMark[] {
    return [...this.#set];
  }

  get unswept(): RevocationMark[] {
    return [...this.#unswept.values()];
  }

  /** In force from this call on; resolves when that is durable. False when it was in force already. */
  async add(mark: RevocationMark): Promise<boolean> {
    const added = this.#set.add(mark);
    if (added) {
      this.#noteUnswept(mark);
      this.#owed.add(mark);
    }
    // Before it is read, a write would lose what it holds.
    await this.load();
    await this.#write();
    return added;
  }

  /** Tries once more to make durable what no write has. */
  async writeOwed(): Promise<void> {
    if (this.#owed.size > 0) await this.#write();
  }

  /** Nothing of these is left. */
  async swept(marks: readonly RevocationMark[]): Promise<void> {
    for (const { sequence } of marks) this.#unswept.delete(sequence);
    await this.#write();
  }

  async #load(): Promise<void> {
    const path = this.#options.files.plainPath(".", NAME);
    let bytes: Buffer;
    try {
      bytes = await readFile(path);
    } catch (error) {
      if (isMissing(error)) return;
      throw storeError(error, "cannot read what is revoked");
    }
    try {
      this.#read(bytes);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      // Nothing is lost but compiles when all that is older is no answer.
      this.#use(new RevocationSet(this.#options.worker, this.#options.nowMs()));
      await this.#options.files.quarantine(path, NAME);
      this.#options.damaged(error.message);
      await this.#write();
    }
  }

  /** UNTRUSTED: `bytes`, the disk. */
  #read(bytes: Buffer): void {
    const body = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM_BYTES));
    const fields = new FieldReader(body, "the list of revocations");
    if (!checksum(body).equals(bytes.subarray(body.length))) fields.fail("has another checksum");
    if (fields.byteString(1) !== SCHEMA) fields.fail("has another schema");
    const set = new RevocationSet<RevocationMark>(this.#options.worker, fields.u64(2));
    const unswept: RevocationMark[] = [];
    while (fields.peek() === 3) {
      if (set.size === REVOCATIONS_MAX) fields.fail("is too long");
      const { mark, swept } = fields.record(3, readMark);
      set.add(mark);
      if (!swept) unswept.push(mark);
    }
    fields.end();
    this.#use(set);
    for (const mark of unswept) this.#noteUnswept(mark);
  }

  /** What was revoked while the list was read stays so. */
  #use(set: RevocationSet<RevocationMark>): void {
    for (const mark of this.#set) set.add(mark);
    this.#set = set;
  }

  #noteUnswept(mark: RevocationMark): void {
    this.#unswept.set(mark.sequence, mark);
    // The forgotten ones' results are missed all the same.
    if (this.#unswept.size > REVOCATIONS_MAX)
      for (const sequence of [...this.#unswept.keys()].slice(0, REVOCATIONS_MAX / 2)) this.#unswept.delete(sequence);
  }

  /** Writes the list as it is, or waits for the write after the one that runs. */
  #write(): Promise<void> {
    if (this.#writing === null) {
      this.#writing = this.#writeNow().finally(() => {
        this.#writing = null;
      });
      return this.#writing;
    }
    this.#next ??= this.#writing
      .catch(() => undefined)
      .then(() => {
        this.#next = null;
        return this.#write();
      });
    return this.#next;
  }

  async #writeNow(): Promise<void> {
    const { files } = this.#options;
    const writer = new FieldWriter().ascii(1, SCHEMA).u64(2, this.#set.horizonMs);
    for (const mark of this.#set)
      writer.record(3, (fields) => writeMark(fields, mark, !this.#unswept.has(mark.sequence)));
    const body = writer.finish();
    const written = [...this.#owed];
    try {
      await files.create(true, async (file) => {
        await file.append(Buffer.concat([body, checksum(body)]));
        return files.plainPath(".", NAME);
      });
    } catch (error) {
      throw storeError(error, "cannot note what is revoked");
    }
    for (const mark of written) if (this.#owed.delete(mark)) this.#options.durable(mark);
  }
}

function writeMark(
  fields: FieldWriter,
  { kind, value, atMs, by, heardMs, sequence }: RevocationMark,
  swept: boolean,
): void {
  fields
    .u32(1, KIND_NUMBERS.numberOf(kind))
    .ascii(2, value)
    .u64(3, atMs)
    .u32(4, CAUSE_NUMBERS.numberOf(by.cause))
    .u64(5, sequence)
    .u32(6, swept ? 1 : 0)
    .u64(7, heardMs);
  if (by.askedBy !== null) fields.bytes(8, Buffer.from(by.askedBy.slice(0, ASKED_BY_LENGTH_MAX)));
}

function readMark(fields: FieldReader): { readonly mark: RevocationMark; readonly swept: boolean } {
  const named = {
    kind: KIND_NUMBERS.nameOf(fields.u32(1)) ?? fields.fail("has an unknown kind"),
    value: String(fields.byteString(2)),
    atMs: fields.u64(3),
  };
  const cause = CAUSE_NUMBERS.nameOf(fields.u32(4)) ?? fields.fail("has an unknown cause");
  const sequence = fields.u64(5);
  const swept = fields.flag(6);
  const heardMs = fields.u64(7);
  const askedBy = fields.peek() === 8 ? Buffer.from(fields.bytes(8)).toString() : null;
  return { mark: { ...named, by: { cause, askedBy }, heardMs, sequence }, swept };
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
