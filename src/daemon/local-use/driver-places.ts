// The folders in which Clang's driver looks for what it then searches: it says nothing of those that it did not find, so that what they hold by
// name is part of its answer. UNTRUSTED: a checkout's folders, which an option may name.
import { readdirSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { CompilerReport } from "./read-probe.ts";

const PLACES_MAX = 400;
const DEPTH_MAX = 12;
/** Options that name a root with installations and headers. */
const ROOTS = /^(?:--sysroot=?|-isysroot|--gcc-toolchain=)$/;
const INSTALLATION = "--gcc-install-dir=";
const RESOURCES = /^-resource-dir=?$/;
const LIBRARY = /^--?stdlib=$/;
const SANITIZERS = /^-fsanitize=/;
/** Folders of names that every root may have. */
const COMMON = new Set("usr local opt rh root etc env.d include lib lib32 lib64 libx32".split(" "));
const TOOLSET = /^(?:gcc-toolset|devtoolset)-\d+$/;
const MACHINE = /^(?:x86|amd64|i[3-6]86|arm|aarch|thumb|mips|powerpc|ppc|riscv|s390|sparc|loongarch|wasm)/;
const GCC = /^gcc(?:-cross|-lib)?$/;
const OWN_FOLDERS = /^(?:include|include-fixed|install-tools|plugin|finclude|rtl|adainclude|adalib)$/;

/** For these Clang takes the headers of a GCC that it finds on PATH, and else those beside itself. */
const MINGW = /-windows-gnu|mingw/;
const MINGW_GCC = /(?:^|-)(?:mingw32(?:ucrt)?|windows-gnu)-gcc$/;

export interface DriverSurroundings {
  readonly cwd: ByteString;
  readonly driver: ByteString;
  /** Folders of PATH. */
  readonly path: readonly ByteString[];
}

/** Absolute paths, those that are not there too; null when they are too many to be looked at. None for a call that names no such place. */
export function driverPlaces(
  { arguments: words }: Pick<GnuInvocation, "arguments">,
  report: Pick<CompilerReport, "family" | "target" | "sysroot" | "resources">,
  { cwd, driver, path }: DriverSurroundings,
): readonly ByteString[] | null {
  if (!grammarOf(report).habits.driver.seeksRoots) return [];
  const named = (option: RegExp) =>
    words.flatMap((word) => (option.test(word.option) && word.value !== null ? [word.value as string] : []));
  const has = (option: RegExp) => words.some(({ words: own }) => option.test(own[0] ?? ""));
  const installed = words.flatMap(({ option, value }) => (option === INSTALLATION && value !== null ? [value] : []));
  const walk = new Walk(cwd);
  const roots = [...named(ROOTS), ...(report.sysroot === null ? [] : [report.sysroot])];
  for (const root of [...roots, ...installed.map((folder) => `${folder}/../../../..`)]) walk.descend(root);
  for (const folder of installed) walk.multilibs(folder);
  if (MINGW.test(report.target ?? "")) {
    walk.note(path);
    const gcc = path.find((folder) => namesIn(folder).some((name) => MINGW_GCC.test(name)));
    walk.descend(`${gcc ?? driver.slice(0, driver.lastIndexOf("/"))}/..`);
  }
  const resources = has(RESOURCE_WORDS) && report.resources !== null ? [report.resources] : [];
  for (const folder of [...named(RESOURCES), ...resources]) walk.note([folder, `${folder}/include`, `${folder}/share`]);
  if (words.some(({ option }) => LIBRARY.test(option))) {
    const own = [driver.slice(0, driver.lastIndexOf("/"))];
    walk.note(["/usr", "/usr/local", ...own.map((folder) => `${folder}/..`)].flatMap(headers));
  }
  return walk.places;
}

/** Clang takes lists of what not to check from its own folder where they are. */
const RESOURCE_WORDS = new RegExp(`${SANITIZERS.source}|^-resource-dir`);

function headers(root: string): string[] {
  return [`${root}/include`, `${root}/include/c++`];
}

class Walk {
  readonly #cwd: ByteString;
  readonly #places = new Set<ByteString>();
  readonly #seen = new Set<string>();

  constructor(cwd: ByteString) {
    this.#cwd = cwd;
  }

  get places(): readonly ByteString[] | null {
    return this.#places.size > PLACES_MAX ? null : [...this.#places];
  }

  note(folders: readonly string[]): void {
    for (const folder of folders)
      this.#places.add((folder.startsWith("/") ? folder : `${this.#cwd}/${folder}`) as ByteString);
  }

  /** A root, and what in it leads to installations and headers. The root folder is that of calls that name none. */
  descend(root: string): void {
    if (/^\/+$/.test(root)) return;
    this.note([root]);
    this.#enter(root.startsWith("/") ? root : `${this.#cwd}/${root}`, "any", DEPTH_MAX);
  }

  /** A version of GCC, in which folders of other kinds of code stand. */
  multilibs(folder: string): void {
    this.note([folder]);
    this.#enter(folder.startsWith("/") ? folder : `${this.#cwd}/${folder}`, "version", DEPTH_MAX);
  }

  #enter(path: string, kind: Kind, depth: number): void {
    if (depth === 0 || this.#places.size > PLACES_MAX || !this.#isNew(path)) return;
    this.#places.add(path as ByteString);
    for (const name of namesIn(path)) {
      const next = below(kind, name);
      if (next !== null) this.#enter(`${path}/${name}`, next, depth - 1);
    }
  }

  /** Whether a folder is there that was not entered by another path: links are held by the folders that hold them. */
  #isNew(path: string): boolean {
    const stat = statSync(bytesOf(path as ByteString), { bigint: true, throwIfNoEntry: false });
    const identity = `${stat?.dev}:${stat?.ino}`;
    if (stat?.isDirectory() !== true || this.#seen.has(identity)) return false;
    this.#seen.add(identity);
    return true;
  }
}

/** What a folder is: `gcc` has folders of machines, these have those of versions. */
type Kind = "any" | "gcc" | "machine" | "version" | "c++";

/** What a name in a folder is that leads on; null for one that does not. */
function below(kind: Kind, name: string): Kind | null {
  switch (kind) {
    case "gcc":
      return "machine";
    case "machine":
      return "version";
    case "version":
      return OWN_FOLDERS.test(name) || name.includes(".") ? null : "version";
    case "c++":
      return "any";
    case "any":
      if (GCC.test(name)) return "gcc";
      if (name === "c++") return "c++";
      return COMMON.has(name) || TOOLSET.test(name) || isTriple(name) ? "any" : null;
  }
}

function isTriple(name: string): boolean {
  const parts = name.split("-").length;
  return parts > 2 || (parts === 2 && MACHINE.test(name));
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(bytesOf(path as ByteString), { encoding: "latin1" });
  } catch {
    return [];
  }
}
