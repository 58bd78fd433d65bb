// A log's rows as far as its worker has signed them, in batches. None is given before chain, root and signature of all rows up to the
// checkpoint are checked. A row that is not signed yet may still be taken back, when its sync fails. UNTRUSTED: a log.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { CompactRange } from "../../core/merkle/compact-range.ts";
import { equal } from "../../core/merkle/proof.ts";
import { openCheckpoint, readCheckpoint } from "../../core/note/checkpoint.ts";
import { NOTE_BYTES_MAX, type NoteVerifier, parseVerifier } from "../../core/note/signed-note.ts";
import { FIRST_PREVIOUS } from "../envelope.ts";
import { CHECKPOINT_FILE } from "../log-tree.ts";
import type { AuditRecord } from "../segment.ts";
import { SegmentReader } from "./segment-reader.ts";

/** How far a log was read, and what is needed to read and check on from there. */
export interface LogPosition {
  readonly rows: number;
  /** Leaf hash of the last row. */
  readonly leaf: Digest;
  /** Of the tree over these rows. */
  readonly nodes: Buffer;
  /** The key in force after them, in the text form of signed notes; null before the first. */
  readonly key: string | null;
}

export const LOG_START: LogPosition = { rows: 0, leaf: FIRST_PREVIOUS, nodes: Buffer.alloc(0), key: null };

export interface Batch {
  readonly records: readonly AuditRecord[];
  /** After them. */
  readonly position: LogPosition;
}

/** What goes to the database at once. */
const BATCH_ROWS_MAX = 500;
const BATCH_BYTES_MAX = 2 * 1024 * 1024;

/** Reads a log from a position on, and knows what its worker must have signed for these rows. */
class Pass {
  readonly #keys: readonly NoteVerifier[];
  readonly #reader: SegmentReader;
  readonly #tree: CompactRange;
  #leaf: Digest;
  #key: string | null;

  constructor(reader: SegmentReader, from: LogPosition, keys: readonly NoteVerifier[]) {
    this.#keys = keys;
    this.#reader = reader;
    this.#tree = CompactRange.restore(from.rows, from.nodes);
    this.#leaf = from.leaf;
    this.#key = from.key;
  }

  get rows(): number {
    return this.#tree.size;
  }

  get position(): LogPosition {
    return { rows: this.#tree.size, leaf: this.#leaf, nodes: this.#tree.bytes(), key: this.#key };
  }

  copy(): Pass {
    return new Pass(this.#reader.copy(), this.position, this.#keys);
  }

  /** The next row, which is known to be signed. */
  async take(): Promise<AuditRecord> {
    const record = await this.#reader.next();
    if (record === null)
      throw new HpccError("audit.corrupt", `row ${this.rows + 1} of the log was signed, and is not there`);
    this.#tree.append(Buffer.from(digestHex(record.leaf), "hex"));
    this.#leaf = record.leaf;
    const { envelope } = record;
    if (envelope.kind === "log" && envelope.event === "key") this.#takeKey(envelope.key, envelope.sequence);
    return record;
  }

  /** Throws `audit.corrupt` unless the checkpoint is of these rows, by the key that they name. */
  check(note: string): void {
    if (this.#key === null) throw new HpccError("audit.corrupt", "the log names no key");
    const { root } = openCheckpoint(note, [parseVerifier(this.#key)]);
    if (!equal(root, this.#tree.root()))
      throw new HpccError("audit.corrupt", `the first ${this.rows} rows of the log are not those that were signed`);
  }

  #takeKey(key: string, row: number): void {
    if (this.#keys.length > 0 && !this.#keys.some(({ text }) => text === key))
      throw new HpccError(
        "audit.corrupt",
        `row ${row} names ${key} as the log's key, which is none of the keys that were given`,
      );
    try {
      this.#key = parseVerifier(key).text;
    } catch {
      throw new HpccError("audit.corrupt", `row ${row} names a key of the log that is none`);
    }
  }
}

export class SignedRows {
  readonly #folder: string;
  #pass: Pass;
  /** The newest checkpoint that was found to be of the log's rows. */
  #note = "";
  #signedRows = 0;

  /** `keys` are those that are known from elsewhere; none: whatever the log names. */
  constructor(folder: string, from: LogPosition, keys: readonly NoteVerifier[]) {
    this.#folder = folder;
    const reader = new SegmentReader(folder, { sequence: from.rows, leaf: from.leaf });
    this.#pass = new Pass(reader, from, keys);
  }

  /** The next rows; null where no more are signed. Throws `audit.corrupt` where they are not what was signed. */
  async next(): Promise<Batch | null> {
    if (this.#pass.rows >= this.#signedRows) await this.#lookAhead();
    const pass = this.#pass;
    const records: AuditRecord[] = [];
    for (let bytes = 0; pass.rows < this.#signedRows && records.length < BATCH_ROWS_MAX && bytes < BATCH_BYTES_MAX; ) {
      const record = await pass.take();
      records.push(record);
      bytes += record.line.length;
    }
    return records.length === 0 ? null : { records, position: pass.position };
  }

  /** Reads to the newest checkpoint, so that no row is given before it is known to be signed. */
  async #lookAhead(): Promise<void> {
    const note = await readNote(join(this.#folder, CHECKPOINT_FILE));
    if (note === this.#note) return;
    const { size } = readCheckpoint(note);
    if (size < this.#pass.rows)
      throw new HpccError(
        "audit.corrupt",
        `the log is signed for ${size} rows, and had ${this.#pass.rows}: it was put back, or is another one`,
      );
    this.#pass = this.#pass.copy();
    const ahead = this.#pass.copy();
    while (ahead.rows < size) await ahead.take();
    ahead.check(note);
    this.#note = note;
    this.#signedRows = size;
  }
}

async function readNote(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new HpccError("audit.io", `the log's checkpoint ${path} cannot be read`, { cause: error });
  }
  if (text.length > NOTE_BYTES_MAX) throw new HpccError("audit.corrupt", `${path} is no checkpoint`);
  return text;
}

/** The name under which a log's rows are put down: its key's when the log began, whatever key it has now. */
export async function nameOfLog(folder: string): Promise<string> {
  const first = await new SegmentReader(folder, { sequence: 0, leaf: FIRST_PREVIOUS }).next();
  if (first?.envelope.kind !== "log" || first.envelope.event !== "key")
    throw new HpccError("audit.corrupt", `the log ${folder} does not begin with its key`, {
      hint: "Say what the log is called in the database, with --name.",
    });
  return parseVerifier(first.envelope.key).name;
}
