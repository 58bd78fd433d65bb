// The road of a compile call: read, find a worker, make a job of it in the project's source form, let a tier answer, else compile here.
// Every call leaves by the one exit of its record. UNTRUSTED: the caller's argv and environment, the checkout's files, the worker's results.
import { randomUUID } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { ascii, type ByteString, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Semaphore } from "../../base/semaphore.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import type { CallCounts } from "../control/call-counts.ts";
import type { CallAnswer, LauncherCall } from "../control/launcher-connection.ts";
import type { InputCaches } from "../files-form/gather-inputs.ts";
import { prepareFiles } from "../files-form/prepare-files.ts";
import type { HeaderHints } from "../inputs/header-hints.ts";
import type { LocalUse } from "../local-use/local-use.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../project.ts";
import { isWorkersWord, type RemoteWorkers } from "../remote/remote-job.ts";
import { prepareText } from "../text-form/prepare-text.ts";
import { answerLocally, type LocalEnd } from "../tiers/local-tier.ts";
import type { Answered, TierEnd } from "../tiers/tier.ts";
import { WorkerTier } from "../tiers/worker-tier.ts";
import type { CallObserver } from "./answered-call.ts";
import type { Builds } from "./builds.ts";
import { CallRecord } from "./call-record.ts";
import { describedCall } from "./described-call.ts";
import { expandNative } from "./expand-native.ts";
import { joinAnswers } from "./join-answers.ts";
import type { LongWork } from "./long-work.ts";
import { takesPrefixMaps } from "./prefix-map-support.ts";
import type { PreparedCall } from "./prepared-call.ts";
import { parseCall, readCall } from "./read-call.ts";
import type { Remembered } from "./remembered.ts";
import type { PreparedJob } from "./remote-job.ts";
import { type Bypass, bypass, type Stage } from "./stage.ts";
import { askedFor, dependsOn, imageCompiler, keptAnswer } from "./told-call.ts";

export interface PipelineParts extends InputCaches {
  /** Null when nothing remote is configured. */
  readonly worker: RemoteWorkers | null;
  readonly counts: CallCounts;
  readonly headers: HeaderHints;
  /** Bounds the compiles that are prepared or sent at a time, and with them the daemon's memory. */
  readonly slots: Semaphore;
  /** Bounds the preprocessed text that calls hold, in bytes. */
  readonly textBytes: Semaphore;
  /** Calls whose outputs hold paths, by project, folder and words. */
  readonly ownPaths: Remembered<true>;
  /** Compilers by whether they take prefix maps. */
  readonly prefixMaps: Remembered<boolean>;
  /** What compilers said of this machine's processor. */
  readonly nativeWords: Remembered<ByteString>;
  /** Sources that a guest refused for a reason of their own, by digest. */
  readonly refusedSources: Remembered<Bypass>;
  /** Tells which build a call belongs to. */
  readonly builds: Builds;
  readonly longWork: LongWork;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of each call when it has its answer. */
  readonly observers: readonly CallObserver[];
  /** Keeps workers' results for observers; null when none are kept. */
  readonly store: LocalStore | null;
  /** Answers calls where no worker is configured; null when nothing is kept. */
  readonly local: Pick<LocalUse, "answerInImage"> | null;
}

interface Running {
  readonly call: LauncherCall;
  readonly project: Project;
  readonly compiler: ImageCompiler;
  readonly record: CallRecord;
  readonly parts: PipelineParts;
}

/** Answers a compile call of a project that is bound to an image. */
export async function answerCompileCall(
  call: LauncherCall,
  project: Project,
  compiler: ImageCompiler,
  parts: PipelineParts,
): Promise<CallAnswer> {
  const { counts, logger, clock } = parts;
  const record = new CallRecord({ counts, logger, startedMs: clock.monotonicMs() });
  const running: Running = { call, project, compiler, record, parts };
  const end = await endOf(running);
  if (call.signal.aborted) {
    record.end({ outcome: "cancelled", reason: null, detail: null }, clock.monotonicMs());
    throw new HpccError("job.cancelled", "the launcher left");
  }
  const isLocal = end.kind === "bypass" || end.end.outcome.startsWith("local");
  record.tier = isLocal ? "local" : "worker";
  const answered =
    end.kind === "answer"
      ? end
      : await answerLocally(call, await advised(running, end), {
          project,
          compiler,
          paths: await localPaths(running, end),
        });
  record.end(answered.end, clock.monotonicMs());
  if (parts.observers.length > 0) await tell(call, { project, record, parts, answered, kept: !isLocal });
  return answered.answer;
}

/** With what to do about a library that the image lacks. Nobody waits for that but who sits at a terminal. */
async function advised({ call: { message }, project, parts }: Running, end: Bypass): Promise<Bypass> {
  if (end.advice !== null || !message.argv.some((word) => word.startsWith("-l"))) return end;
  const advice = parts.headers.lookAtLink(message, (path) => project.imageFile(path));
  return message.terminal.stderr ? { ...end, advice: await advice } : end;
}

interface Told {
  readonly project: Project;
  readonly record: CallRecord;
  readonly parts: PipelineParts;
  readonly answered: LocalEnd;
  /** Whether the answer is a tier's, and may be given again. */
  readonly kept: boolean;
}

/** Tells observers of a call; whatever fails here costs the call nothing. */
async function tell({ message }: LauncherCall, { project, record, parts, answered, kept }: Told): Promise<void> {
  const { clock, store, logger, observers } = parts;
  const durationMs = clock.monotonicMs() - record.startedMs;
  try {
    const isKept = kept && store !== null && answered.answer.type === "outputs" && record.known.inputs !== undefined;
    const result = isKept ? await keptAnswer(answered.answer, store) : (record.known.result ?? null);
    const time = { message, project: project.root, startedMs: clock.wallMs() - durationMs, durationMs };
    const described = describedCall(time, {
      compiler: imageCompiler(project.imageDigest),
      ...record.known,
      ...answered.end,
      result,
    });
    for (const observer of observers) observer.answered(described);
  } catch (error) {
    logger.warn("call.not_told", { message: error instanceof Error ? error.message : String(error) });
  }
}

/** What the tiers before the local one come to; a fault is a reason, too. */
async function endOf(running: Running): Promise<Answered | Bypass> {
  try {
    return await remoteEnd(running);
  } catch (error) {
    return faultOf(error, running.parts.logger);
  }
}

function faultOf(error: unknown, logger: Logger): Bypass {
  if (error instanceof HpccError && error.code === "image.fetching")
    return bypass("image_fetching", byteStringOfText(error.message));
  if (error instanceof HpccError && (error.retryable || isWorkersWord(error))) {
    logger.warn("call.remote_failed", { code: error.code, message: error.message });
    return bypass(isWorkersWord(error) ? "remote_failed" : "remote_unavailable", byteStringOfText(error.message));
  }
  const message = error instanceof Error ? error.message : String(error);
  logger.error("call.failed", { message, stack: error instanceof Error ? error.stack : undefined });
  return bypass("internal_error", byteStringOfText(message));
}

async function remoteEnd(running: Running): Promise<Answered | Bypass> {
  const { call, project, compiler, parts } = running;
  const parsed = parseCall(call.message, compiler);
  if (parsed.kind === "bypass") return parsed;
  running.record.paths = await knownPaths(running, pathsOf(running, parsed.value));
  if (parsed.value.length === 1) running.record.known = askedFor(call.message, parsed.value[0]!);
  if (project.config.sourceForm === "text" && running.record.paths === "own")
    return bypass("unsupported_compiler_option", ascii("-ffile-prefix-map="));
  if (parts.worker === null && parts.local !== null && project.config.fallback !== "none")
    return locally(running, parts.local);
  if (parts.worker === null || !(await parts.worker.available(call.signal))) return bypass("remote_unavailable");
  const release = await parts.slots.take(call.signal);
  try {
    return await compileAll({ ...running, worker: parts.worker }, parsed.value);
  } finally {
    release();
  }
}

/** Out of the local store, or into it. */
async function locally(
  { call, project, compiler, record }: Running,
  local: Pick<LocalUse, "answerInImage">,
): Promise<Answered | Bypass> {
  const paths = record.paths ?? project.config.paths;
  const end = await local.answerInImage(call, { project, compiler, paths });
  Object.assign(record.known, end.known);
  if (end.kind === "bypass") return end;
  const { outcome, reason, detail } = end.known;
  return { kind: "answer", answer: end.answer, end: { outcome, reason, detail } };
}

/** Compiles each source; several answers become one, unless one of them is no success: then the local compiler has the last word. */
async function compileAll(
  running: Omit<Placed, "invocation" | "folder">,
  invocations: readonly GnuInvocation[],
): Promise<Answered | Bypass> {
  const { call, project } = running;
  const answers: Answered[] = [];
  for (const invocation of invocations) {
    const folder = `${project.callFolder}/${randomUUID()}` as ByteString;
    // The launcher copies large outputs out of the folder before it says that it is done.
    call.whenDone(() => rm(bytesOf(folder), { recursive: true, force: true }));
    // With the folder above, which a cleaner of temporary files may have taken away.
    await mkdir(bytesOf(folder), { recursive: true, mode: 0o700 });
    const end = await inPlaces({ ...running, invocation, folder });
    if (end.kind === "bypass") return end;
    answers.push(end);
  }
  return answers.length === 1 ? answers[0]! : joinAnswers(answers);
}

interface Placed extends Running {
  readonly invocation: GnuInvocation;
  readonly folder: ByteString;
  readonly worker: RemoteWorkers;
}

/** Where the project stands for a call, as far as that is known before it is compiled. */
function pathsOf(running: Running, invocations: readonly GnuInvocation[]): ProjectPlace["paths"] {
  const { config } = running.project;
  if (config.sourceForm === "text") return "shared";
  const needsOwn = invocations.some((one) => one.ownPaths || namesExtraRoot(running, one));
  const isOwn = config.paths === "own" || needsOwn || running.parts.ownPaths.get(callKey(running)) === true;
  return isOwn ? "own" : "shared";
}

/** At its own path where the compiler takes no prefix map. */
async function knownPaths(running: Running, paths: ProjectPlace["paths"]): Promise<ProjectPlace["paths"]> {
  return paths === "own" || (await takesPrefixMaps(running, running.parts.prefixMaps)) ? paths : "own";
}

/** Where the project stands for a compile here, also of a call that was not understood. */
async function localPaths(running: Running, { reason }: Bypass): Promise<ProjectPlace["paths"]> {
  const { record, project, parts } = running;
  const { paths } = project.config;
  if (record.paths !== null || reason === "compiler_query") return record.paths ?? paths;
  try {
    return await knownPaths(running, paths);
  } catch (error) {
    parts.logger.warn("call.not_asked", { message: error instanceof Error ? error.message : String(error) });
    return paths;
  }
}

/** What tells a call of a project from others. */
function callKey({ project, call: { message } }: Running): string {
  return JSON.stringify([project.imageDigest, project.root, message.cwd, message.argv]);
}

/** Compiles where checkouts share results, and again with the project at its own path where an output cannot be shared. */
async function inPlaces(placed: Placed): Promise<Answered | Bypass> {
  const { project, invocation, record, parts } = placed;
  const { own, shared } = project.places;
  const refused = bypass("guest_paths_in_output", invocation.output);
  if (record.paths !== "own") {
    const end = await inPlace(placed, shared);
    if (end.kind !== "own-paths" && !takesPrecompiled(placed, end)) return end;
    parts.ownPaths.set(callKey(placed), true);
    if (project.config.sourceForm === "text") return refused;
    record.paths = "own";
  }
  if (own === null) return refused;
  const end = await inPlace(placed, own);
  return end.kind === "own-paths" ? refused : end;
}

/** Whether a call left for a precompiled header that a guest can take with the project at its own path. */
function takesPrecompiled({ compiler, project }: Placed, end: TierEnd): boolean {
  const left = end.kind === "bypass" && end.reason === "could_not_use_precompiled_header";
  return left && project.config.sourceForm === "files" && grammarOf(compiler).habits.takesPrecompiled;
}

/** Whether debug information would name an extra root: no map reaches those, as each user has them elsewhere. */
function namesExtraRoot({ call, project }: Running, invocation: GnuInvocation): boolean {
  const [, ...extra] = project.places.shared.view.roots;
  const inExtra = (path: ByteString) => extra.some(({ host }) => path === host || path.startsWith(`${host}/`));
  const debug = invocation.arguments.some(({ words: [word = ""] }) => /^-g(?:$|[1-9a-z])/.test(word));
  return debug && (inExtra(call.message.cwd) || inExtra(invocation.source));
}

async function inPlace(placed: Placed, place: ProjectPlace): Promise<TierEnd> {
  const { call, project, compiler, folder, record, parts, worker } = placed;
  const expanded = await expandNative({ ...placed, place }, parts.nativeWords);
  if (expanded.kind === "bypass") return expanded;
  const request = readCall(call.message, expanded.value, project, place);
  if (request.kind === "bypass") return request;
  const prepared: PreparedCall = { call, project, compiler, request: request.value, place, folder };
  const job = await prepareJob(prepared, parts);
  if (job.kind === "bypass") return job;
  const { source, action } = job.value;
  if (parts.observers.length > 0 && record.known.source !== undefined)
    Object.assign(record.known, dependsOn(job.value, { message: call.message, project, place }));
  record.source = {
    form: project.config.sourceForm,
    digest: source.digest,
    sizeBytes: source.sizeBytes,
    keptList: job.value.keptList,
  };
  const key = JSON.stringify([source.digest, action.argv]);
  const refused = parts.refusedSources.get(key);
  if (refused !== undefined) return refused;
  const end = await new WorkerTier(worker, parts.builds, parts.longWork).answer({ prepared, job: job.value, record });
  if (end.kind === "bypass" && end.reason === "date_time_macro") parts.refusedSources.set(key, end);
  return end;
}

function prepareJob(prepared: PreparedCall, parts: PipelineParts): Promise<Stage<PreparedJob>> {
  switch (prepared.project.config.sourceForm) {
    case "files":
      return prepareFiles(prepared, parts);
    case "text":
      return prepareText(prepared, parts);
  }
}
