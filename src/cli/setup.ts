// `hpcc setup`: a folder of links named after this machine's compilers, all of which lead to the launcher, and the lines that make build tools go
// through it. Links are all that is made; nothing of the user's own is changed or replaced.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";

export interface Setup {
  readonly launcher: string;
  readonly folder: string;
  /** Names of the links, sorted. */
  readonly links: readonly string[];
  /** Whether a shell finds the links before the compilers. */
  readonly first_on_path: boolean;
}

export interface SetupOptions {
  readonly env: Environment;
  readonly uid: number;
  /** Where the program's bundle is, `lib/hpcc/hpcc.mjs` of the installation. */
  readonly bundle: string;
  /** Null for the usual place. */
  readonly folder: string | null;
}

const COMPILER =
  /^(?:[A-Za-z0-9_.]{1,64}-){0,4}(?:gcc|g\+\+|cc|c\+\+|clang|clang\+\+)(?:-\d{1,3}(?:\.\d{1,3}){0,2})?(?:-posix|-win32)?$/;
/** Scripts that choose a standard and call the compiler themselves. */
const SCRIPT = /^c[89]9-/;
const LINKS_MAX = 512;
const OWN_NAME = "hpcc";

export function setup({ env, uid, bundle, folder }: SetupOptions): Setup {
  const launcher = findLauncher(bundle, env);
  const links = folder === null ? usualFolder(env, uid) : resolve(folder);
  if (/^\/proc(?:\/|$)/.test(links)) throw new HpccError("argument.invalid", `no folder can be made at ${links}`);
  mkdirSync(links, { recursive: true });
  const own = realpathSync(links);
  const path = (env["PATH"] ?? "").split(":").filter((entry) => entry.startsWith("/"));
  const names = compilersOn(path.filter((entry) => real(entry) !== own));
  if (names.length === 0)
    throw new HpccError("tool.missing", "there is no compiler on PATH", {
      hint: "Install gcc or clang, then run it again.",
    });
  // All are looked at before one is made.
  const missing = names.map((name) => join(links, name)).filter((path) => isMissing(path, launcher));
  for (const path of missing) {
    rmSync(path, { force: true });
    symlinkSync(launcher, path);
  }
  const at = path.findIndex((entry) => real(entry) === own);
  const firstCompiler = path.findIndex((entry) => real(entry) !== own && compilersOn([entry]).length > 0);
  return { launcher, folder: links, links: names, first_on_path: at >= 0 && at < firstCompiler };
}

/** Below the user's own home: another user's is left alone. */
function usualFolder(env: Environment, uid: number): string {
  const { images, runtime } = resolveDirectories({ ...env, HPCC_IMAGE_DIR: undefined, HPCC_STATE_DIR: undefined }, uid);
  if (images.startsWith(`${runtime}/`))
    throw new HpccError("config.invalid", "there is no home folder of yours", { hint: "Name a folder with --dir." });
  return join(dirname(images), "bin");
}

/** The launcher of this installation: `bin/hpcc` beside `lib/hpcc`, else the one on PATH. */
function findLauncher(bundle: string, env: Environment): string {
  const beside = join(dirname(bundle), "../../bin", OWN_NAME);
  const onPath = (env["PATH"] ?? "").split(":").map((entry) => join(entry, OWN_NAME));
  const found = [beside, ...onPath].find((candidate) => candidate.startsWith("/") && existsSync(candidate));
  if (found === undefined)
    throw new HpccError("tool.missing", `there is no launcher at ${beside}`, {
      hint: "bin/hpcc and lib/hpcc of an installation belong together; or put hpcc on PATH.",
    });
  return found;
}

function compilersOn(path: readonly string[]): string[] {
  const names = path.flatMap(filesIn).filter((name) => COMPILER.test(name) && !SCRIPT.test(name));
  return [...new Set(names)].sort().slice(0, LINKS_MAX);
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    // An entry of PATH need not exist.
    return [];
  }
}

/** Links to an hpcc elsewhere, such as an older one, are replaced, and nothing else is. */
function isMissing(path: string, launcher: string): boolean {
  const target = linkAt(path);
  if (target === launcher) return false;
  if (target !== null && basename(target) !== OWN_NAME)
    throw new HpccError("argument.invalid", `${path} is there already, and is no link of hpcc`, {
      hint: "Name another folder with --dir.",
    });
  return true;
}

/** Where a link leads; the path itself for what is none; null for nothing. */
function linkAt(path: string): string | null {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return null;
  return stat.isSymbolicLink() ? readlinkSync(path) : path;
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

export function printSetup({ launcher, folder, links, first_on_path }: Setup): string {
  const word = shellWord(launcher);
  return `${links.length} links in ${folder}: ${links.join(", ")}

${first_on_path ? "This shell's PATH goes through them already." : "Every build of this shell goes through them after"}
  export PATH=${shellWord(folder)}:"$PATH"      # ~/.bashrc, ~/.zshrc
  fish_add_path --prepend ${shellWord(folder)}  # fish

CMake
  cmake -B build -DCMAKE_C_COMPILER_LAUNCHER=${word} -DCMAKE_CXX_COMPILER_LAUNCHER=${word}

Meson: this as native.ini, then meson setup --native-file native.ini build
  [binaries]
  c = [${mesonWord(launcher)}, 'gcc']
  cpp = [${mesonWord(launcher)}, 'g++']

make and configure scripts
  make CC="${launcher} gcc" CXX="${launcher} g++"

To undo it: rm -r ${shellWord(folder)}
`;
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function mesonWord(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
