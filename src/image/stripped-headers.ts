// An image's include folders with their headers stripped: what compilers are shown when they only list the files that a call reads. Made once
// for an image, beside its unpacked root, and shown at the same paths. A folder is whole or not there: its files reach the disk before its
// name does, and a stamp tells whether anything in it changed since. UNTRUSTED: the image's files and links.
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { ascii, type ByteString, byteStringOf, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import { STRIPPED_VERSION, strippedHeader } from "../core/compile/view/stripped-header.ts";
import { type Digest, digestHex, sha256 } from "../core/digest/digest.ts";
import { imageLock, withLock } from "./folder-lock.ts";
import { resolveInImage } from "./image-path.ts";
import { readRootStamp } from "./root-contents.ts";
import { runTool } from "./tool-process.ts";

export interface StrippedHeaders {
  /** Host path of the folder that they lie below. */
  readonly root: string;
  /** Folders to be shown in place of the image's, absolute in it, sorted. */
  readonly folders: readonly ByteString[];
  /** Another one when they were made anew. */
  readonly stamp: string;
}

/** Where compilers that are found in images have headers; `*` is any one name. A folder that they read elsewhere is shown as it is. */
const INCLUDE_FOLDERS = [
  "usr/include",
  // Of other targets, and `usr/local`.
  "usr/*/include",
  ...["usr", "usr/local"].flatMap((prefix) =>
    ["lib", "lib64"].flatMap((lib) => [
      ...["gcc", "gcc-cross"].flatMap((gcc) => [
        `${prefix}/${lib}/${gcc}/*/*/include`,
        `${prefix}/${lib}/${gcc}/*/*/include-fixed`,
      ]),
      `${prefix}/${lib}/clang/*/include`,
      `${prefix}/${lib}/*/lib/clang/*/include`,
      `${prefix}/${lib}/*/include`,
    ]),
  ),
];
const FILES_MAX = 100_000;
const BYTES_MAX = 2 * 1024 * 1024 * 1024;
/** A larger file is no header that somebody wrote. */
const HEADER_BYTES_MAX = 16 * 1024 * 1024;
const FILES_AT_ONCE = 8;

/** Below the folder of images, where all that begins with an image's digest goes with it. Ends in the version, so that headers of another hpcc's stripping are none of ours. */
function pathOf(imageFolder: string, image: Digest): string {
  return join(imageFolder, "headers", `${digestHex(image)}.${STRIPPED_VERSION}`);
}

/**
 * The stripped headers of an image that is unpacked at `rootfs`, made when they are not there, without holding up this process for long; safe to
 * call from several ones. Null where there is nothing to strip, or more than is worth it.
 */
export async function ensureStrippedHeaders(
  image: Digest,
  { rootfs, imageFolder }: { readonly rootfs: string; readonly imageFolder: string },
): Promise<StrippedHeaders | null> {
  const path = pathOf(imageFolder, image);
  const known = await whole(path);
  if (known !== null) return known;
  await mkdir(join(imageFolder, "headers"), { recursive: true });
  return withLock(imageLock(imageFolder, `${digestHex(image)}.headers`), async () => {
    const meanwhile = await whole(path);
    if (meanwhile !== null) return meanwhile;
    const temporary = () => `${path}.${randomBytes(6).toString("hex")}.tmp`;
    // It was altered. Who shows it still goes on seeing it, until the image goes.
    await rename(path, temporary()).catch(ignoreAbsent);
    const made = temporary();
    try {
      const found = await new Stripping(byteStringOfText(rootfs), byteStringOfText(made)).run();
      if (!found) return null;
      await runTool("sync", ["-f", made], "coreutils");
      await rename(made, path);
    } finally {
      await rm(made, { recursive: true, force: true });
    }
    const stamp = temporary();
    await writeFile(stamp, await readRootStamp(path));
    await rename(stamp, `${path}.stamp`);
    return whole(path);
  });
}

/** Null when they are not there, or not what they were when they were made. */
async function whole(path: string): Promise<StrippedHeaders | null> {
  const stamp = await readFile(`${path}.stamp`, "latin1").catch(() => null);
  if (stamp === null) return null;
  const found = await readRootStamp(path).catch(() => null);
  return stamp === found ? { root: path, folders: includeFolders(byteStringOfText(path)), stamp } : null;
}

/** Folders below a root that compilers have headers in; none that is reached through a link. */
function includeFolders(root: ByteString): ByteString[] {
  const found = new Set<ByteString>();
  for (const pattern of INCLUDE_FOLDERS) {
    let folders = [ascii("")];
    for (const part of pattern.split("/"))
      folders = folders.flatMap((folder) =>
        (part === "*" ? foldersIn(root, folder) : [part]).map((name) => `${folder}/${name}` as ByteString),
      );
    for (const folder of folders)
      if (resolveInImage(root, folder) === folder && statusOf(root, folder).isDirectory()) found.add(folder);
  }
  const isInner = (folder: string) => [...found].some((outer) => folder.startsWith(`${outer}/`));
  return [...found].filter((folder) => !isInner(folder)).sort();
}

function foldersIn(root: ByteString, folder: ByteString): string[] {
  if (resolveInImage(root, folder) !== folder || !statusOf(root, folder).isDirectory()) return [];
  return readdirSync(bytesOf((root + folder) as ByteString), { withFileTypes: true, encoding: "buffer" })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => byteStringOf(name));
}

function statusOf(root: ByteString, path: ByteString): Stats {
  return lstatSync(bytesOf((root + path) as ByteString));
}

class Stripping {
  readonly #from: ByteString;
  readonly #to: ByteString;
  /** The first of several names of one file: Clang tells files apart by their numbers. */
  readonly #linked = new Map<string, ByteString>();
  #files = 0;
  #bytes = 0;

  constructor(from: ByteString, to: ByteString) {
    this.#from = from;
    this.#to = to;
  }

  /** Whether there was anything, and not too much. */
  async run(): Promise<boolean> {
    const folders = includeFolders(this.#from);
    for (const folder of folders) {
      mkdirSync(this.#made(folder), { recursive: true });
      if (!(await this.#folder(folder))) return false;
    }
    return this.#files > 0;
  }

  #made(path: ByteString): Buffer {
    return bytesOf((this.#to + path) as ByteString);
  }

  async #folder(folder: ByteString): Promise<boolean> {
    const own = bytesOf((this.#from + folder) as ByteString);
    for (const entry of readdirSync(own, { withFileTypes: true, encoding: "buffer" })) {
      const path = `${folder}/${byteStringOf(entry.name)}` as ByteString;
      const from = bytesOf((this.#from + path) as ByteString);
      if (entry.isSymbolicLink()) symlinkSync(readlinkSync(from, { encoding: "buffer" }), this.#made(path));
      else if (entry.isDirectory()) {
        mkdirSync(this.#made(path));
        if (!(await this.#folder(path))) return false;
      } else if (!entry.isFile() || !this.#file(path, from)) return false;
      this.#files += 1;
      if (this.#files > FILES_MAX) return false;
      // Calls go on being answered meanwhile.
      if (this.#files % FILES_AT_ONCE === 0) await setImmediate();
    }
    chmodSync(this.#made(folder), lstatSync(own).mode & 0o777);
    return true;
  }

  #file(path: ByteString, from: Buffer): boolean {
    const { dev, ino, nlink, size, mode, atime, mtime } = lstatSync(from);
    const first = this.#linked.get(`${dev} ${ino}`);
    const to = this.#made(path);
    if (first !== undefined) {
      linkSync(this.#made(first), to);
      return true;
    }
    if (nlink > 1) this.#linked.set(`${dev} ${ino}`, path);
    this.#bytes += size;
    if (this.#bytes > BYTES_MAX) return false;
    const text = size > HEADER_BYTES_MAX ? null : readFileSync(from);
    const stripped = text === null ? null : strippedHeader(text, digestHex(sha256(text)));
    if (stripped === null) copyFileSync(from, to);
    else writeFileSync(to, stripped);
    chmodSync(to, mode & 0o777);
    utimesSync(to, atime, mtime);
    return true;
  }
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
