// Which compilers an unpacked image has: for a name as called, where it is and which command line grammar it has. Judged by
// the file that the name leads to, without running anything of the image.
import { closeSync, openSync, readSync, statSync } from "node:fs";
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

/** Where the image's PATH looks when its configuration does not say. */
const DEFAULT_PATH = ["/usr/local/bin", "/usr/bin", "/bin"];
/** Names that are remembered; a build calls a handful. */
const KNOWN_MAX = 1000;
const ELF_MAGIC = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);

/** "x86_64-linux-gnu-gcc-12", "g++", "clang++-14": a prefix of a target, a driver, a version. */
const DRIVER = /^(?:[A-Za-z0-9_.]+-)*?(gcc|g\+\+|c\+\+|cc|clang|clang\+\+)(?:-[0-9][0-9.]*)?$/;

/** The compiler's family by the name of its program; null for other tools such as `gcc-ar` and `clang-tidy`. */
export function familyOfProgram(name: string): CompilerFamily | null {
  const driver = DRIVER.exec(name)?.[1];
  if (driver === undefined) return null;
  return driver.startsWith("clang") ? "clang" : "gcc";
}

/** Compilers of one unpacked image, which never changes: answers are remembered. */
export class ImageToolchain {
  readonly #rootfs: ByteString;
  readonly #path: readonly string[];
  readonly #known = new Map<ByteString, ImageCompiler | null>();

  /** `environment` is that of the image's configuration. */
  constructor(rootfs: string, environment: readonly string[] = []) {
    this.#rootfs = byteStringOfText(rootfs);
    const path = environment.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length);
    const folders = path?.split(":").filter((folder) => folder.startsWith("/")) ?? [];
    this.#path = folders.length > 0 ? folders : DEFAULT_PATH;
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
  get folders(): readonly string[] {
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

  /** All compilers on the image's PATH, by name. */
  all(names: readonly string[]): ImageCompiler[] {
    return names.map((name) => this.find(ascii(name))).filter((found) => found !== null);
  }

  #look(name: ByteString): ImageCompiler | null {
    if (name.startsWith("/")) return this.#compilerAt(name);
    if (name === "" || name.includes("/")) return null;
    for (const folder of this.#path) {
      const found = this.#compilerAt(`${folder}/${name}` as ByteString);
      if (found !== null) return found;
    }
    return null;
  }

  #compilerAt(path: ByteString): ImageCompiler | null {
    const resolved = resolveInImage(this.#rootfs, path);
    if (resolved === null) return null;
    const family = familyOfProgram(resolved.slice(resolved.lastIndexOf("/") + 1));
    // A wrapper script such as c99 may do anything with its arguments.
    if (family === null || !this.#isProgram(resolved)) return null;
    return { path, resolved, family };
  }

  #isExecutable(path: ByteString): boolean {
    const found = statSync(bytesOf((this.#rootfs + path) as ByteString), { throwIfNoEntry: false });
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
