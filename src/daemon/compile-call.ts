// What a call means, from arguments to answer (ARCHITECTURE.md, "the life of one compile", steps 2 to 5 and 8). Every way out
// is an answer: a compile on a worker, the image's compiler here with a counted reason, or a refusal where policy forbids that.
// UNTRUSTED: the caller's argv and environment, the checkout's files, the worker's results.
import { randomUUID } from "node:crypto";
import { statSync } from "node:fs";
import { mkdir, readFile, rm, stat } from "node:fs/promises";
import { ascii, type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Semaphore } from "../base/semaphore.ts";
import { type Action, sortEnvironment } from "../core/action/action.ts";
import type { BypassReason } from "../core/compile/bypass-reasons.ts";
import { stepEnvironment } from "../core/compile/grammar/environment.ts";
import { mentionsIncbin } from "../core/compile/text/code-directives.ts";
import { type Rebuilt, rebuildTranslationUnit } from "../core/compile/text/rebuild.ts";
import { compileArgv, injectedFlags, preprocessArgv } from "../core/compile/text/two-step.ts";
import { diagnosticsRefusal, mapDiagnostics } from "../core/compile/view/diagnostics.ts";
import { CALL_FILES, OUTPUT_FOLDER, toHostPath } from "../core/compile/view/view.ts";
import type { OutputFile, OutputsMessage } from "../wire/launcher/messages.ts";
import { Bypass } from "./bypass.ts";
import type { CallCounts, CallOutcome } from "./call-counts.ts";
import { type CallRequest, hostDependencies, includeSearch, readCall } from "./call-request.ts";
import type { FileCache } from "./file-cache.ts";
import { escapingLookup, type FolderLinks, precompiledHeader } from "./include-lookups.ts";
import type { CallAnswer, LauncherCall } from "./launcher-connection.ts";
import { forbiddenAnswer, imageAnswer, PINNED_EPOCH } from "./local-answer.ts";
import type { ImageCompiler, Project } from "./project.ts";
import { isWorkersWord, type RemoteResult, type RemoteWorker } from "./remote/remote-job.ts";
import { collectSourceFiles, type SourceFiles } from "./source-files.ts";

export interface CompileDependencies {
  /** Null when nothing remote is configured. */
  readonly worker: RemoteWorker | null;
  readonly files: FileCache;
  readonly links: FolderLinks;
  readonly counts: CallCounts;
  /** Bounds the compiles that are prepared or sent at a time, and with them the daemon's memory. */
  readonly slots: Semaphore;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Largest preprocessed text that is sent, in bytes. */
const TEXT_BYTES_MAX = 256 * 1024 * 1024;
/** Outputs up to this size travel in the answer's frame, larger ones as files. */
const INLINE_BYTES_MAX = 256 * 1024;
const OBJECT_PATH = `${OUTPUT_FOLDER}/object` as ByteString;

/** Reasons of calls that no policy turns away: they compile nothing that a worker could have compiled. */
const NOT_A_COMPILE: ReadonlySet<BypassReason> = new Set<BypassReason>([
  "bad_compiler_arguments",
  "called_for_link",
  "called_for_preprocessing",
  "compiler_query",
  "no_input_file",
  "standard_input",
  "syntax_only",
]);

/** Answers a compile call of a project that is bound to an image. */
export async function answerCompileCall(
  call: LauncherCall,
  project: Project,
  compiler: ImageCompiler,
  dependencies: CompileDependencies,
): Promise<CallAnswer> {
  const { counts, logger } = dependencies;
  const finish = (answer: CallAnswer, outcome: CallOutcome, reason: BypassReason | null) => {
    counts.count(outcome, reason);
    return answer;
  };
  try {
    const result = await compileRemotely(call, project, compiler, dependencies);
    return finish(result.answer, result.outcome, null);
  } catch (error) {
    if (call.signal.aborted) {
      counts.count("cancelled");
      throw error;
    }
    const { reason, detail } = bypassOf(error, logger);
    logger.debug("call.local", { reason, detail: detail === null ? undefined : displayText(detail) });
    if (project.config.fallback === "none" && !NOT_A_COMPILE.has(reason)) {
      return finish(forbiddenAnswer(reason, detail), "refused", reason);
    }
    return finish(await imageAnswer(call.message, project, compiler, reason !== "compiler_query"), "local", reason);
  }
}

function bypassOf(error: unknown, logger: Logger): { reason: BypassReason; detail: ByteString | null } {
  if (error instanceof Bypass) return error;
  if (error instanceof HpccError && (error.retryable || isWorkersWord(error))) {
    logger.warn("call.remote_failed", { code: error.code, message: error.message });
    const reason = isWorkersWord(error) ? "remote_failed" : "remote_unavailable";
    return { reason, detail: byteStringOfText(error.message) };
  }
  const message = error instanceof Error ? error.message : String(error);
  logger.error("call.failed", { message, stack: error instanceof Error ? error.stack : undefined });
  return { reason: "internal_error", detail: byteStringOfText(message) };
}

interface RemoteAnswer {
  readonly answer: OutputsMessage;
  readonly outcome: "remote_compiled" | "remote_hit" | "remote_joined";
}

async function compileRemotely(
  call: LauncherCall,
  project: Project,
  compiler: ImageCompiler,
  dependencies: CompileDependencies,
): Promise<RemoteAnswer> {
  const request = readCall(call.message, project, compiler);
  const { worker } = dependencies;
  if (worker === null) throw new Bypass("remote_unavailable");
  const release = await dependencies.slots.take(call.signal);
  const folder = `${project.callFolder}/${randomUUID()}` as ByteString;
  try {
    // With the folder above, which a cleaner of temporary files may have taken away.
    await mkdir(bytesOf(folder), { recursive: true, mode: 0o700 });
    const unit = await preprocess(call, project, compiler, request, folder, dependencies);
    const { source, action } = prepareJob(project, compiler, request, unit.rebuilt);
    const outputFolder = `${displayText(folder)}/out`;
    await mkdir(outputFolder, { mode: 0o700 });
    const result = await worker.compile(
      {
        action,
        manifest: source.manifest,
        openBlob: (digest) => source.openBlob(digest),
        isolationMin: project.config.isolationMin,
        deadlineMs: project.config.deadlineMs,
        outputFolder,
      },
      { signal: call.signal, onSent: () => dependencies.counts.add("jobs_sent", 1) },
    );
    countTraffic(result, dependencies.counts);
    return { answer: await outputsOf(result, project, request, unit), outcome: `remote_${result.outcome}` };
  } finally {
    release();
    // The launcher copies large outputs out of the folder before it says that it is done.
    call.whenDone(() => rm(bytesOf(folder), { recursive: true, force: true }));
  }
}

interface Unit {
  readonly rebuilt: Extract<Rebuilt, { kind: "ready" }>;
  /** What the first step wrote as dependency file, with the paths of the view. */
  readonly dependencyText: ByteString | null;
}

/** The first step: `-E` as the launcher's child in the strict namespace, and all that can be wrong with it. */
async function preprocess(
  call: LauncherCall,
  project: Project,
  compiler: ImageCompiler,
  request: CallRequest,
  folder: ByteString,
  { files, links, clock }: CompileDependencies,
): Promise<Unit> {
  const { mapped } = request;
  const inView = (name: string) => `${CALL_FILES}/${folder.slice(folder.lastIndexOf("/") + 1)}/${name}` as ByteString;
  const onHost = (name: string) => bytesOf(`${folder}/${name}` as ByteString);
  const startedMs = clock.wallMs();
  const ran = await call.run({
    program: compiler.path,
    argv: preprocessArgv(mapped, {
      compiler: compiler.path,
      output: inView("text"),
      dependencyFile: inView("dependencies"),
      injected: injectedFlags(compiler.family, pinsDates(project, compiler)),
    }),
    environment: joined([
      ...stepEnvironment(request.plan, { includePaths: request.includePaths, ...epoch(project, request) }),
      [ascii("PWD"), request.pwd],
    ]),
    cwd: request.cwd,
    namespace: await project.strictNamespace(),
    stdin: "null",
    stdout: { kind: "file", path: `${folder}/stdout` as ByteString },
    stderr: { kind: "file", path: `${folder}/stderr` as ByteString },
    timeLimitMs: project.config.deadlineMs,
  });
  if (ran.outcome.kind === "failed") throw new Error(`the launcher could not preprocess: ${ran.outcome.failure}`);
  if (ran.outcome.kind === "signaled" || ran.outcome.code !== 0) throw new Bypass("preprocessor_error");
  const said = await Promise.all([stat(onHost("stdout")), stat(onHost("stderr"))]);
  if (said.some(({ size }) => size > 0)) throw new Bypass("preprocessor_output");
  const { size } = await stat(onHost("text"));
  if (size > TEXT_BYTES_MAX) throw new Bypass("source_too_large", ascii(String(size)));
  const text = await readFile(onHost("text"));
  const rebuilt = rebuildTranslationUnit({
    family: compiler.family,
    language: mapped.language,
    text,
    cwd: request.cwd,
    source: mapped.source,
    pinned: pinsDates(project, compiler),
    hostRoots: project.view.roots.map(({ host }) => host),
    readFile: (path) => files.read(hostFile(path, project)),
  });
  if (rebuilt.kind === "refused") throw new Bypass(rebuilt.reason, rebuilt.detail);
  if (mentionsIncbin(byteStringOf(text))) throw new Bypass("unsupported_code_directive");
  const reads = unchangedReads(rebuilt.reads, startedMs, project, files);
  const question = { reads, links, ...includeSearch(request) };
  const precompiled = precompiledHeader(question);
  if (precompiled !== null) throw new Bypass("could_not_use_precompiled_header", precompiled);
  const escaping = escapingLookup(question);
  if (escaping !== null) throw new Bypass("outside_view", escaping);
  const dependencyText = mapped.dependencies === null ? null : byteStringOf(await readFile(onHost("dependencies")));
  return { rebuilt, dependencyText };
}

/** The project's files that were read; refuses those that changed while they were. */
function unchangedReads(
  reads: readonly ByteString[],
  startedMs: number,
  project: Project,
  files: FileCache,
): { path: ByteString; bytes: Uint8Array }[] {
  return reads.flatMap((name) => {
    const path = toHostPath(project.view, name);
    if (path === null) return [];
    const state = statSync(bytesOf(path), { throwIfNoEntry: false });
    const bytes = files.read(path);
    if (state === undefined || bytes === null || state.mtimeMs >= startedMs || state.ctimeMs >= startedMs)
      throw new Bypass("modified_input_file", path);
    return [{ path, bytes }];
  });
}

function prepareJob(
  project: Project,
  compiler: ImageCompiler,
  request: CallRequest,
  rebuilt: Extract<Rebuilt, { kind: "ready" }>,
): { source: SourceFiles; action: Action } {
  const source = collectSourceFiles([rebuilt.main, ...rebuilt.quotes], rebuilt.folders);
  const action: Action = {
    imageDigest: project.imageDigest,
    argv: compileArgv(request.mapped, {
      compiler: compiler.path,
      sourcePath: rebuilt.mainName,
      outputPath: OBJECT_PATH,
      randomSeed: source.randomSeed,
      injected: injectedFlags(compiler.family, pinsDates(project, compiler)),
    }),
    environment: joined(stepEnvironment(request.plan, epoch(project, request))),
    cwd: request.cwd,
    outputs: [{ path: OBJECT_PATH, required: true, kind: "object" }],
    terminalColumns: request.terminalColumns,
    determinism: project.config.determinism,
  };
  return { source, action };
}

/** What the launcher writes for a result; throws a bypass when the local compiler must have the last word. */
async function outputsOf(
  result: RemoteResult,
  project: Project,
  request: CallRequest,
  unit: Unit,
): Promise<OutputsMessage> {
  const { invocation, mapped } = request;
  const stderr = byteStringOf(result.stderr);
  const mayFail = project.config.fallback === "none";
  if (result.exitCode !== 0 && !mayFail) throw new Bypass("compile_failed");
  const unfaithful = diagnosticsRefusal(mapped, stderr);
  if (unfaithful !== null) throw new Bypass(unfaithful);
  const files: OutputFile[] = [];
  const object = result.outputs.find((output) => output.index === 0);
  if (result.exitCode === 0) {
    if (object === undefined) throw new HpccError("job.failed", "the worker gave no object");
    files.push({
      destination: invocation.output,
      content: await contentOf(object.file, object.size),
      executable: object.executable,
      manner: invocation.family === "clang" ? "clang" : invocation.produce === "object" ? "assembler" : "text",
    });
    if (invocation.dependencies !== null && unit.dependencyText !== null)
      files.push({
        destination: invocation.dependencies.file,
        content: { kind: "inline", bytes: bytesOf(hostDependencies(unit.dependencyText, project, request)) },
        executable: false,
        manner: "text",
      });
  }
  const shown = (text: ByteString) =>
    text === "" ? null : ({ kind: "inline", bytes: bytesOf(mapDiagnostics(text, request.spelled)) } as const);
  return {
    type: "outputs",
    exitCode: result.exitCode,
    stdout: shown(byteStringOf(result.stdout)),
    stderr: shown(stderr),
    files,
  };
}

async function contentOf(file: string, size: number): Promise<OutputFile["content"]> {
  if (size > INLINE_BYTES_MAX) return { kind: "file", path: byteStringOfText(file) };
  return { kind: "inline", bytes: await readFile(file) };
}

function countTraffic({ traffic, compileUs, outcome }: RemoteResult, counts: CallCounts): void {
  counts.add("source_bytes", traffic.sentBytes);
  counts.add("source_wire_bytes", traffic.sentFrameBytes);
  counts.add("result_bytes", traffic.receivedBytes);
  counts.add("result_wire_bytes", traffic.receivedFrameBytes);
  if (outcome === "compiled") counts.add("compile_us", compileUs);
}

/** Whether dates are pinned rather than refused: by the policy, with a compiler that takes SOURCE_DATE_EPOCH. */
function pinsDates(project: Project, compiler: ImageCompiler): boolean {
  return project.config.determinism === "pin" && compiler.family === "gcc";
}

/** SOURCE_DATE_EPOCH of both steps under the policy that pins time. */
function epoch(project: Project, { plan }: CallRequest): { pinnedEpoch?: ByteString } {
  if (project.config.determinism !== "pin") return {};
  return { pinnedEpoch: plan.sourceDateEpoch ?? PINNED_EPOCH };
}

function joined(variables: readonly (readonly [name: ByteString, value: ByteString])[]): ByteString[] {
  return sortEnvironment(variables.map(([name, value]) => `${name}=${value}` as ByteString));
}

/** The host's path of a path in the view; one that is nowhere where nothing is. */
function hostFile(path: ByteString, project: Project): ByteString {
  return toHostPath(project.view, path) ?? project.imageFile(path) ?? ascii("/nonexistent");
}
