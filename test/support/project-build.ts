// Builds a whole project plainly and through hpcc in the same folder, with the project's own build files, and keeps what each build left:
// every file, and each call's words. Plain calls are the host's compiler, of which the image was made, at the same path.
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { ExecutionRequest } from "../../src/vm/execution.ts";
import { type CommandResult, HPCC, runCommand } from "./farm.ts";

export const RECORDER = join(import.meta.dirname, "recorded-build.sh");
/** Files that hold times, of build tools, and coverage notes of a program that comes from standard input, GCC's and Clang's: it is not compiled twice alike. */
const TIMED = new Set([".ninja_log", ".ninja_deps", "a--.gcno", "-.gcno"]);
const BUILD_MS = 1_200_000;
/** More than a tick of a file system's clock. */
const SETTLED_MS = 60;

export interface ProjectRecipe {
  readonly name: string;
  /** Debian's source package. */
  readonly source: string;
  readonly language: "c" | "c++";
  /** Scripts of sh in the project's root; `CC`, `CXX`, `CFLAGS` and `CXXFLAGS` are set. */
  readonly configure?: string;
  readonly build: string;
  /** What a build with nothing to do says. */
  readonly nothing: RegExp;
  /** With which a build that has nothing to do compiles again when the compiler itself writes the files. */
  readonly restless?: "gcc" | "clang";
  /** Objects that name the checkout's folder though checkouts share results: Clang maps no path in what it assembles with `-g`. */
  readonly withPaths?: Readonly<Partial<Record<"gcc" | "clang", number>>>;
  /** Compile calls, at least. */
  readonly callsMin: number;
}

export interface Built {
  readonly ran: CommandResult;
  /** Kind, mode and content by path below the root. */
  readonly tree: ReadonlyMap<string, string>;
  /** stderr by what a call makes. */
  readonly said: ReadonlyMap<string, string>;
}

export interface BuildOptions {
  readonly folder: string;
  readonly sources: string;
  readonly env: NodeJS.ProcessEnv;
  readonly compiler: "gcc" | "clang";
  readonly flags: string;
}

export class ProjectBuild {
  readonly root: string;
  readonly #recipe: ProjectRecipe;
  readonly #options: BuildOptions;
  readonly #pristine: string;
  readonly #flags: string;

  constructor(recipe: ProjectRecipe, options: BuildOptions) {
    const { folder } = options;
    this.#recipe = recipe;
    this.#options = options;
    this.root = join(folder, "project");
    this.#pristine = join(folder, "pristine");
    this.#flags = join(folder, "flags");
    mkdirSync(this.#flags, { recursive: true });
  }

  /** Lays the sources out at the root and configures them plainly. */
  async configure(hpccToml: string): Promise<void> {
    cpSync(join(this.#options.sources, this.#recipe.source), this.root, { recursive: true, preserveTimestamps: true });
    writeFileSync(join(this.root, "hpcc.toml"), hpccToml);
    if (this.#recipe.configure !== undefined) {
      const ran = await this.#run(this.#recipe.configure, "", this.root);
      if (ran.code !== 0) throw new Error(`${this.#recipe.name}: configure: ${ran.stdout}${ran.stderr}`);
    }
    await copyFolder(this.root, this.#pristine);
  }

  /** Builds from a fresh copy of the configured state, in what stands there, or there without the files that builds made. */
  async build(side: "plain" | "hpcc", from: "configured" | "standing" | "cleaned" = "configured"): Promise<Built> {
    if (from === "cleaned") removeOthers(this.root, this.#pristine);
    if (from === "configured") {
      rmSync(this.root, { recursive: true, force: true });
      await copyFolder(this.#pristine, this.root);
      await settled(this.root);
    }
    const said = join(this.#options.folder, "said");
    rmSync(said, { recursive: true, force: true });
    const ran = await this.#run(this.#recipe.build, side === "hpcc" ? HPCC : "", this.root);
    if (ran.code !== 0) throw new Error(`${this.#recipe.name}, ${side}: ${ran.stdout}${ran.stderr}${allOf(said)}`);
    return { ran, tree: treeOf(this.root), said: saidIn(said) };
  }

  /**
   * Gives each plain call what shows in the outputs of the guest's: the seed where the compiler would draw a number, and the flags of
   * shared paths where they were given. Empty where a plain compile is what hpcc's is.
   */
  takeFlags(executed: readonly ExecutionRequest[]): void {
    const known = new Map<string, string>();
    for (const { argv, cwd } of executed) {
      const source = argv.find(
        (word, at) => /\.(?:c|cc|cpp|S|s)$/.test(word) && !/^-(?:M[FTQ]|include|o)$/.test(argv[at - 1] ?? ""),
      );
      if (source === undefined) continue;
      const onHost = (path: string) => path.replace(/^\/hpcc\/project(?=\/|$)/, this.root);
      const flags = argv.flatMap((word) => {
        if (word === "-ffile-prefix-map=/hpcc/project=.") return [`-ffile-prefix-map=${this.root}=.`];
        return word === "-gno-record-gcc-switches" || word.startsWith("-frandom-seed=") ? [word] : [];
      });
      // A source may be compiled to several objects, each with a number of its own; and one compile may serve several.
      const output = argv.find((_, at) => argv[at - 1] === "-o");
      for (const file of output === undefined ? [source] : [source, output])
        known.set(`${onHost(cwd)}/${onHost(file)}`, flags.map((flag) => `${flag}\n`).join(""));
    }
    rmSync(this.#flags, { recursive: true });
    mkdirSync(this.#flags);
    for (const [call, flags] of known) writeFileSync(join(this.#flags, call.replaceAll("/", "%")), flags);
  }

  #run(script: string, program: string, cwd: string): Promise<CommandResult> {
    const { folder, compiler, flags, env } = this.#options;
    const said = join(folder, "said");
    mkdirSync(said, { recursive: true });
    const cxx = compiler === "gcc" ? "g++" : "clang++";
    return runCommand(["/bin/sh", "-c", `set -e; ${script}`], {
      cwd,
      timeoutMs: BUILD_MS,
      env: {
        ...env,
        RECORDER,
        COMPILER: compiler,
        COMPILER_CXX: cxx,
        CC: `${RECORDER} ${compiler}`,
        CXX: `${RECORDER} ${cxx}`,
        CFLAGS: flags,
        CXXFLAGS: flags,
        BUILD_HPCC: program,
        BUILD_STDERR: said,
        BUILD_FLAGS: this.#flags,
      },
    });
  }
}

/** Removes the files of a folder that another one lacks. */
function removeOthers(folder: string, pristine: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const [path, kept] = [join(folder, entry.name), join(pristine, entry.name)];
    if (entry.isDirectory() && existsSync(kept)) removeOthers(path, kept);
    else if (lstatSync(kept, { throwIfNoEntry: false }) === undefined) rmSync(path, { recursive: true });
  }
}

/** With times, as a build tool needs them. */
async function copyFolder(from: string, to: string): Promise<void> {
  const ran = await runCommand(["cp", "-a", from, to]);
  if (ran.code !== 0) throw new Error(ran.stderr);
}

/** Waits until nothing in a folder looks as if it had just changed. */
async function settled(folder: string): Promise<void> {
  const marker = join(folder, ".settled");
  writeFileSync(marker, "");
  const { ctimeMs } = lstatSync(marker);
  rmSync(marker);
  while (Date.now() - ctimeMs < SETTLED_MS) await new Promise((resolve) => void setTimeout(resolve, 5));
}

/** A linker names the compiler's temporary files: GCC's, and Clang's. */
const TEMPORARY = /\/tmp\/cc\w{6}\b|\/tmp\/[^\s:'"/]*-[0-9a-f]{6}(?=\.)/g;

function saidIn(folder: string): Map<string, string> {
  const said = (name: string) => readFileSync(join(folder, name), "latin1").replaceAll(TEMPORARY, "/tmp/ccXXXXXX");
  return new Map(readdirSync(folder).map((name) => [name, said(name)]));
}

function allOf(folder: string): string {
  return existsSync(folder)
    ? [...saidIn(folder)].map(([name, text]) => (text === "" ? "" : `${name}: ${text}`)).join("")
    : "";
}

export function treeOf(root: string, below = ""): Map<string, string> {
  const tree = new Map<string, string>();
  for (const name of readdirSync(join(root, below))) {
    if (TIMED.has(name)) continue;
    const path = below === "" ? name : `${below}/${name}`;
    const stat = lstatSync(join(root, path));
    const mode = (stat.mode & 0o7777).toString(8);
    if (stat.isSymbolicLink()) tree.set(path, `link to ${readlinkSync(join(root, path))}`);
    else if (stat.isDirectory()) for (const [entry, what] of treeOf(root, path)) tree.set(entry, what);
    else tree.set(path, `file ${mode} ${sha256(readFileSync(join(root, path)))}`);
  }
  return tree;
}

/** Names under which two maps differ. */
export function differing(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): string[] {
  return [...new Set([...one.keys(), ...other.keys()])].filter((name) => one.get(name) !== other.get(name));
}

/** Files of a tree that hold a text. */
export function holding(root: string, tree: ReadonlyMap<string, string>, text: string): string[] {
  return [...tree].flatMap(([path, what]) =>
    what.startsWith("file") && readFileSync(join(root, path)).includes(text) ? [path] : [],
  );
}
