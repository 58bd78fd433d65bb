// The source form `text`: preprocessing on the client, the compile of its text in the guest, for policies under which no header may leave
// the client. What it cannot keep is refused or listed in docs/fidelity.md. UNTRUSTED: the checkout's files.
import { statSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import type { Semaphore } from "../../base/semaphore.ts";
import type { Action } from "../../core/action/action.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import { mentionsIncbin } from "../../core/compile/text/code-directives.ts";
import { markedFiles, type Rebuilt, rebuildTranslationUnit } from "../../core/compile/text/rebuild.ts";
import { compileArgv, preprocessArgv } from "../../core/compile/text/two-step.ts";
import { scanSource, scanTogether } from "../../core/compile/view/source-scan.ts";
import { OUTPUT_FOLDER, toHostPath } from "../../core/compile/view/view.ts";
import { joinEnvironment } from "../call/environment-words.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import { includeSearch } from "../call/read-call.ts";
import type { PreparedJob } from "../call/remote-job.ts";
import { collectSourceFiles } from "../call/source-files.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import type { InputCaches } from "../files-form/gather-inputs.ts";
import { NO_DATE } from "../files-form/prepare-files.ts";
import { showsDate } from "../inputs/dates.ts";
import { definedMacros } from "../inputs/defined-macros.ts";
import type { HeaderHints } from "../inputs/header-hints.ts";
import { escapingLookup, type LookupPlaces, precompiledHeaders, type ReadText } from "../inputs/lookups.ts";
import { SourceTree } from "../inputs/source-tree.ts";
import { PINNED_EPOCH } from "../tiers/local-answer.ts";

export interface TextFormOptions extends InputCaches {
  readonly headers: HeaderHints;
  readonly clock: Clock;
  /** Bounds the text that calls hold at the same time, in bytes; a call that was told to wait goes on in its turn. */
  readonly textBytes: Semaphore;
}

/** Largest preprocessed text that is sent, in bytes. */
const TEXT_BYTES_MAX = 256 * 1024 * 1024;
const OBJECT_PATH = `${OUTPUT_FOLDER}/object` as ByteString;

/** Makes the job of a call from preprocessed text. */
export async function prepareText(prepared: PreparedCall, options: TextFormOptions): Promise<Stage<PreparedJob>> {
  const refusal = grammarOf(prepared.compiler).text.refusal(prepared.request.invocation);
  if (refusal !== null) return bypass(refusal, prepared.request.invocation.textRefusal?.detail ?? null);
  const startedMs = options.clock.wallMs();
  const text = await preprocess(prepared, options);
  if (text.kind === "bypass") return text;
  const rebuilt = rebuild(prepared, text.value, options);
  if (rebuilt.kind === "bypass") return rebuilt;
  const checked = checkReads(prepared, text.value, rebuilt.value, startedMs, options);
  if (checked !== null) return checked;
  return next(await jobOf(prepared, rebuilt.value));
}

type Unit = Extract<Rebuilt, { kind: "ready" }>;

/** The first step: `-E` as the launcher's child, and all that can be wrong with it. */
async function preprocess(prepared: PreparedCall, { textBytes, headers }: TextFormOptions): Promise<Stage<Buffer>> {
  const { call, project, compiler, request, place, folder } = prepared;
  const { mapped } = request;
  const inView = (name: string) => `${place.callFiles(folder)}/${name}` as ByteString;
  const onHost = (name: string) => `${folder}/${name}` as ByteString;
  const ran = await call.run({
    program: compiler.path,
    argv: preprocessArgv(mapped, {
      compiler: compiler.path,
      output: inView("text"),
      dependencyFile: inView("dependencies"),
      injected: grammarOf(compiler).text.injected(pinsDates({ project, compiler })),
    }),
    environment: joinEnvironment([
      ...stepEnvironment(request.plan, { includePaths: request.includePaths, ...epoch({ project, request }) }),
      [ascii("PWD"), request.pwd],
    ]),
    cwd: request.cwd,
    namespace: await place.namespace(),
    stdin: "null",
    stdout: { kind: "file", path: onHost("stdout") },
    stderr: { kind: "file", path: onHost("stderr") },
    timeLimitMs: project.config.deadlineMs,
  });
  if (ran.outcome.kind === "failed") throw new Error(`the launcher could not preprocess: ${ran.outcome.failure}`);
  if (ran.outcome.kind === "signaled" || ran.outcome.code !== 0)
    return bypass("preprocessor_error", null, await headers.look(onHost("stderr")));
  const said = await Promise.all(["stdout", "stderr"].map((name) => stat(bytesOf(onHost(name)))));
  if (said.some(({ size }) => size > 0)) return bypass("preprocessor_output");
  const { size } = await stat(bytesOf(onHost("text")));
  if (size > TEXT_BYTES_MAX) return bypass("source_too_large", ascii(String(size)));
  // The text, what is rebuilt of it, and its frame live until the launcher has its answer.
  const release = await textBytes.take(call.signal, size);
  call.whenDone(async () => release());
  return next(await readFile(bytesOf(onHost("text"))));
}

function rebuild(
  { project, compiler, request, place }: PreparedCall,
  text: Buffer,
  { files }: TextFormOptions,
): Stage<Unit> {
  const rebuilt = rebuildTranslationUnit({
    family: compiler.family,
    language: request.mapped.language,
    text,
    cwd: request.cwd,
    source: request.mapped.source,
    pinned: pinsDates({ project, compiler }),
    hostRoots: place.view.roots.map(({ host }) => host),
    readFile: (path) => files.read(toHostPath(place.view, path) ?? project.imageFile(path) ?? ascii("/nonexistent")),
  });
  if (rebuilt.kind === "refused") return bypass(rebuilt.reason, rebuilt.detail);
  if (mentionsIncbin(byteStringOf(text))) return bypass("unsupported_code_directive");
  return next(rebuilt);
}

/** Whether what was read is what a compile would have read: unchanged, and not another file than the host has. */
function checkReads(
  { project, request, place }: PreparedCall,
  text: Buffer,
  { reads }: Unit,
  startedMs: number,
  { files, names, images }: TextFormOptions,
): Stage<never> | null {
  const texts: ReadText[] = [];
  for (const name of reads) {
    const path = toHostPath(place.view, name);
    if (path === null) continue;
    const state = statSync(bytesOf(path), { throwIfNoEntry: false });
    const bytes = files.read(path);
    if (state === undefined || bytes === null || state.mtimeMs >= startedMs || state.ctimeMs >= startedMs)
      return bypass("modified_input_file", path);
    texts.push({ folder: name.slice(0, name.lastIndexOf("/")) as ByteString, scan: scanSource(bytes, "c") });
  }
  const marked = markedFiles(byteStringOf(text), request.cwd);
  for (const name of marked) {
    const scan = toHostPath(place.view, name) === null ? images.scan(project, name) : null;
    if (scan === null) continue;
    if (scan.macroPragma) return bypass("unfaithful_preprocessing", name);
    texts.push({ folder: null, scan });
  }
  const scans = [...texts.map(({ scan }) => scan), definedMacros(request.mapped)];
  scans.push(scanTogether(scans));
  if (scans.some((scan) => showsDate(scan, request.mapped))) return bypass("date_time_macro");
  if (scans.some((scan) => scan.computedTest || scan.testMacros.length > 0))
    return bypass("outside_view", ascii("__has_include(NAME)"));
  const { imageRoot, imageEntries } = project;
  const tree = new SourceTree({ view: place.view, cwd: request.cwd, imageRoot, imageEntries });
  const search = { ...includeSearch(request), found: marked };
  const places: LookupPlaces = { view: place.view, tree, names, cwd: request.cwd, ...search };
  const [precompiled] = precompiledHeaders(texts, places);
  if (precompiled !== undefined) return bypass("could_not_use_precompiled_header", toHostPath(place.view, precompiled));
  const escaping = escapingLookup(texts, places);
  return escaping === null ? null : bypass("outside_view", escaping);
}

async function jobOf({ project, compiler, request, folder }: PreparedCall, unit: Unit): Promise<PreparedJob> {
  const { invocation, mapped } = request;
  const source = collectSourceFiles("text", { files: [unit.main, ...unit.quotes], folders: unit.folders });
  const action: Action = {
    imageDigest: project.imageDigest,
    argv: compileArgv(mapped, {
      compiler: compiler.path,
      sourcePath: unit.mainName,
      outputPath: OBJECT_PATH,
      randomSeed: source.randomSeed,
      injected: grammarOf(compiler).text.injected(pinsDates({ project, compiler })),
    }),
    // Under `-w` no date is an error of the text; one that GCC is given as none always is.
    environment: joinEnvironment(
      stepEnvironment(request.plan, {
        ...(grammarOf(compiler).habits.datesByEnvironment && { pinnedEpoch: NO_DATE }),
        ...epoch({ project, request }),
      }),
    ),
    cwd: request.cwd,
    outputs: [{ path: OBJECT_PATH, required: true, kind: "object" }],
    terminalColumns: request.terminalColumns,
    determinism: project.config.determinism,
  };
  const { output, dependencies } = invocation;
  const manner = grammarOf(invocation).manner(invocation, "object");
  const dependencyFile = bytesOf(`${folder}/dependencies` as ByteString);
  return {
    action,
    source,
    deliveries: [{ kind: "object", destination: output, manner }],
    precompiled: false,
    dependencyText: dependencies === null ? null : byteStringOf(await readFile(dependencyFile)),
    keptList: false,
    evidence: null,
  };
}

/** Whether dates are pinned rather than refused: by the policy, with a compiler that takes SOURCE_DATE_EPOCH. */
function pinsDates({ project, compiler }: Pick<PreparedCall, "project" | "compiler">): boolean {
  return project.config.determinism === "pin" && grammarOf(compiler).habits.datesByEnvironment;
}

/** SOURCE_DATE_EPOCH of both steps under the policy that pins time. */
function epoch({ project, request }: Pick<PreparedCall, "project" | "request">): { pinnedEpoch?: ByteString } {
  if (project.config.determinism !== "pin") return {};
  return { pinnedEpoch: request.plan.sourceDateEpoch ?? PINNED_EPOCH };
}
