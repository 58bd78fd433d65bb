// The audit log of one worker, append only. `append` resolves when the row is durable; rows that wait are written and synced
// together. After a failed sync nothing more is taken: what the disk holds is then unknown.
import { type FileHandle, mkdir, open, readdir, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import type { NoteSigner, NoteVerifier } from "../core/note/signed-note.ts";
import { encodeBody, placedEnvelope } from "./envelope.ts";
import { LogTree, readLogKey, type TreeDisk, writeLogKey } from "./log-tree.ts";
import { CHAIN_START, decodePart, followPart, listSegments, readSegment } from "./read-log.ts";
import { type AuditRow, emptyRow, encodeRow, rowDigest } from "./row.ts";
import type { EnvelopeBody } from "./rows/bodies.ts";
import { checkColumns } from "./rows/columns.ts";
import { type ChainState, encodeRecord, hasLaterGroup, RECORD_BYTES_MAX, segmentName } from "./segment.ts";

/** What touches the disk; a test's place for faults. */
export interface LogDisk {
  write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void>;
  sync(handle: FileHandle): Promise<void>;
}

export const LOG_DISK: LogDisk = {
  async write(handle, bytes, position) {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  },
  sync: async (handle) => handle.datasync(),
};

export interface AuditLogOptions {
  readonly folder: string;
  readonly worker: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly disk?: LogDisk;
  readonly segmentBytesMax?: number;
  /** Signs the log; without one it has no tree. */
  readonly signer?: NoteSigner;
  readonly treeDisk?: TreeDisk;
}

/** What shows anybody that a row is in the log. */
export interface Receipt {
  /** The row's envelope; with the row's line it is the record. */
  readonly envelope: string;
  /** A proof in the form of C2SP's tlog-proof, with a checkpoint of the log. */
  readonly proof: string;
}

export interface AppendedRow {
  readonly line: string;
  readonly digest: Digest;
  readonly sequence: number;
  /** Null where the log is not signed. */
  readonly receipt: Receipt | null;
}

interface Waiting {
  readonly line: string;
  /** The envelope but for its place. */
  readonly body: string;
  readonly resolve: (row: AppendedRow) => void;
  readonly reject: (error: HpccError) => void;
}

const SEGMENT_BYTES_MAX = 32 * 1024 * 1024;
/** Rows that are written together. */
const GROUP_ROWS_MAX = 1024;
/** Rows that may wait; more means that the disk does not keep up. */
const WAITING_ROWS_MAX = 65_536;
/** What a record's place adds to its row and the rest of its envelope, line ends included. */
const PLACE_BYTES_MAX = 256;

export class AuditLog {
  readonly #options: AuditLogOptions;
  readonly #disk: LogDisk;
  readonly #waiting: Waiting[] = [];
  #segment: { readonly handle: FileHandle; size: number };
  #chain: ChainState;
  #segmentEnds = false;
  #tree: LogTree | null = null;
  #failure: HpccError | null = null;
  #running: Promise<void> | null = null;

  private constructor(options: AuditLogOptions, end: LogEnd) {
    this.#options = options;
    this.#disk = options.disk ?? LOG_DISK;
    this.#segment = { handle: end.handle, size: end.size };
    this.#chain = end.chain;
  }

  /** Opens or makes the log of a folder. A torn end is set aside and recorded; other damage throws `audit.corrupt`. */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const end = await openEnd(options).catch((error: unknown) => {
      if (error instanceof HpccError) throw error;
      throw new HpccError("audit.io", `cannot open the audit log ${options.folder}`, { cause: error });
    });
    const log = new AuditLog(options, end);
    try {
      const before = options.signer === undefined ? null : await log.#openTree(options.signer);
      await Promise.all(end.torn.map(async (torn) => log.#recordTornEnd(torn)));
      if (options.signer !== undefined) await log.#recordKey(options.signer.verifier, before);
    } catch (error) {
      await end.handle.close();
      throw error;
    }
    return log;
  }

  /** Why the log takes nothing more; null while it does. */
  get failure(): HpccError | null {
    return this.#failure;
  }

  /** Sequence of the last durable record. */
  get sequence(): number {
    return this.#chain.sequence;
  }

  /** Appends a row; resolves when it is durable, throws `audit.io` when it is not. */
  async append(row: AuditRow, body: EnvelopeBody): Promise<AppendedRow> {
    const line = encodeRow(row);
    checkColumns(row, body.kind);
    const encoded = encodeBody(body);
    if (line.length + encoded.length + PLACE_BYTES_MAX > RECORD_BYTES_MAX)
      throw new Error("bug: an audit row is too long");
    if (this.#failure !== null) throw this.#failure;
    if (this.#waiting.length >= WAITING_ROWS_MAX) throw new HpccError("audit.io", "too many audit rows are waiting");
    const { promise, resolve, reject } = Promise.withResolvers<AppendedRow>();
    this.#waiting.push({ line, body: encoded, resolve, reject });
    this.#running ??= this.#writeGroups().finally(() => {
      this.#running = null;
    });
    return promise;
  }

  /** The rows that are appended from now on go to a new segment: those before it may be removed then. */
  beginSegment(): void {
    this.#segmentEnds = true;
  }

  /** Waits for what was appended, then takes nothing more. */
  async close(): Promise<void> {
    while (this.#running !== null) await this.#running;
    await this.#tree?.close();
    this.#failure ??= new HpccError("audit.io", "the audit log is closed");
    await this.#segment.handle.close();
  }

  async #writeGroups(): Promise<void> {
    // What is appended in this turn of the event loop goes together.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, GROUP_ROWS_MAX);
      try {
        if (this.#failure !== null) throw this.#failure;
        const rows = await this.#writeGroup(group);
        for (const [at, { resolve }] of group.entries()) resolve(rows[at]!);
      } catch (error) {
        for (const { reject } of group) reject(error as HpccError);
      }
    }
  }

  async #writeGroup(group: readonly Waiting[]): Promise<AppendedRow[]> {
    const first = this.#chain.sequence + 1;
    const frames: Uint8Array[] = [];
    const rows: Omit<AppendedRow, "receipt">[] = [];
    const envelopes: string[] = [];
    const leaves: Buffer[] = [];
    let chain = this.#chain;
    for (const { line, body } of group) {
      const sequence = chain.sequence + 1;
      const envelope = placedEnvelope(body, { sequence, previous: chain.leaf });
      const { frame, leaf } = encodeRecord(line, envelope, first);
      frames.push(frame);
      envelopes.push(envelope);
      leaves.push(Buffer.from(digestHex(leaf), "hex"));
      rows.push({ line, digest: rowDigest(line), sequence });
      chain = { sequence, leaf };
    }
    await this.#store(Buffer.concat(frames), first);
    this.#chain = chain;
    const proofs = this.#tree?.add(leaves);
    return rows.map((row, at) => {
      const proof = proofs?.[at];
      return { ...row, receipt: proof === undefined ? null : { envelope: envelopes[at]!, proof } };
    });
  }

  async #store(bytes: Uint8Array, firstSequence: number): Promise<void> {
    try {
      const { size } = this.#segment;
      const full = size >= (this.#options.segmentBytesMax ?? SEGMENT_BYTES_MAX);
      if (full || (this.#segmentEnds && size > 0)) await this.#rotate(firstSequence);
      await this.#disk.write(this.#segment.handle, bytes, this.#segment.size);
    } catch (error) {
      await this.#undo(error);
      throw new HpccError("audit.io", "an audit row cannot be written", { cause: error });
    }
    try {
      await this.#disk.sync(this.#segment.handle);
    } catch (error) {
      throw this.#fail("the audit log cannot be synced", error);
    }
    this.#segment.size += bytes.length;
  }

  /** Cuts off what a failed write left, so that rows can be taken again once there is space. */
  async #undo(cause: unknown): Promise<void> {
    this.#options.logger.error("audit.log.write_failed", { error: String(cause) });
    try {
      await this.#segment.handle.truncate(this.#segment.size);
    } catch (error) {
      throw this.#fail("the audit log cannot be mended", error);
    }
  }

  #fail(problem: string, cause: unknown): HpccError {
    this.#failure ??= new HpccError("audit.io", problem, { cause });
    this.#options.logger.error("audit.log.failed", { problem, error: String(cause) });
    return this.#failure;
  }

  async #rotate(firstSequence: number): Promise<void> {
    const handle = await createSegment(this.#options.folder, firstSequence);
    await this.#segment.handle.close();
    this.#segment = { handle, size: 0 };
    this.#segmentEnds = false;
  }

  /** Gives the key under which the log was signed until now. */
  async #openTree(signer: NoteSigner): Promise<NoteVerifier | null> {
    const { folder, clock, logger, treeDisk } = this.#options;
    const before = await readLogKey(folder);
    const options = { folder, signer, before, clock, logger, ...(treeDisk && { disk: treeDisk }) };
    this.#tree = await LogTree.open(options, this.#chain);
    return before;
  }

  /** The first row says the log's key, and a row each other one. */
  async #recordKey(key: NoteVerifier, before: NoteVerifier | null): Promise<void> {
    if (before?.text !== key.text) {
      const { clock, worker, folder } = this.#options;
      const now = clock.wallMs();
      const named = { key: key.text, before: before?.text ?? null };
      await this.append(emptyRow(worker), { kind: "log", event: "key", startMs: now, endMs: now, ...named });
      await writeLogKey(folder, key);
    }
    await this.#tree?.publish();
  }

  async #recordTornEnd({ bytes, file }: TornEnd): Promise<void> {
    const { clock, worker, logger } = this.#options;
    logger.error("audit.log.torn", { bytes, file });
    const now = clock.wallMs();
    await this.append(emptyRow(worker), { kind: "log", event: "torn", startMs: now, endMs: now, bytes, file });
  }
}

interface LogEnd {
  readonly handle: FileHandle;
  readonly size: number;
  readonly chain: ChainState;
  /** What was set aside here, and no row says so yet. */
  readonly torn: readonly TornEnd[];
}

interface TornEnd {
  readonly bytes: number;
  readonly file: string;
}

async function createSegment(folder: string, firstSequence: number): Promise<FileHandle> {
  const handle = await open(join(folder, segmentName(firstSequence)), "wx", 0o600);
  await syncFolder(folder);
  return handle;
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Finds where the log ends, and sets aside what was written and never acknowledged. */
async function openEnd({ folder }: AuditLogOptions): Promise<LogEnd> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const segments = await listSegments(folder);
  const last = segments.at(-1);
  if (last === undefined) return { handle: await createSegment(folder, 1), size: 0, chain: CHAIN_START, torn: [] };
  const before = segments.at(-2);
  const from = before === undefined ? CHAIN_START : chainOf(await readSegment(folder, before), null).chain;
  const bytes = await readSegment(folder, last);
  const { chain, end } = chainOf(bytes, from);
  const tornBytes = bytes.length - end;
  const aside = `${last}.torn-${end}-${chain.sequence}`;
  // A worker that ended before it had recorded them left these.
  const torn = await tornEnds(folder, aside);
  if (tornBytes > 0) {
    if (hasLaterGroup(bytes, end, chain.sequence + 1))
      throw new HpccError("audit.corrupt", `${last} is damaged at byte ${end}, with synced rows after it`);
    const file = torn.length === 0 ? aside : `${aside}-${torn.length}`;
    await writeFile(join(folder, file), bytes.subarray(end), { mode: 0o600, flush: true });
    await syncFolder(folder);
    await truncate(join(folder, last), end);
    torn.push({ bytes: tornBytes, file });
  }
  const handle = await open(join(folder, last), "r+");
  await handle.datasync();
  await syncFolder(folder);
  return { handle, size: end, chain, torn };
}

async function tornEnds(folder: string, aside: string): Promise<TornEnd[]> {
  const names = (await readdir(folder)).filter((name) => name === aside || name.startsWith(`${aside}-`));
  return Promise.all(names.sort().map(async (file) => ({ file, bytes: (await stat(join(folder, file))).size })));
}

/** Follows a segment's records from a state; null begins at whatever the first record says. */
function chainOf(bytes: Buffer, from: ChainState | null): { readonly chain: ChainState; readonly end: number } {
  let chain = from;
  let end = 0;
  for (let part = decodePart(bytes, 0); part !== null; part = decodePart(bytes, end)) {
    chain = followPart(chain, part);
    end = part.end;
  }
  if (from === null && end !== bytes.length)
    throw new HpccError("audit.corrupt", `an audit segment is damaged at byte ${end}`);
  return { chain: chain ?? CHAIN_START, end };
}
