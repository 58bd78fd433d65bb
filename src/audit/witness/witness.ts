// A witness (C2SP tlog-witness): signs what it has seen of logs, never two that disagree. What it knows of a log is durable before it
// answers; its memory of each is one file, the newest checkpoint with the log's signature and its own.
import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { type FileLock, tryLock } from "../../base/system/file-lock.ts";
import { EMPTY_ROOT } from "../../core/merkle/hashes.ts";
import { equal, isConsistent, type TreeHead } from "../../core/merkle/proof.ts";
import { openCheckpoint, readCheckpoint } from "../../core/note/checkpoint.ts";
import { cosign } from "../../core/note/cosignature.ts";
import { type NoteSigner, type NoteVerifier, readNote } from "../../core/note/signed-note.ts";
import { syncFolder } from "../log-end.ts";
import { type AddCheckpoint, decodeAddCheckpoint } from "./add-checkpoint.ts";

export interface WitnessOptions {
  /** Its state folder. */
  readonly folder: string;
  readonly signer: NoteSigner;
  /** Keys of the logs that it witnesses; a log whose key was changed has several. */
  readonly logs: readonly NoteVerifier[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An answer of HTTP. */
export interface WitnessAnswer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly type: "text/plain" | "text/x.tlog.size";
  readonly body: string;
}

const NOTHING: TreeHead = { size: 0, root: EMPTY_ROOT };

export class Witness {
  readonly #options: WitnessOptions;
  readonly #folder: string;
  /** Of its state folder: two that know different things would sign two histories with one key. */
  readonly #lock: FileLock;
  /** One request at a time for each log: what is compared must still be so when it is written. */
  readonly #turns = new Map<string, Promise<unknown>>();

  private constructor(options: WitnessOptions, lock: FileLock) {
    this.#options = options;
    this.#lock = lock;
    this.#folder = join(options.folder, "logs");
  }

  /**
   * Throws `audit.corrupt` when what it knows of a log is damaged: without it it would sign anything. Throws `config.invalid` while another
   * witness has the folder.
   */
  static async open(options: WitnessOptions): Promise<Witness> {
    await mkdir(join(options.folder, "logs"), { recursive: true, mode: 0o700 });
    const witness = new Witness(options, hold(options.folder));
    try {
      await syncFolder(options.folder);
      for (const { name } of options.logs) await witness.#known(name);
      return witness;
    } catch (error) {
      witness[Symbol.dispose]();
      throw error;
    }
  }

  /** Lets its folder go; nobody may ask it anything any more. */
  [Symbol.dispose](): void {
    this.#lock.release();
  }

  /** Judges a request. Throws `audit.io` when what it has seen cannot be kept. UNTRUSTED: anybody who reaches the witness. */
  async addCheckpoint(body: string): Promise<WitnessAnswer> {
    let request: AddCheckpoint;
    let head: ReturnType<typeof readCheckpoint>;
    try {
      request = decodeAddCheckpoint(body);
      head = readCheckpoint(request.checkpoint);
      readNote(request.checkpoint);
    } catch (error) {
      return refusal(400, error);
    }
    const keys = this.#options.logs.filter(({ name }) => name === head.origin);
    if (keys.length === 0) return refusal(404, "this witness does not know the log");
    try {
      openCheckpoint(request.checkpoint, keys);
    } catch (error) {
      return refusal(403, error);
    }
    if (request.oldSize > head.size) return refusal(400, "the old size is larger than the checkpoint's");
    const turn = (this.#turns.get(head.origin) ?? Promise.resolve())
      .catch(() => undefined)
      .then(async () => this.#judge(head.origin, head, request));
    this.#turns.set(head.origin, turn);
    return turn;
  }

  async #judge(origin: string, head: TreeHead, { oldSize, proof, checkpoint }: AddCheckpoint): Promise<WitnessAnswer> {
    const { logger, signer, clock } = this.#options;
    const known = await this.#known(origin);
    if (oldSize !== (known?.size ?? 0)) return { status: 409, type: "text/x.tlog.size", body: `${known?.size ?? 0}\n` };
    if (known !== null && known.size === head.size && !equal(known.root, head.root)) {
      logger.error("witness.log.forked", { origin, size: head.size });
      return { status: 409, type: "text/x.tlog.size", body: `${known.size}\n` };
    }
    const consistent = isConsistent(known ?? NOTHING, head, proof) && (head.size > 0 || equal(head.root, EMPTY_ROOT));
    if (!consistent) {
      logger.error("witness.log.inconsistent", { origin, oldSize, size: head.size });
      return refusal(422, "the proof does not show that the log only grew");
    }
    const line = cosign(checkpoint, signer, clock.wallMs());
    await this.#keep(origin, `${ownPart(checkpoint, this.#options.logs)}${line}`);
    logger.info("witness.cosigned", { origin, size: head.size });
    return { status: 200, type: "text/plain", body: line };
  }

  /** What it has signed of a log last; null for nothing. */
  async #known(origin: string): Promise<TreeHead | null> {
    const path = this.#pathOf(origin);
    let note: string;
    try {
      note = await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new HpccError("audit.io", `what the witness knows of ${origin} cannot be read`, { cause: error });
    }
    const head = readCheckpoint(note);
    readNote(note);
    if (head.origin !== origin) throw new HpccError("audit.corrupt", `${path} is about another log than ${origin}`);
    return head;
  }

  async #keep(origin: string, note: string): Promise<void> {
    const path = this.#pathOf(origin);
    try {
      const handle = await open(`${path}.new`, "w", 0o600);
      try {
        await handle.writeFile(note);
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(`${path}.new`, path);
      await syncFolder(this.#folder);
    } catch (error) {
      throw new HpccError("audit.io", `what the witness has seen of ${origin} cannot be kept`, { cause: error });
    }
  }

  #pathOf(origin: string): string {
    return join(this.#folder, createHash("sha256").update(origin).digest("hex"));
  }
}

function hold(folder: string): FileLock {
  let lock: FileLock | null;
  try {
    lock = tryLock(join(folder, "lock"));
  } catch (error) {
    throw new HpccError("audit.io", `the witness's folder ${folder} cannot be locked`, { cause: error });
  }
  if (lock !== null) return lock;
  throw new HpccError("config.invalid", `another witness runs on ${folder}`, {
    hint: "End it, or give each witness a state_dir and a key of its own.",
  });
}

/** The note with the signatures of known keys alone: what else a request brings is not kept. */
function ownPart(note: string, keys: readonly NoteVerifier[]): string {
  const { text, signatures } = readNote(note);
  const own = signatures.filter(({ name, bytes }) =>
    keys.some((key) => key.name === name && key.id.equals(bytes.subarray(0, 4))),
  );
  return `${text}\n${own.map(({ name, bytes }) => `\u2014 ${name} ${bytes.toString("base64")}\n`).join("")}`;
}

function refusal(status: 400 | 403 | 404 | 422, why: unknown): WitnessAnswer {
  return { status, type: "text/plain", body: `${why instanceof HpccError ? why.message : String(why)}\n` };
}
