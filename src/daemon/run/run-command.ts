// `hpcc run COMMAND...`: the command, found as the image's namespace shows it, with the caller's environment but for PATH. What cannot
// be run is said as a shell says it, with the way out. UNTRUSTED: the caller's words and environment; the image's files.
import { readlinkSync, statSync } from "node:fs";
import { ascii, type ByteString, byteStringOf, bytesOf, displayText } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { packageOfFile } from "../../image/host/find-host-packages.ts";
import { resolveInImage } from "../../image/image-path.ts";
import { RUN_PROGRAMS } from "../../vm/namespace/mount-plan.ts";
import type { CallMessage, NamespaceRef, OutputsMessage } from "../../wire/launcher/messages.ts";
import type { CallAnswer } from "../control/launcher-connection.ts";
import type { Project } from "../project.ts";
import type { ProjectState, RunNamespace } from "../project-registry.ts";
import { quoted, refusalAnswer } from "../tiers/local-answer.ts";

/** As env(1) ends when it runs nothing, and shells when they cannot. */
const EXIT_NOT_RUN = 125;
const EXIT_NOT_EXECUTABLE = 126;
const EXIT_NOT_FOUND = 127;
const NOT_PASSED = /^(?:PATH|HPCC_WRAPPED)=/;
const DEFAULT_HOST_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/** Answers such a call. `run` is the namespace of an `hpcc run` that the caller is in; `find` gives the call's project. */
export async function commandAnswer(
  message: CallMessage,
  run: RunNamespace | null,
  find: (within: RunNamespace | null) => Promise<ProjectState>,
): Promise<CallAnswer> {
  try {
    const here = await find(null);
    const state = run !== null && here.kind === "unbound" ? await find(run) : here;
    if (state.kind === "unbound") return refused(unboundText(message.cwd));
    if (state.kind === "unusable") return refused(state.message);
    const { project } = state;
    if (run !== null && (run.root !== project.root || run.imageDigest !== project.imageDigest))
      return refused(`this is the image of ${displayText(run.root)} as it was; leave that \`hpcc run\` first`);
    const namespace = run === null ? await project.run.namespace(launcherOf(message)) : null;
    return await inNamespace(message, project, namespace);
  } catch (error) {
    return refused(error instanceof HpccError ? `${error.message}. ${error.hint}` : String(error));
  }
}

function refused(text: string): OutputsMessage {
  return { ...refusalAnswer(`run: ${text}`), exitCode: EXIT_NOT_RUN };
}

function unboundText(cwd: ByteString): string {
  return (
    `no image is bound to ${displayText(cwd)}. Run it in the folder of a project with one: a line image = "..." in ` +
    "hpcc.toml in the project's root binds it (`hpcc init` writes that, `hpcc image build --from-host` makes an image)"
  );
}

/** The caller's own program, which is to stand in the compilers' places. */
function launcherOf({ pid }: CallMessage): ByteString {
  try {
    return byteStringOf(readlinkSync(`/proc/${pid}/exe`, { encoding: "buffer" }));
  } catch (cause) {
    throw new HpccError("namespace.unavailable", "the program that called cannot be found", { cause });
  }
}

async function inNamespace(
  message: CallMessage,
  project: Project,
  namespace: NamespaceRef | null,
): Promise<CallAnswer> {
  const root = `/proc/${namespace?.holderPid ?? message.pid}/root` as ByteString;
  const { cwd, argv } = message;
  if (namespace !== null && !isSameFolder(root, cwd))
    return refused(`${displayText(cwd)} is another folder in the image's namespace, or none`);
  const environment = runEnvironment(message, project);
  const found = findCommand(root, message, pathOf(project));
  if (typeof found === "string")
    return {
      type: "exec",
      namespace,
      program: { kind: "path", path: found },
      argv,
      environment,
      cwd: null,
      warning: null,
    };
  const { exitCode, isInHostPath } = found;
  const name = argv[0]!;
  if (exitCode === EXIT_NOT_EXECUTABLE) return { ...refusalAnswer(`run: ${quoted(name)} is not executable`), exitCode };
  const where = name.includes("/") ? "is not there" : `is not in the image ${project.imageDigest}`;
  const way = isInHostPath === null ? "" : await wayOf(isInHostPath);
  return { ...refusalAnswer(`run: ${quoted(name)} ${where}${way}`), exitCode };
}

/** How the image gets a program that this machine has. */
async function wayOf(path: ByteString): Promise<string> {
  // A package may name it below /bin, which is a link to /usr/bin by now.
  const name = (await packageOfFile(path)) ?? (await packageOfFile(path.replace(/^\/usr(?=\/s?bin\/)/, "")));
  if (name === null) return `; this machine's ${displayText(path)} is of no package`;
  return `; this machine has it from the package ${name}, and \`hpcc image build --from-host --with ${name}\` makes an image with it`;
}

interface NotFound {
  readonly exitCode: number;
  /** Where this machine has a program of that name. */
  readonly isInHostPath: ByteString | null;
}

/** The command's path in the namespace whose root is given. */
function findCommand(root: ByteString, { argv, cwd, environment }: CallMessage, path: string): ByteString | NotFound {
  const name = argv[0]!;
  const named = name.startsWith("/") ? name : (`${cwd}/${name}` as ByteString);
  const candidates = name.includes("/") ? [named] : path.split(":").map((folder) => `${folder}/${name}` as ByteString);
  let exitCode = EXIT_NOT_FOUND;
  for (const candidate of name === "" ? [] : candidates) {
    const resolved = resolveInImage(root, candidate);
    if (resolved === null) continue;
    const { isFile, isExecutable } = kindOf((root + resolved) as ByteString);
    if (isFile && isExecutable) return candidate;
    if (isFile || name.includes("/")) exitCode = EXIT_NOT_EXECUTABLE;
  }
  const isPlain = !name.includes("/") && name !== "";
  return { exitCode, isInHostPath: isPlain ? onHost(name, environment) : null };
}

function onHost(name: ByteString, environment: readonly ByteString[]): ByteString | null {
  const path = environment.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) ?? DEFAULT_HOST_PATH;
  const candidates = path.split(":").map((folder) => `${folder}/${name}` as ByteString);
  return candidates.find((candidate) => candidate.startsWith("/") && kindOf(candidate).isExecutable) ?? null;
}

function kindOf(path: ByteString): { readonly isFile: boolean; readonly isExecutable: boolean } {
  try {
    const stat = statSync(bytesOf(path), { throwIfNoEntry: false });
    const isFile = stat?.isFile() === true;
    return { isFile, isExecutable: isFile && (stat.mode & 0o111) !== 0 };
  } catch {
    return { isFile: false, isExecutable: false };
  }
}

/** Whether a folder of this machine is the one that the namespace shows at its path. */
function isSameFolder(root: ByteString, path: ByteString): boolean {
  const resolved = resolveInImage(root, path);
  if (resolved === null) return false;
  const identity = (one: ByteString) => statSync(bytesOf(one), { bigint: true, throwIfNoEntry: false });
  const inside = identity((root + resolved) as ByteString);
  const outside = identity(path);
  return inside !== undefined && inside.dev === outside?.dev && inside.ino === outside.ino;
}

function pathOf({ run }: Pick<Project, "run">): string {
  return [...run.folders, RUN_PROGRAMS].join(":");
}

/** The caller's own, with the image's PATH, and those of the image's variables that he does not set. */
export function runEnvironment(
  { environment }: Pick<CallMessage, "environment">,
  project: Pick<Project, "run">,
): ByteString[] {
  const own = environment.filter((entry) => !NOT_PASSED.test(entry));
  const names = new Set(own.map((entry) => entry.split("=", 1)[0]));
  const image = project.run.environment.filter((entry) => !names.has(entry.split("=", 1)[0]));
  return [...own, ...image, ascii(`PATH=${pathOf(project)}`)];
}
