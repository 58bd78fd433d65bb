// The road of a call that no image is bound to: look it up in the local store, else compile in place with the caller's own compiler and keep
// what came of it. What cannot be kept runs as it is. UNTRUSTED: the caller's argv and environment, the checkout's files.
import { randomUUID } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { ascii, type ByteString, byteStringOfText, bytesOf, displayText } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { findProjectRoot } from "../../config/project-root.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import type { Content, OutputsMessage } from "../../wire/launcher/messages.ts";
import type { AnsweredCall, CallObserver } from "../call/answered-call.ts";
import { describedCall } from "../call/described-call.ts";
import { realPath } from "../call/real-path.ts";
import { Remembered } from "../call/remembered.ts";
import { type Bypass, bypass, type Stage } from "../call/stage.ts";
import type { CallCounts } from "../control/call-counts.ts";
import type { CallAnswer, LauncherCall } from "../control/launcher-connection.ts";
import type { FolderNamesCache } from "../inputs/folder-names.ts";
import type { HeaderHints } from "../inputs/header-hints.ts";
import type { FolderIdentities } from "../inputs/steady-places.ts";
import { hostAnswer, type LocalCompile } from "../tiers/local-answer.ts";
import { calledByItself } from "./called-by-itself.ts";
import { type CompiledInPlace, compileInPlace } from "./compile-in-place.ts";
import { FileDigests } from "./file-digests.ts";
import { TextScans } from "./find-inputs.ts";
import { HostCompilers } from "./host-compilers.ts";
import { ImageFolders, imageCall } from "./image-call.ts";
import { FlightsOfOutputs } from "./in-flight.ts";
import { type KeptCall, keepResult } from "./keep-result.ts";
import { existing, type KeyedCall, keyedCall } from "./keyed-call.ts";
import { type LocalHit, lookUp, readVariants } from "./look-up.ts";
import { guessFamily, keysOnTerminal, readLocalCall } from "./read-local-call.ts";
import { behindScripts, unwrapped } from "./unwrapped-call.ts";
import { OutputsBefore, possibleOutputs } from "./written-outputs.ts";

export interface LocalUseParts {
  readonly store: LocalStore;
  readonly names: FolderNamesCache;
  readonly folders: FolderIdentities;
  readonly counts: CallCounts;
  readonly headers: Pick<HeaderHints, "look">;
  readonly observers: readonly CallObserver[];
  /** Host path of the folder with the folders of calls. */
  readonly callFolder: ByteString;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What became of a call that was answered here, and what is known of it. */
export interface LocalEnd {
  readonly kind: "answer";
  readonly answer: OutputsMessage;
  readonly known: KnownEnd;
}

type KnownEnd = Pick<AnsweredCall, "outcome" | "reason" | "detail"> & Partial<AnsweredCall>;

/** The call runs as it is; what is known of it all the same. */
interface Left extends Bypass {
  readonly known: Partial<AnsweredCall>;
}

const INLINE_BYTES_MAX = 256 * 1024;
const FAMILIES_MAX = 256;
const BUSY_FOLDERS_MAX = 8;
/** Texts name templates of temporary files there, which a macro may make names of. */
const TEMPORARY = ascii("/tmp");
/** A folder that takes more room than this has too many names to be looked at each time. */
const BUSY_FOLDER_BYTES_MAX = 256 * 1024;

export class LocalUse {
  readonly #parts: LocalUseParts;
  readonly #files: FileDigests;
  readonly #scans = new TextScans();
  readonly #compilers = new HostCompilers();
  readonly #imageFolders = new ImageFolders();
  readonly #flights = new FlightsOfOutputs();
  /** Families of compilers by path, where a name says something else. */
  readonly #families = new Remembered<CompilerFamily>(FAMILIES_MAX);
  /** Folders that are looked at before a compile, as one sought a name in vain where others come and go. Newest first. */
  #busyFolders: readonly ByteString[] = [TEMPORARY];

  constructor(parts: LocalUseParts) {
    this.#parts = parts;
    this.#files = new FileDigests(parts.clock);
  }

  async answer(call: LauncherCall): Promise<CallAnswer> {
    const { clock, counts, observers } = this.#parts;
    const startedMs = clock.wallMs();
    const began = clock.monotonicMs();
    const project = projectOf(call.message.cwd);
    const called = calledByItself(call);
    const end = await this.#end(called, () => this.#keyed(called, project));
    const answer = end.kind === "answer" ? end.answer : hostAnswer(null);
    const known = end.kind === "answer" ? end.known : { ...end.known, ...leftAs("host", end) };
    if (call.signal.aborted) {
      counts.count("cancelled");
      throw new HpccError("job.cancelled", "the launcher left");
    }
    counts.count(known.outcome, known.reason);
    this.#parts.logger.debug("call.ended", {
      outcome: known.outcome,
      reason: known.reason ?? undefined,
      detail: known.detail === null ? undefined : displayText(known.detail),
      duration_ms: Math.round(clock.monotonicMs() - began),
    });
    const durationMs = clock.monotonicMs() - began;
    const answered = describedCall({ message: call.message, project, startedMs, durationMs }, known);
    for (const observer of observers) observer.answered(answered);
    return answer;
  }

  /** The same for a call of an image's compiler, which runs in its namespace; counted and told by whoever asks. */
  async answerInImage(call: LauncherCall, compile: LocalCompile): Promise<LocalEnd | Left> {
    const folders = this.#imageFolders;
    const end = await this.#end(call, async () =>
      imageCall({ call, compile, folders, folder: await this.#folder(call) }),
    );
    if (end.kind === "bypass" || end.known.outcome !== "host") return end;
    return { ...end, known: { ...end.known, outcome: "local" } };
  }

  async #end(call: LauncherCall, read: () => Promise<Stage<KeyedCall>>): Promise<LocalEnd | Left> {
    let known: Partial<AnsweredCall> = {};
    try {
      const keyed = await read();
      if (keyed.kind === "bypass") return { ...keyed, known };
      known = keyed.value.known;
      const end = await this.#answerKeyed(call, keyed.value);
      return end.kind === "bypass" ? { ...end, known } : end;
    } catch (error) {
      if (call.signal.aborted) return { ...bypass("internal_error"), known };
      return { ...this.#fault(error, "local.failed"), known };
    }
  }

  /** Reads a call and asks its compiler who it is. */
  async #keyed(called: LauncherCall, project: ByteString | null): Promise<Stage<KeyedCall>> {
    if (called.message.hostCompiler === null) return bypass("unknown_compiler", called.message.argv[0]);
    const { call, scripts } = unwrapped(called, this.#files);
    const { message } = call;
    const path = message.hostCompiler!;
    const family = this.#families.get(path) ?? guessFamily(path);
    const read = readLocalCall(message, family);
    if (read.kind === "bypass") return read;
    const folder = await this.#folder(call);
    const { invocation, environment } = read.value;
    const compiler = await this.#compilers.find({ call, invocation, environment, folder });
    if (compiler.kind === "bypass") return compiler;
    if (compiler.value.family !== family) {
      this.#families.set(path, compiler.value.family);
      return this.#keyed(called, project);
    }
    const known = behindScripts(compiler.value, scripts);
    return keyedCall({ message: called.message, call: read.value, compiler: known, project, folder });
  }

  async #folder(call: LauncherCall): Promise<ByteString> {
    const folder = `${this.#parts.callFolder}/${randomUUID()}` as ByteString;
    call.whenDone(() => rm(bytesOf(folder), { recursive: true, force: true }));
    await mkdir(bytesOf(folder), { recursive: true, mode: 0o700 });
    return folder;
  }

  async #answerKeyed(call: LauncherCall, keyed: KeyedCall): Promise<LocalEnd | Bypass> {
    const { message } = call;
    const flight = this.#flights.begin(possibleOutputs(keyed).map(({ path }) => path));
    call.whenDone(async () => flight.end());
    const spoken = message.terminal.stderr ? keysOnTerminal(keyed.keys, message) : [];
    for (const key of [...keyed.keys, ...spoken]) {
      const seen = keyed.seen(this.#parts.names);
      const hit = await lookUp(await readVariants(key, this.#lookUpParts), seen, this.#lookUpParts);
      if (hit === null) continue;
      // What was said to no terminal looks otherwise on one.
      if (message.terminal.stderr && hit.variant.stderr.length > 0 && !spoken.includes(key)) continue;
      return { kind: "answer", answer: hitAnswer(hit), known: { ...keyed.known, ...hitKnown(hit, key, keyed) } };
    }
    return this.#compile(call, keyed, flight);
  }

  get #lookUpParts() {
    return { store: this.#parts.store, files: this.#files, logger: this.#parts.logger };
  }

  async #compile(
    call: LauncherCall,
    keyed: KeyedCall,
    flight: { readonly disturbed: boolean },
  ): Promise<LocalEnd | Bypass> {
    const { names, folders, clock, store, logger } = this.#parts;
    const steady = keyed.placesBefore(folders, names);
    steady.note(this.#busyFolders.filter(isSmallFolder));
    const startedMs = clock.wallMs();
    const before = new OutputsBefore(possibleOutputs(keyed), startedMs);
    const ran = await compileInPlace(call, keyed);
    if (ran.kind === "bypass") return ran;
    const compiled = ran.value;
    const isSpoken = call.message.terminal.stderr && compiled.stderr.length > 0;
    const keys = isSpoken ? keysOnTerminal(keyed.keys, call.message) : keyed.keys;
    const answer: OutputsMessage = {
      type: "outputs",
      exitCode: compiled.exitCode,
      stdout: said(compiled.stdout, `${keyed.folder}/stdout` as ByteString),
      stderr: said(await this.#advised(call, keyed, compiled), `${keyed.folder}/stderr` as ByteString),
      files: [],
    };
    const parts = { store, files: this.#files, scans: this.#scans, names, logger };
    const kept = await this.#kept(() =>
      keepResult({ keyed: { ...keyed, keys }, compiled, before, steady, startedMs, flight }, parts),
    );
    if (kept.kind === "bypass" && kept.reason === "modified_input_file" && kept.detail !== null)
      this.#learnFolder(kept.detail);
    return { kind: "answer", answer, known: { ...keyed.known, ...keptKnown(kept) } };
  }

  /** What a compile said, with what to do about a header that the image lacks before it on a terminal: programs get its own words alone. */
  async #advised(
    { message }: LauncherCall,
    keyed: KeyedCall,
    { exitCode, stderr }: CompiledInPlace,
  ): Promise<Uint8Array> {
    if (exitCode === 0 || keyed.command.namespace === null) return stderr;
    const advice = this.#parts.headers.look(`${keyed.folder}/stderr` as ByteString);
    if (!message.terminal.stderr || stderr.length > INLINE_BYTES_MAX / 2) return stderr;
    const line = await advice;
    return line === null ? stderr : Buffer.concat([Buffer.from(`hpcc: ${line}\n`), stderr]);
  }

  #learnFolder(moved: ByteString): void {
    if (!moved.startsWith("/")) return;
    const { folder } = existing(moved.slice(0, moved.lastIndexOf("/")) as ByteString);
    const others = this.#busyFolders.filter((known) => known !== folder);
    this.#busyFolders = [folder, ...others].slice(0, BUSY_FOLDERS_MAX);
  }

  /** A store that fails costs a compile later and nothing now. */
  async #kept(keep: () => Promise<Stage<KeptCall>>): Promise<Stage<KeptCall>> {
    try {
      return await keep();
    } catch (error) {
      return this.#fault(error, "local.not_kept");
    }
  }

  #fault(error: unknown, event: string): Bypass {
    const { logger } = this.#parts;
    const message = error instanceof Error ? error.message : String(error);
    if (isOfStorage(error)) {
      logger.warn(event, { message });
      return bypass("storage_unavailable", byteStringOfText(message));
    }
    logger.error(event, { message, stack: error instanceof Error ? error.stack : undefined });
    return bypass("internal_error", byteStringOfText(message));
  }
}

/** What the system says where a disk is full, a folder is gone or may not be used, or files cannot be opened. */
const STORAGE_FAULTS = new Set([
  "ENOSPC",
  "EDQUOT",
  "EACCES",
  "EPERM",
  "EROFS",
  "ENOENT",
  "ENOTDIR",
  "EIO",
  "EMFILE",
  "ENFILE",
]);

function isOfStorage(error: unknown): boolean {
  if (error instanceof HpccError) return error.code === "store.io";
  return STORAGE_FAULTS.has((error as NodeJS.ErrnoException).code ?? "");
}

function leftAs(outcome: "host", { reason, detail }: Bypass) {
  return { outcome, reason, detail };
}

function isSmallFolder(path: ByteString): boolean {
  const stat = statSync(bytesOf(path), { throwIfNoEntry: false });
  return stat?.isDirectory() === true && stat.size <= BUSY_FOLDER_BYTES_MAX;
}

function hitAnswer({ variant, outputs }: LocalHit): OutputsMessage {
  return {
    type: "outputs",
    exitCode: 0,
    stdout: variant.stdout.length === 0 ? null : { kind: "inline", bytes: variant.stdout },
    stderr: variant.stderr.length === 0 ? null : { kind: "inline", bytes: variant.stderr },
    files: outputs.map(({ destination, path, executable, manner }) => ({
      destination,
      content: { kind: "file", path: path! },
      executable,
      manner,
    })),
  };
}

function hitKnown({ variant, inputs, outputs }: LocalHit, key: KeyedCall["keys"][number], keyed: KeyedCall) {
  return {
    outcome: "local_hit",
    reason: null,
    detail: null,
    callDigest: key,
    ...keyed.placed(inputs, variant.absent),
    result: { stdout: variant.stdout, stderr: variant.stderr, outputs },
  } as const;
}

function keptKnown(kept: Stage<KeptCall>): KnownEnd {
  if (kept.kind === "bypass") return { outcome: "host", reason: kept.reason, detail: kept.detail };
  return { outcome: "local_compiled", reason: null, detail: null, ...kept.value };
}

function said(bytes: Uint8Array, path: ByteString): Content | null {
  if (bytes.length === 0) return null;
  return bytes.length > INLINE_BYTES_MAX ? { kind: "file", path } : { kind: "inline", bytes };
}

function projectOf(cwd: ByteString): ByteString | null {
  return findProjectRoot(realPath(cwd), (path) => existsSync(bytesOf(path)));
}
