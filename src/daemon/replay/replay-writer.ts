// Makes replay records of answered calls, after the answer and beside the daemon's other work, so that the next such call needs no daemon.
// What cannot be proved is not recorded: the next call then comes here again. UNTRUSTED: paths and words are a checkout's.
import { randomUUID } from "node:crypto";
import { lstatSync, statSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import {
  encodeReplayRecord,
  type ReplayOutput,
  type ReplayRecord,
  replayName,
} from "../../wire/launcher/replay-record.ts";
import type { AnsweredCall, CallObserver, KeptOutput } from "../call/answered-call.ts";
import type { FolderNamesCache } from "../inputs/folder-names.ts";
import { RestlessFolders } from "./absent-names.ts";
import { absolutePath, gatherEvidence, pwdState, variable } from "./call-evidence.ts";
import { Evidence, look, stampOf } from "./evidence.ts";
import { RecordPruner } from "./record-pruner.ts";
import { recordPath } from "./replay-places.ts";

/** Kept files, just written, are looked at when a change of theirs would show. */
const SETTLE_MS = 150;
/** Calls that wait for their record; more are let go. */
const QUEUE_MAX = 512;
const RECORDS_MAX = 200_000;
const OFF_VALUES: ReadonlySet<string> = new Set(["0", "false"]);

export interface ReplayWriterOptions {
  /** Of records; made when it is missing. */
  readonly folder: string;
  /** Tells whether a kept file is whole. */
  readonly store: Pick<LocalStore, "find">;
  readonly names: Pick<FolderNamesCache, "read">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Files of hpcc's configuration outside of projects, which need not exist: a change of one makes records void. */
  readonly configurationFiles: readonly string[];
  /** The file of the program that decides what a call means; a new release makes records void. */
  readonly program: string | null;
  /** Of all records together. */
  readonly bytesMax: number;
}

export interface ReplayWriterCounts {
  readonly written: number;
  /** Calls without a record, by why. */
  readonly refused: Readonly<Record<string, number>>;
}

interface Waiting {
  readonly call: AnsweredCall;
  readonly dueMs: number;
}

export class ReplayWriter implements CallObserver {
  readonly #options: ReplayWriterOptions;
  readonly #pruner: RecordPruner;
  readonly #mountNamespace = statSync("/proc/self/ns/mnt", { bigint: true });
  readonly #restless = new RestlessFolders();
  readonly #queue: Waiting[] = [];
  readonly #refused = new Map<string, number>();
  #written = 0;
  #timer: Timer | null = null;
  #work: Promise<void> | null = null;

  constructor(options: ReplayWriterOptions) {
    this.#options = options;
    this.#pruner = new RecordPruner({
      folder: options.folder,
      clock: options.clock,
      recordsMax: RECORDS_MAX,
      bytesMax: options.bytesMax,
    });
  }

  get counts(): ReplayWriterCounts {
    return { written: this.#written, refused: Object.fromEntries(this.#refused) };
  }

  answered(call: AnsweredCall): void {
    const why = this.#notEvenTried(call);
    if (why !== null) return this.#refuse(why);
    this.#queue.push({ call, dueMs: this.#options.clock.wallMs() + SETTLE_MS });
    this.#schedule();
  }

  /** Resolves when no call is being recorded. */
  async settled(): Promise<void> {
    while (this.#work !== null) await this.#work;
  }

  /** Lets go of calls that wait. */
  async close(): Promise<void> {
    this.#queue.length = 0;
    this.#timer?.cancel();
    await this.settled();
  }

  #notEvenTried(call: AnsweredCall): string | null {
    const { message, result, reason } = call;
    if (result === null || reason !== null) return "no_result";
    if (result.outputs.some(({ path }) => path === null)) return "not_kept_here";
    if (OFF_VALUES.has(variable(message, "HPCC_REPLAY") ?? "")) return "off";
    const { dev, ino } = message.mountNamespace;
    if (dev !== this.#mountNamespace.dev || ino !== this.#mountNamespace.ino) return "mount_namespace";
    if (this.#queue.length >= QUEUE_MAX) return "busy";
    return null;
  }

  #refuse(why: string): void {
    this.#refused.set(why, (this.#refused.get(why) ?? 0) + 1);
    this.#options.logger.debug("replay.not_recorded", { why });
  }

  #schedule(): void {
    if (this.#timer !== null || this.#work !== null || this.#queue.length === 0) return;
    const delayMs = Math.max(0, this.#queue[0]!.dueMs - this.#options.clock.wallMs());
    this.#timer = this.#options.clock.after(delayMs, () => {
      this.#timer = null;
      this.#work = this.#recordDue().finally(() => {
        this.#work = null;
        this.#schedule();
      });
    });
  }

  /** One after another, each in a turn of its own: other calls are answered between them. */
  async #recordDue(): Promise<void> {
    for (;;) {
      const next = this.#queue[0];
      if (next === undefined || next.dueMs > this.#options.clock.wallMs()) return;
      this.#queue.shift();
      await this.#record(next.call).catch((error: unknown) => {
        this.#refuse(error instanceof HpccError && error.code === "peer.protocol" ? "too_large" : "failed");
        this.#options.logger.debug("replay.failed", { error: String(error) });
      });
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async #record(call: AnsweredCall): Promise<void> {
    const record = await this.#recordOf(call);
    if (typeof record === "string") return this.#refuse(record);
    const bytes = encodeReplayRecord(record);
    const path = recordPath(this.#options.folder, record.name);
    const temporary = `${path}.${randomUUID()}.tmp`;
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    try {
      await writeFile(temporary, bytes, { mode: 0o600, flag: "wx" });
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    this.#written++;
    await this.#pruner.wrote(bytes.length);
  }

  async #isWhole({ digest, kept }: ReplayOutput): Promise<boolean> {
    const found = await this.#options.store.find(digest);
    const after = look(kept.path, lstatSync);
    return (
      found?.path === kept.path && after !== null && after !== "doubt" && isDeepStrictEqual(stampOf(after), kept.stamp)
    );
  }

  /** The record, or why there is none. */
  async #recordOf(call: AnsweredCall): Promise<ReplayRecord | string> {
    const { message, source, output, result } = call;
    if (result === null || source === null || output === null) return "not_understood";
    const { clock, configurationFiles, program, names } = this.#options;
    const nowMs = clock.wallMs();
    const evidence = new Evidence({ startedMs: call.startedMs, nowMs });
    // First: what makes the name must not have changed when the evidence is seen.
    const pwd = pwdState(message);
    gatherEvidence(call, evidence, { configurationFiles, program, nowMs, names, restless: this.#restless });
    const outputs = result.outputs.map((kept) => keptOutput(kept, call, evidence));
    if (evidence.doubt !== null) return evidence.doubt;
    // A file that was damaged since it was kept must not become the truth: what is stamped is what is whole.
    for (const output of outputs) if (output !== null && !(await this.#isWhole(output))) return "damaged";
    if (pwdState(message) !== pwd) return "pwd";
    return {
      name: replayName({
        ...message,
        user: process.geteuid?.() ?? 0,
        groups: [...(process.getgroups?.() ?? []), process.getegid?.() ?? 0],
        pwd,
      }),
      recordedMs: nowMs,
      stamps: evidence.stamps,
      absent: evidence.absent,
      places: evidence.places,
      outputs: outputs.filter((kept) => kept !== null),
      stdout: result.stdout,
      stderr: result.stderr,
      project: call.project,
      source,
      output,
      call: call.callDigest,
    };
  }
}

/** An output with its kept file as it is now; a doubt where it is an input too, or its file may still change unseen. */
function keptOutput(kept: KeptOutput, call: AnsweredCall, evidence: Evidence): ReplayOutput | null {
  const { message, inputs } = call;
  const destination = absolutePath(message.cwd, kept.destination);
  const there = look(destination);
  const isInput = ({ path, stamp }: AnsweredCall["inputs"][number]) =>
    path === destination || (there !== null && there !== "doubt" && stamp.dev === there.dev && stamp.ino === there.ino);
  if (inputs.some(isInput)) evidence.refuse("output_is_input");
  const found = kept.path === null ? null : look(kept.path, lstatSync);
  if (kept.path === null || found === null || found === "doubt" || !found.isFile()) {
    evidence.refuse("evicted");
    return null;
  }
  const stamp = stampOf(found);
  if (!evidence.isSettledNow(stamp)) evidence.refuse("kept_racy");
  const { destination: spelled, executable, manner, digest } = kept;
  return { destination: spelled, kept: { path: kept.path, stamp }, executable, manner, digest };
}
