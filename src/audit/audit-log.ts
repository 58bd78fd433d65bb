// The audit log of one worker, append only. `append` resolves when the row is durable; rows that wait are written and synced
// together. After a failed sync nothing more is taken: what the disk holds is then unknown.
import type { FileHandle } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { type NoteSigner, type NoteVerifier, parseVerifier } from "../core/note/signed-note.ts";
import { encodeBody, placedEnvelope } from "./envelope.ts";
import { LOG_DISK, type LogDisk } from "./log-disk.ts";
import { createSegment, type LogEnd, openEnd, syncFolder, type TornEnd } from "./log-end.ts";
import { LogTree, readLogKey, type TreeDisk, writeLogKey } from "./log-tree.ts";
import { type AuditRow, emptyRow, encodeRow, rowDigest } from "./row.ts";
import type { EnvelopeBody } from "./rows/bodies.ts";
import { checkColumns } from "./rows/columns.ts";
import { type ChainState, encodeRecord, RECORD_BYTES_MAX } from "./segment.ts";

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
  /** Is told when the log's checkpoint was replaced. */
  readonly published?: () => void;
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
  readonly #tree: LogTree | null;
  #failure: HpccError | null = null;
  #running: Promise<void> | null = null;

  private constructor(options: AuditLogOptions, end: LogEnd, tree: LogTree | null) {
    this.#options = options;
    this.#tree = tree;
    this.#disk = options.disk ?? LOG_DISK;
    this.#segment = { handle: end.handle, size: end.size };
    this.#chain = end.chain;
  }

  /** Opens or makes the log of a folder. A torn end is set aside and recorded; other damage throws `audit.corrupt`. */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const { folder, signer, disk = LOG_DISK } = options;
    let opened: OpenedTree = { tree: null, before: null };
    const end = await named(`cannot open the audit log ${folder}`, async () =>
      openEnd(folder, disk, async (chain, said) => {
        if (signer === undefined) return refuseSigned(folder, said);
        opened = await named("the audit log's tiles cannot be made again", () =>
          openTree(options, { signer, chain, said }),
        );
      }),
    );
    const { tree, before } = opened;
    const log = new AuditLog(options, end, tree);
    try {
      await log.#recordStart(end.torn, before);
      if (signer !== undefined) await named("the audit log's key cannot be written", () => log.#keepKey(signer));
      await named("the audit log cannot be signed", async () => log.#tree?.begin());
    } catch (error) {
      log.#tree?.abandon();
      await log.#segment.handle.close();
      throw error;
    }
    return log;
  }

  /** Why the log takes nothing more; null while it does. */
  get failure(): HpccError | null {
    return this.#failure;
  }

  /** With what the log is signed; null for one that is not. */
  get signer(): NoteSigner | null {
    return this.#options.signer ?? null;
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

  /** Makes tiles again that are lost or damaged. Throws `audit.corrupt` where the rows are not those that were signed. */
  async mendTiles(): Promise<void> {
    await this.#tree?.mend();
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
      if (this.#failure !== null) throw this.#failure;
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
    const { folder, logger } = this.#options;
    const handle = await createSegment(folder, firstSequence);
    try {
      await syncFolder(folder);
    } catch (error) {
      await handle.close();
      throw this.#fail("the audit log's folder cannot be synced", error);
    }
    const old = this.#segment.handle;
    this.#segment = { handle, size: 0 };
    this.#segmentEnds = false;
    // All that it holds is synced.
    await old.close().catch((error: unknown) => logger.warn("audit.log.close_failed", { error: String(error) }));
  }

  /**
   * The first row says the log's key, and a row each other one, before any row that is signed with it. Rows about torn ends follow;
   * all are written together.
   */
  async #recordStart(torn: readonly TornEnd[], before: NoteVerifier | null): Promise<void> {
    const { clock, worker, logger, signer } = this.#options;
    const now = clock.wallMs();
    const log = { kind: "log", startMs: now, endMs: now } as const;
    const bodies: EnvelopeBody[] = [];
    const key = signer?.verifier.text;
    if (key !== undefined && key !== before?.text)
      bodies.push({ ...log, event: "key", key, before: before?.text ?? null });
    for (const { bytes, file } of torn) {
      logger.error("audit.log.torn", { bytes, file });
      bodies.push({ ...log, event: "torn", bytes, file });
    }
    await Promise.all(bodies.map(async (body) => this.append(emptyRow(worker), body)));
  }

  /** Puts the key beside the log, which names it already. */
  async #keepKey({ verifier }: NoteSigner): Promise<void> {
    const { folder } = this.#options;
    if ((await readLogKey(folder))?.text !== verifier.text) await writeLogKey(folder, verifier);
  }
}

interface OpenedTree {
  readonly tree: LogTree | null;
  /** The key under which the log was signed until now. */
  readonly before: NoteVerifier | null;
}

interface KnownEnd {
  readonly signer: NoteSigner;
  readonly chain: ChainState;
  /** The newest key that its rows say. */
  readonly said: string | null;
}

/** A log that was signed once takes no row that nobody signs. */
async function refuseSigned(folder: string, said: string | null): Promise<void> {
  if (said === null && (await readLogKey(folder)) === null) return;
  throw new HpccError("argument.invalid", `the state folder of ${folder} has no key of the log, which signs each row`, {
    hint: "Only the log of a worker can be written, where the worker's state is; a copy can be read.",
  });
}

async function openTree(options: AuditLogOptions, { signer, chain, said }: KnownEnd): Promise<OpenedTree> {
  const { folder, clock, logger, treeDisk, published } = options;
  // A start that ended early has recorded a key that is not in its file yet.
  const before = said === null ? await readLogKey(folder) : parseVerifier(said);
  const tree = await LogTree.open(
    {
      folder,
      signer,
      before,
      clock,
      logger,
      ...(treeDisk && { disk: treeDisk }),
      ...(published && { published }),
    },
    chain,
  );
  return { tree, before };
}

/** Runs it; what fails without a name of its own is `audit.io`. */
async function named<T>(problem: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw error instanceof HpccError ? error : new HpccError("audit.io", problem, { cause: error });
  }
}
