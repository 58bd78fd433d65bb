// Reads a call: its arguments by grammar, its environment, and where its paths stand in the view. UNTRUSTED: the caller's argv and environment.
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
} from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { withoutTrailingSlashes } from "../../base/trailing-slashes.ts";
import { type Environment, type EnvironmentPlan, readEnvironment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { Argument, GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { ReadResponseFile } from "../../core/compile/grammar/response-file.ts";
import { dependencyName } from "../../core/compile/view/dependency-file.ts";
import {
  type IncludePaths,
  mapInvocation,
  type PathMapper,
  pathsOf,
  type Spelling,
  type ViewFiles,
  viewPathMapper,
} from "../../core/compile/view/path-map.ts";
import type { View, ViewRoot } from "../../core/compile/view/view.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../project.ts";
import { type Bypass, bypass, next, type Stage } from "./stage.ts";
import { processWay } from "./ways.ts";

export interface CallRequest {
  readonly invocation: GnuInvocation;
  /** The invocation with the paths of the view. */
  readonly mapped: GnuInvocation;
  /** The working directory in the view, and on the host with links resolved. */
  readonly cwd: ByteString;
  readonly hostCwd: ByteString;
  /** The working directory in the view as PWD spells it, through links: debug information names it so. */
  readonly pwd: ByteString;
  readonly plan: EnvironmentPlan;
  /** Include folders of the environment, mapped. */
  readonly includePaths: IncludePaths;
  readonly spellings: readonly Spelling[];
  /** The view with the caller's spellings as hosts, for diagnostics. */
  readonly spelled: View;
  /** Width of the terminal that stderr is; null for none. */
  readonly terminalColumns: number | null;
  readonly mapper: PathMapper;
}

const RESPONSE_FILE_BYTES_MAX = 8 * 1024 * 1024;
const TERMINAL_COLUMNS_FALLBACK = 80;

/** What a call's command line says, before anything is known of paths: one compile, or several of one source each. */
export function parseCall(message: CallMessage, compiler: ImageCompiler): Stage<readonly GnuInvocation[]> {
  const parsed = grammarOf(compiler).parse(message.argv, (path) =>
    readResponseFile(path.startsWith("/") ? path : (`${message.cwd}/${path}` as ByteString)),
  );
  switch (parsed.kind) {
    case "bypass":
      return bypass(parsed.reason, parsed.detail);
    case "compile":
      return next([parsed.invocation]);
    case "several":
      return next(parsed.invocations);
  }
}

/** Places a call in the view of a project. */
export function readCall(
  message: CallMessage,
  invocation: GnuInvocation,
  project: Project,
  place: ProjectPlace,
): Stage<CallRequest> {
  const environment = environmentOf(message.environment);
  const decision = readEnvironment({
    invocation,
    environment,
    terminal: message.terminal.stderr,
    inputColumns: message.terminal.stdin ? message.terminal.columns : null,
    image: project.locales,
    searchPath: project.searchPath,
  });
  if (decision.kind === "bypass") return bypass(decision.reason, decision.detail);
  const { plan } = decision;
  const files = viewFiles(message.cwd, project, place);
  const mapper = viewPathMapper(files);
  const cwd = mapper.directory(files.cwd);
  if (cwd === null) return bypass("outside_view", message.cwd);
  const mapping = mapInvocation(invocation, plan.includePaths, files);
  if (mapping.kind === "bypass") return bypass(mapping.reason, mapping.detail);
  const same = checkDistinctFiles(invocation, files.cwd);
  if (same !== null) return same;
  const { spellings } = mapping;
  return next({
    invocation,
    mapped: mapping.invocation,
    cwd,
    hostCwd: files.cwd,
    pwd: spelledCwd(environment.get("PWD"), files.cwd, mapper) ?? cwd,
    plan,
    includePaths: mapping.includePaths,
    spellings,
    spelled: spelledView(place.view, spellings),
    terminalColumns: message.terminal.stderr ? (message.terminal.columns ?? TERMINAL_COLUMNS_FALLBACK) : null,
    mapper,
  });
}

/** Where and what the command line makes the compiler seek, apart from its own folders; paths are the view's, absolute. */
export function includeSearch({ mapped, includePaths, cwd }: CallRequest) {
  const words = (wanted: (argument: Argument) => boolean) =>
    mapped.arguments.filter(wanted).flatMap(({ value }) => (value === null ? [] : [value]));
  const folders = pathsOf(mapped, includePaths)
    .filter(({ kind }) => kind === "directory")
    .map(({ path }) => withoutTrailingSlashes(path.startsWith("/") ? path : `${cwd}/${path}`) as ByteString);
  return {
    folders: [...new Set(folders)],
    // Absolute ones are mapped, or refused, as all paths are.
    forced: words(({ valueKind, value }) => valueKind === "include" && value?.startsWith("/") === false),
    forcedPaths: words(({ valueKind, value }) => valueKind === "include" && value?.startsWith("/") === true),
    macros: words(({ option }) => option === "-D"),
  };
}

/** The dependency file as a one-step compile on the host would have written it. */
export function hostDependencies(
  text: ByteString,
  project: Project,
  place: ProjectPlace,
  request: CallRequest,
): Stage<ByteString> {
  const { invocation, mapped, spellings } = request;
  const names = {
    view: place.view,
    spellings,
    imageRoot: project.imageRoot,
    hostHas: (path: ByteString) => existsSync(bytesOf(path)),
  };
  const asked = invocation.dependencies;
  const rewritten =
    asked === null ? null : grammarOf(mapped).listing.rewrite(text, asked, (name) => dependencyName(name, names));
  return rewritten === null ? bypass("unsupported_dependency_file") : next(rewritten);
}

/** The view's spelling of PWD where it stands for the working directory; compilers believe it only then. */
function spelledCwd(pwd: ByteString | undefined, hostCwd: ByteString, mapper: PathMapper): ByteString | null {
  if (pwd === undefined || !pwd.startsWith("/") || pwd === hostCwd) return null;
  const [named, actual] = [pwd, hostCwd].map((path) =>
    statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false }),
  );
  if (named === undefined || named.ino !== actual?.ino || named.dev !== actual.dev) return null;
  return mapper.directory(pwd);
}

function viewFiles(cwd: ByteString, project: Project, { view }: ProjectPlace): ViewFiles {
  return {
    view,
    cwd: byteStringOf(realpathSync.native(bytesOf(cwd), { encoding: "buffer" })),
    imageEntries: project.imageEntries,
    readlink: (path) => {
      const inRoot = view.roots.some(({ host }) => path === host || path.startsWith(`${host}/`));
      const top = path.split("/", 2)[1] ?? "";
      const fromImage = !inRoot && project.imageEntries.has(top);
      return readLink(fromImage ? ((project.imageRoot + path) as ByteString) : path);
    },
  };
}

/** Source, output and dependency file must be three files, whatever they are called: GCC would refuse, Clang overwrite. */
function checkDistinctFiles({ source, output, dependencies }: GnuInvocation, cwd: ByteString): Bypass | null {
  const names = [source, output, ...(dependencies === null ? [] : [dependencies.file])];
  const places = names.map((name) => resolved(name.startsWith("/") ? name : (`${cwd}/${name}` as ByteString)));
  return new Set(places).size < places.length ? bypass("bad_output_file", output) : null;
}

/** Where a path leads; that of its folder when it does not exist. */
function resolved(path: ByteString): ByteString {
  const real = (name: ByteString) => byteStringOf(realpathSync.native(bytesOf(name), { encoding: "buffer" }));
  try {
    return real(path);
  } catch {
    const slash = path.lastIndexOf("/");
    try {
      return `${real((path.slice(0, slash) || "/") as ByteString)}${path.slice(slash)}` as ByteString;
    } catch {
      return path;
    }
  }
}

function readLink(path: ByteString): ByteString | null {
  try {
    return byteStringOf(readlinkSync(bytesOf(path), { encoding: "buffer" }));
  } catch {
    return null;
  }
}

/** Entries in the caller's order; of a name that is set twice the first counts, as for getenv. */
export function environmentOf(entries: readonly ByteString[]): Environment {
  const map = new Map<string, ByteString>();
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    if (equals <= 0) continue;
    const name = entry.slice(0, equals);
    if (!map.has(name)) map.set(name, entry.slice(equals + 1) as ByteString);
  }
  return map;
}

function readResponseFile(path: ByteString): ReturnType<ReadResponseFile> {
  // Of a path by the way of a process the daemon would read its own.
  if (processWay([path]) !== null) return "unreadable";
  let fd = -1;
  try {
    const named = statSync(bytesOf(path), { throwIfNoEntry: false });
    if (named === undefined) return null;
    // A fifo is not even opened: its writer would take that for its reader.
    if (!named.isFile()) return "unreadable";
    fd = openSync(bytesOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size <= RESPONSE_FILE_BYTES_MAX ? readFileSync(fd) : "unreadable";
  } catch {
    return "unreadable";
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** The longest guest paths first, so that a file's own spelling wins over its root's. */
function spelledView(view: View, spellings: readonly Spelling[]): View {
  const own: ViewRoot[] = spellings
    .filter(({ guest }) => guest.startsWith("/hpcc/"))
    .map(({ guest, spelled }) => ({ guest, host: spelled }));
  const roots = view.roots.map((root) => ({ ...root, host: spelledRoot(root, spellings) }));
  const unique = new Map([...roots, ...own].reverse().map((root) => [root.guest, root]));
  return { roots: [...unique.values()].sort((a, b) => b.guest.length - a.guest.length) };
}

/** A root's host path as the caller spells it, by an absolute path that the call names below it. */
function spelledRoot(root: ViewRoot, spellings: readonly Spelling[]): ByteString {
  for (const { guest, spelled } of spellings) {
    if (!guest.startsWith(`${root.guest}/`) || !spelled.startsWith("/")) continue;
    const rest = guest.slice(root.guest.length);
    if (spelled.endsWith(rest)) return spelled.slice(0, spelled.length - rest.length) as ByteString;
  }
  return root.host;
}
