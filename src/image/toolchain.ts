// Which compilers an unpacked image has: for a name as called, where it is and which command line grammar it has. Judged by
// the file that the name leads to, without running anything of the image, and without asking a package database.
import { closeSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { ascii, type ByteString, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import type { CompilerFamily } from "../core/compile/grammar/invocation.ts";
import { resolveInImage } from "./image-path.ts";

export interface ImageCompiler {
  /** Absolute path in the image under which it is to be run: links decide what a driver does (clang++ -> clang). */
  readonly path: ByteString;
  /** Where that leads to. */
  readonly resolved: ByteString;
  readonly family: CompilerFamily;
}

/** A compiler that there is. */
export interface ListedCompiler extends ImageCompiler {
  /** The name without folders by which it is called; null where that is another one's, so that it is called by its path. */
  readonly name: ByteString | null;
}

/** Where the image's PATH looks when its configuration does not say. */
const DEFAULT_PATH = ["/usr/local/bin", "/usr/bin", "/bin"];
/** Folders in which toolchains have folders of their own, and where the programs are below one of these. */
const TOOLCHAINS = ["/opt", "/opt/rh", "/usr/local"];
const PROGRAMS = ["bin", "root/usr/bin"];
const TOOLCHAINS_MAX = 64;
/** Names that are remembered; a build calls a handful. */
const KNOWN_MAX = 1000;
const ELF_MAGIC = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);

/** "x86_64-linux-gnu-gcc-12", "g++", "clang++-14", "x86_64-w64-mingw32-gcc-posix": a target, a driver, a version, a model of threads. */
const DRIVER = /^(?:[A-Za-z0-9_.]+-)*?(gcc|g\+\+|c\+\+|cc|clang|clang\+\+)(?:-[0-9][0-9.]*)?(?:-posix|-win32)?$/;

/** The compiler's family by the name of its program; null for other tools such as `gcc-ar` and `clang-tidy`. */
export function familyOfProgram(name: string): CompilerFamily | null {
  const driver = DRIVER.exec(name)?.[1];
  if (driver === undefined) return null;
  return driver.startsWith("clang") ? "clang" : "gcc";
}

/** Compilers of one unpacked image, which never changes: answers are remembered. */
export class ImageToolchain {
  readonly #rootfs: ByteString;
  readonly #path: readonly ByteString[];
  #others: readonly ByteString[] | null = null;
  readonly #known = new Map<ByteString, ImageCompiler | null>();

  /** `environment` is that of the image's configuration. */
  constructor(rootfs: string, environment: readonly string[] = []) {
    this.#rootfs = byteStringOfText(rootfs);
    const path = environment.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length);
    const folders = this.#folders((path ?? "").split(":").map(byteStringOfText));
    this.#path = folders.length > 0 ? folders : this.#folders(DEFAULT_PATH.map(ascii));
  }

  /** The compiler that a name as called ("gcc", "/usr/bin/clang-14") means in the image; null when there is none. */
  find(name: ByteString): ImageCompiler | null {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const found = this.#look(name);
    if (this.#known.size < KNOWN_MAX) this.#known.set(name, found);
    return found;
  }

  /** Folders in which the image keeps its programs, in the order of its PATH. */
  get folders(): readonly ByteString[] {
    return this.#path;
  }

  /** The image's program of a name without folders, whatever it is; null when there is none. */
  program(name: ByteString): ByteString | null {
    if (name === "" || name.includes("/")) return null;
    for (const folder of this.#path) {
      const path = `${folder}/${name}` as ByteString;
      const resolved = resolveInImage(this.#rootfs, path);
      if (resolved !== null && this.#isExecutable(resolved)) return path;
    }
    return null;
  }

  /** All compilers, those on the image's PATH first. */
  *all(): Generator<ListedCompiler, void, void> {
    for (const folder of this.#distinct([...this.#path, ...this.#otherFolders()]))
      for (const name of this.#list(folder)) {
        const path = `${folder}/${name}` as ByteString;
        const compiler = familyOfProgram(name) === null ? null : this.find(path);
        if (compiler !== null) yield { ...compiler, name: this.find(name)?.path === path ? name : null };
      }
  }

  #look(name: ByteString): ImageCompiler | null {
    if (name.startsWith("/")) return this.#compilerAt(name);
    if (name === "" || name.includes("/")) return null;
    for (const folder of this.#path) {
      const found = this.#compilerAt(`${folder}/${name}` as ByteString);
      if (found !== null) return found;
    }
    if (familyOfProgram(name) === null) return null;
    // Beside PATH a name has to be the only one, as nothing says which of two is meant.
    const others = this.#otherFolders().flatMap((folder) => this.#compilerAt(`${folder}/${name}` as ByteString) ?? []);
    return others.every(({ resolved }) => resolved === others[0]?.resolved) ? (others[0] ?? null) : null;
  }

  #otherFolders(): readonly ByteString[] {
    this.#others ??= this.#findOtherFolders();
    return this.#others;
  }

  /** Folders with programs of toolchains that the image's PATH does not name. */
  #findOtherFolders(): ByteString[] {
    const found = TOOLCHAINS.flatMap((top) =>
      this.#list(ascii(top)).flatMap((name) => PROGRAMS.map((folder) => `${top}/${name}/${folder}` as ByteString)),
    );
    const folders = this.#distinct([...this.#path, ...this.#folders([...DEFAULT_PATH.map(ascii), ...found])]);
    return folders.filter((folder) => !this.#path.includes(folder)).slice(0, TOOLCHAINS_MAX);
  }

  /** Of paths those that are absolute and lead to folders. */
  #folders(paths: readonly ByteString[]): ByteString[] {
    return paths.filter((path) => {
      const resolved = path.startsWith("/") ? resolveInImage(this.#rootfs, path) : null;
      return resolved !== null && this.#stat(resolved)?.isDirectory() === true;
    });
  }

  /** Of folders that are the same one the first. */
  #distinct(folders: readonly ByteString[]): ByteString[] {
    const seen = new Set<ByteString | null>();
    return folders.filter((folder) => {
      const resolved = resolveInImage(this.#rootfs, folder);
      return !seen.has(resolved) && seen.add(resolved);
    });
  }

  /** Names in a folder of the image, sorted; none where there is no such folder. */
  #list(folder: ByteString): ByteString[] {
    const resolved = resolveInImage(this.#rootfs, folder);
    if (resolved === null || !this.#stat(resolved)?.isDirectory()) return [];
    try {
      return readdirSync(bytesOf((this.#rootfs + resolved) as ByteString), "latin1").sort() as ByteString[];
    } catch {
      return [];
    }
  }

  #compilerAt(path: ByteString): ImageCompiler | null {
    const resolved = resolveInImage(this.#rootfs, path);
    if (resolved === null) return null;
    const family = familyOfProgram(resolved.slice(resolved.lastIndexOf("/") + 1));
    // A wrapper script such as c99 may do anything with its arguments.
    if (family === null || !this.#isProgram(resolved)) return null;
    return { path, resolved, family };
  }

  #stat(path: ByteString) {
    return statSync(bytesOf((this.#rootfs + path) as ByteString), { throwIfNoEntry: false });
  }

  #isExecutable(path: ByteString): boolean {
    const found = this.#stat(path);
    return found?.isFile() === true && (found.mode & 0o111) !== 0;
  }

  #isProgram(path: ByteString): boolean {
    if (!this.#isExecutable(path)) return false;
    const host = bytesOf((this.#rootfs + path) as ByteString);
    let file: number;
    try {
      file = openSync(host, "r");
    } catch (error) {
      // The image's owner may run it, and this user may not read it.
      if ((error as NodeJS.ErrnoException).code === "EACCES") return false;
      throw error;
    }
    try {
      const magic = Buffer.alloc(ELF_MAGIC.length);
      return readSync(file, magic, 0, magic.length, 0) === magic.length && magic.equals(ELF_MAGIC);
    } finally {
      closeSync(file);
    }
  }
}
