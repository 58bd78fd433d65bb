// Answers that end in a compiler on this machine: the image's in the `local` namespace with the caller's own words, or the
// host's. What is injected gives the same debug paths as the view does. UNTRUSTED: the caller's argv and environment.
import { statSync } from "node:fs";
import { ascii, type ByteString, bytesOf, displayText } from "../../base/byte-string.ts";
import type { DeterminismPolicy } from "../../core/action/action.ts";
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { CompilerFamily } from "../../core/compile/grammar/invocation.ts";
import { placeInjected } from "../../core/compile/view/prefix-maps.ts";
import { PROJECT_ROOT, type View } from "../../core/compile/view/view.ts";
import type { CallMessage, ExecMessage, OutputsMessage } from "../../wire/launcher/messages.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../project.ts";
import { calledName } from "./called-name.ts";

/** SOURCE_DATE_EPOCH under the policy `pin`, unless the caller sets it. */
export const PINNED_EPOCH = ascii("0");

export interface LocalPolicy {
  /** The view below `/hpcc`. */
  readonly view: View;
  readonly paths: ProjectPlace["paths"];
  readonly determinism: DeterminismPolicy;
}

/**
 * Flags of every compile of a project that runs with host paths: what `/hpcc/project=.` is to the view, none with the project at its own
 * path, and under the policy `strict` the refusal of dates.
 */
export function localInjectedFlags({ view, paths, determinism }: LocalPolicy, family: CompilerFamily): ByteString[] {
  const dates = determinism === "strict" ? [ascii("-Werror=date-time")] : [];
  if (paths === "own") return dates;
  const maps = view.roots.map(
    (root) => `-ffile-prefix-map=${root.host}=${root.guest === PROJECT_ROOT ? "." : root.guest}` as ByteString,
  );
  return [...grammarOf({ family }).localInjected(maps), ...dates];
}

/** Who compiles what here. */
export interface LocalCompile {
  readonly project: Project;
  readonly compiler: ImageCompiler;
  /** Where the project stands for the call: a worker would give the same bytes. */
  readonly paths: ProjectPlace["paths"];
}

/** The caller's environment, with the date pinned where the policy says so; null when it is the caller's own. */
function pinnedEnvironment(call: CallMessage, project: Project): readonly ByteString[] | null {
  const own = call.environment.some((entry) => entry.startsWith("SOURCE_DATE_EPOCH="));
  if (project.config.determinism !== "pin" || own) return null;
  return [...call.environment, `SOURCE_DATE_EPOCH=${PINNED_EPOCH}` as ByteString];
}

/** The caller's words with those flags, prefix maps of the caller's own last. */
function withInjected({ project, compiler, paths }: LocalCompile, own: readonly ByteString[]): ByteString[] {
  const { places, config } = project;
  const policy = { view: places.shared.view, paths, determinism: config.determinism };
  const { before, after } = placeInjected(own, localInjectedFlags(policy, compiler.family));
  return [...before, ...after, ...own];
}

/** Becomes the image's compiler. `inject` is false for calls that compile nothing. */
export async function imageAnswer(call: CallMessage, compile: LocalCompile, inject: boolean): Promise<ExecMessage> {
  const { project, compiler } = compile;
  const rest = call.argv.slice(1);
  return {
    type: "exec",
    namespace: await project.localNamespace(),
    program: { kind: "path", path: compiler.path },
    argv: [calledName(call, compiler, project), ...(inject ? withInjected(compile, rest) : rest)],
    environment: inject ? pinnedEnvironment(call, project) : null,
    cwd: null,
    warning: null,
  };
}

/** Finds a program on the caller's PATH. */
const ENV = ascii("/usr/bin/env");

/** Variables of the caller's loader: what they name is not known to be in the image. */
const LOADER_VARIABLES = /^LD_(?:PRELOAD|LIBRARY_PATH|AUDIT)=/;

/** Tells a launcher that a program of the image calls that it is not to seek the image again. */
const WRAPPED = ascii("HPCC_WRAPPED=");

/** Becomes a program in a namespace made for this call: for callers whose mount namespace is another one. */
function sandboxed(environment: readonly ByteString[], project: Project, argv: readonly ByteString[]): ExecMessage {
  const wrapped = environment.some((entry) => entry.startsWith(WRAPPED)) ? [] : [WRAPPED];
  return {
    type: "exec",
    namespace: null,
    program: { kind: "path", path: ENV },
    argv: [ENV, ...project.sandboxArgv, ascii("--"), ...argv],
    environment: [...environment.filter((entry) => !LOADER_VARIABLES.test(entry)), ...wrapped],
    cwd: null,
    warning: null,
  };
}

/** Becomes the image's compiler in such a namespace. */
export function sandboxAnswer(call: CallMessage, compile: LocalCompile): ExecMessage {
  const { project, compiler } = compile;
  const argv = [compiler.path, ...withInjected(compile, call.argv.slice(1))];
  return sandboxed(pinnedEnvironment(call, project) ?? call.environment, project, argv);
}

/** Paths of the machine's own programs: called by one of these, a compiler means the image's of that name. */
const SYSTEM_FOLDERS = /^\/(?:usr|bin|sbin)\//;

/**
 * The program of a call that names one by a path of the caller's: a wrapper in the project, a toolchain of his own. It is no compiler
 * of the image, whatever its name is. Null for all other calls.
 */
export function ownProgram({ argv, cwd }: CallMessage, { places }: Pick<Project, "places">): ByteString | null {
  const name = argv[0] ?? ascii("");
  if (!name.includes("/")) return null;
  const path = name.startsWith("/") ? name : (`${cwd}/${name}` as ByteString);
  const inRoot = places.shared.view.roots.some(({ host }) => path.startsWith(`${host}/`));
  if (!inRoot && SYSTEM_FOLDERS.test(path)) return null;
  return statSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() === true ? path : null;
}

/** How a program that is no compiler of the grammar's is run: as it is called, the image's tools around it. */
export interface ProgramCall {
  readonly path: ByteString;
  /** Whether it is one of the image's, and so gets its own path as its name. */
  readonly ofImage: boolean;
  /** Whether the caller sees the files that the daemon sees. */
  readonly sameMounts: boolean;
}

/** Becomes such a program: the caller's own, or one of the image's that is a script or a driver of another kind. */
export async function programAnswer(
  call: CallMessage,
  project: Project,
  { path, ofImage, sameMounts }: ProgramCall,
): Promise<ExecMessage> {
  const argv = [path, ...call.argv.slice(1)];
  if (!sameMounts) return sandboxed(call.environment, project, argv);
  return {
    type: "exec",
    namespace: await project.localNamespace(),
    program: { kind: "path", path },
    argv: ofImage ? argv : null,
    environment: null,
    cwd: null,
    warning: null,
  };
}

/** Becomes the host's compiler of that name. */
export function hostAnswer(warning: string | null): ExecMessage {
  return {
    type: "exec",
    namespace: null,
    program: { kind: "host" },
    argv: null,
    environment: null,
    cwd: null,
    warning,
  };
}

/** Ends with an error of ours: policy forbids what would be needed. */
export function refusalAnswer(message: string): OutputsMessage {
  return {
    type: "outputs",
    exitCode: 1,
    stdout: null,
    stderr: { kind: "inline", bytes: Buffer.from(`hpcc: ${message}\n`, "utf8") },
    files: [],
  };
}

/** Ends a call that could only be compiled here, where policy forbids that. */
export function forbiddenAnswer(reason: BypassReason, detail: ByteString | null): OutputsMessage {
  const what = detail === null ? "" : ` ${quoted(detail)}`;
  return refusalAnswer(`refused, local compiles are forbidden (fallback = "none"): ${reason}${what}`);
}

/** A path or word of the caller for a message. */
export function quoted(text: ByteString): string {
  return `'${displayText(text)}'`;
}
