// A log's rows as far as its worker has signed them, in batches. None is given before chain, root and signature of all rows up to the
// checkpoint are checked. A row that is not signed yet may still be taken back, when its sync fails. UNTRUSTED: a log.
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { CompactRange } from "../../core/merkle/compact-range.ts";
import { leafHash } from "../../core/merkle/hashes.ts";
import { equal } from "../../core/merkle/proof.ts";
import { openCheckpoint, readCheckpoint } from "../../core/note/checkpoint.ts";
import { NOTE_BYTES_MAX, type NoteVerifier, parseVerifier } from "../../core/note/signed-note.ts";
import { FIRST_PREVIOUS } from "../envelope.ts";
import { CHECKPOINT_FILE } from "../log-tree.ts";
import { readPlainFile } from "../plain-file.ts";
import { type AuditRecord, decodeRecord, follow } from "../segment.ts";
import { type Removal, removalOf } from "./removals.ts";
import { type LogPart, SegmentReader } from "./segment-reader.ts";

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
  /** How many rows between them retention has removed. */
  readonly removed: number;
  /** What those of them say that are about such removals. */
  readonly removals: readonly Removal[];
  /** After them. */
  readonly position: LogPosition;
}

/** What goes to the database at once. */
const BATCH_ROWS_MAX = 500;
const BATCH_BYTES_MAX = 2 * 1024 * 1024;
/** Stands in each row that names a key, and may stand elsewhere. */
const KEY_ROW = '"kind":"log","event":"key"';

/** Reads a log from a position on, and knows what its worker must have signed for these rows. */
class Pass {
  readonly #keys: readonly NoteVerifier[];
  readonly #reader: SegmentReader;
  readonly #tree: CompactRange;
  #leaf: Digest;
  #key: string | null;
  /** Hashes of removed rows that the reader has given, and that come next. */
  #removed: readonly Buffer[] = [];

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
    const copy = new Pass(this.#reader.copy(), this.position, this.#keys);
    copy.#removed = this.#removed;
    return copy;
  }

  /** The next row; null where retention has removed it, and perhaps those after it, up to this many rows. */
  async take(rows: number): Promise<AuditRecord | null> {
    const part = await this.#next(rows);
    if (part.t === "pruned") return null;
    const record = decodeRecord(part.payload);
    follow({ sequence: this.rows, leaf: this.#leaf }, record);
    this.#append(Buffer.from(digestHex(record.leaf), "hex"));
    this.#takeKey(record);
    return record;
  }

  /** Goes on to this many rows, and looks at their hashes and keys alone. */
  async skipTo(rows: number): Promise<void> {
    while (this.rows < rows) {
      const part = await this.#next(rows);
      if (part.t === "pruned") continue;
      const mayBeKey = part.payload.includes(KEY_ROW);
      this.#append(leafHash(part.payload));
      if (mayBeKey) this.#takeKey(decodeRecord(part.payload));
    }
  }

  /** Throws `audit.corrupt` unless the checkpoint is of these rows, by the key that they name. */
  check(note: string): void {
    if (this.#key === null) throw new HpccError("audit.corrupt", "the log names no key");
    const { root } = openCheckpoint(note, [parseVerifier(this.#key)]);
    if (!equal(root, this.#tree.root()))
      throw new HpccError("audit.corrupt", `the first ${this.rows} rows of the log are not those that were signed`);
  }

  /** Takes removed rows for signed ones: it is their hashes that were. Of a run of them, which may go on behind any checkpoint, those up to `rows`. */
  async #next(rows: number): Promise<LogPart> {
    const part = this.#removed.length > 0 ? { t: "pruned" as const, leaves: this.#removed } : await this.#reader.next();
    if (part === null)
      throw new HpccError("audit.corrupt", `row ${this.rows + 1} of the log was signed, and is not there`);
    if (part.t === "record") return part;
    const leaves = part.leaves.slice(0, rows - this.rows);
    this.#removed = part.leaves.slice(leaves.length);
    for (const leaf of leaves) this.#append(leaf);
    return { t: "pruned", leaves };
  }

  #append(leaf: Buffer): void {
    this.#tree.append(leaf);
    this.#leaf = `sha256:${leaf.toString("hex")}` as Digest;
  }

  #takeKey({ envelope }: AuditRecord): void {
    if (envelope.kind !== "log" || envelope.event !== "key") return;
    const { key, sequence } = envelope;
    if (this.#keys.length > 0 && !this.#keys.some(({ text }) => text === key))
      throw new HpccError(
        "audit.corrupt",
        `row ${sequence} names ${key} as the log's key, which is none of the keys that were given`,
      );
    try {
      this.#key = parseVerifier(key).text;
    } catch {
      throw new HpccError("audit.corrupt", `row ${sequence} names a key of the log that is none`);
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
    this.#pass = new Pass(new SegmentReader(folder, from.rows + 1), from, keys);
  }

  /** The next rows; null where no more are signed. Throws `audit.corrupt` where they are not what was signed. */
  async next(): Promise<Batch | null> {
    if (this.#pass.rows >= this.#signedRows) await this.#lookAhead();
    const pass = this.#pass;
    const before = pass.rows;
    const records: AuditRecord[] = [];
    for (let bytes = 0; pass.rows < this.#signedRows && records.length < BATCH_ROWS_MAX && bytes < BATCH_BYTES_MAX; ) {
      const record = await pass.take(this.#signedRows);
      if (record === null) continue;
      records.push(record);
      bytes += record.line.length;
    }
    if (pass.rows === before) return null;
    const removals = records.map(removalOf).filter((removal) => removal !== null);
    return { records, removed: pass.rows - before - records.length, removals, position: pass.position };
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
    await ahead.skipTo(size);
    ahead.check(note);
    this.#note = note;
    this.#signedRows = size;
  }
}

async function readNote(path: string): Promise<string> {
  let text: string;
  try {
    text = (await readPlainFile(path)).toString("utf8");
  } catch (error) {
    throw new HpccError("audit.io", `the log's checkpoint ${path} cannot be read`, { cause: error });
  }
  if (text.length > NOTE_BYTES_MAX) throw new HpccError("audit.corrupt", `${path} is no checkpoint`);
  return text;
}

/** The name under which a log's rows are put down: its key's when the log began, whatever key it has now. */
export async function nameOfLog(folder: string): Promise<string> {
  const part = await new SegmentReader(folder, 1).next();
  const first = part?.t === "record" ? decodeRecord(part.payload).envelope : null;
  if (first?.kind !== "log" || first.event !== "key")
    throw new HpccError("audit.corrupt", `the log ${folder} does not begin with its key`, {
      hint: "Say what the log is called in the database, with --name.",
    });
  return parseVerifier(first.key).name;
}
