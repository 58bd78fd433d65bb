// An image's read-only root file system: layers are flattened into a pipe and packed into squashfs, never unpacked onto
// the host. A stamp beside the file says which image it came from and what its bytes are.
import { createHash, randomBytes } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex, isDigest } from "../core/digest/digest.ts";
import { type FlattenOptions, flattenImage } from "./flatten.ts";
import { imageLock, withLock } from "./folder-lock.ts";
import type { OciImage } from "./layout.ts";
import { contentsDigest } from "./root-contents.ts";
import { IMAGE_MTIME_SECONDS } from "./tar-encode.ts";
import { startTool } from "./tool-process.ts";

/** Changes when the same image would give other bytes. */
export const SQUASHFS_FORMAT = 2;
const MTIME = String(IMAGE_MTIME_SECONDS);

/** Reads tar from standard input. Its sibling sqfstar 4.5 refuses every compression option. */
const PACKER = "mksquashfs";
const PACKER_ARGUMENTS = [
  ["-tar", "-comp", "zstd", "-Xcompression-level", "6", "-b", "128K"],
  ["-mkfs-time", MTIME, "-all-time", MTIME, "-root-time", MTIME],
  ["-all-root", "-root-mode", "755", "-no-xattrs", "-mem", "256M"],
  ["-exit-on-error", "-no-progress", "-quiet"],
].flat();

export interface SquashfsFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Of the file system's bytes. */
  readonly digest: Digest;
  /** Of what it holds (root-contents.ts): the same wherever it was packed, and by what. */
  readonly contents: Digest;
}

/** File with what an image's root holds, as `rootContents` tells it. */
export function contentsPath(imageFolder: string, image: Pick<OciImage, "digest">): string {
  return `${squashfsPath(imageFolder, image)}.contents`;
}

/** Path of an image's packed root below `imageFolder`, whether it is there or not. */
export function squashfsPath(imageFolder: string, image: Pick<OciImage, "digest">): string {
  return join(imageFolder, "squashfs", `${digestHex(image.digest)}.sqfs`);
}

/** The root file system of an image below `imageFolder`, made when it is not there or not whole. */
export async function ensureSquashfs(
  image: OciImage,
  imageFolder: string,
  options: FlattenOptions = {},
): Promise<SquashfsFile> {
  await mkdir(join(imageFolder, "squashfs"), { recursive: true });
  const path = squashfsPath(imageFolder, image);
  const lock = imageLock(imageFolder, `${digestHex(image.digest)}.sqfs`);
  return withLock(lock, async () => (await verified(path, image)) ?? (await make(path, image, options)));
}

/** Digest of what an image's packed root holds, as far as it was made; not checked. */
export async function knownContents(imageFolder: string, image: Pick<OciImage, "digest">): Promise<Digest | null> {
  try {
    const stamp = JSON.parse(await readFile(`${squashfsPath(imageFolder, image)}.json`, "utf8")) as {
      contents?: unknown;
    };
    return typeof stamp.contents === "string" && isDigest(stamp.contents) ? stamp.contents : null;
  } catch {
    return null;
  }
}

/** Files that this process has found whole, by path: what they were, and how they looked. */
const whole = new Map<string, { readonly stamp: string; readonly file: SquashfsFile }>();
/** A file that changed so shortly before may change again and look the same. */
const RACY_MS = 100;

/** The file, if it is there and whole. Its bytes are read where this process has not done so since it changed last. */
async function verified(path: string, image: OciImage): Promise<SquashfsFile | null> {
  try {
    const { stamp, changedMs } = await lookAt(path);
    const known = whole.get(path);
    if (known?.stamp === stamp) return known.file;
    whole.delete(path);
    const readMs = Date.now();
    const file = await readWhole(path, image);
    if (file !== null && changedMs + RACY_MS < readMs) whole.set(path, { stamp, file });
    return file;
  } catch {
    whole.delete(path);
    return null;
  }
}

/** How the file and what belongs to it look. */
async function lookAt(path: string): Promise<{ readonly stamp: string; readonly changedMs: number }> {
  const found = await Promise.all([path, `${path}.json`, `${path}.contents`].map((one) => stat(one, { bigint: true })));
  const fields = found.flatMap(({ dev, ino, size, ctimeNs, mtimeNs }) => [dev, ino, size, ctimeNs, mtimeNs]);
  return { stamp: fields.join(" "), changedMs: Math.max(...found.map(({ ctimeMs }) => Number(ctimeMs))) };
}

async function readWhole(path: string, image: OciImage): Promise<SquashfsFile | null> {
  const stamp: unknown = JSON.parse(await readFile(`${path}.json`, "utf8"));
  const { size: sizeBytes } = await stat(path);
  const [digest, contents] = [await fileDigest(path), await fileDigest(`${path}.contents`)];
  const wanted = { format: SQUASHFS_FORMAT, image: image.digest, sizeBytes, digest, contents };
  return JSON.stringify(stamp) === JSON.stringify(wanted) ? { path, sizeBytes, digest, contents } : null;
}

async function make(path: string, image: OciImage, options: FlattenOptions): Promise<SquashfsFile> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  let contents = "";
  const packed = { ...options, onContents: (text: string) => (contents = text) };
  const { child, ended } = startTool(PACKER, ["-", temporary, ...PACKER_ARGUMENTS], "squashfs-tools");
  try {
    const [fed, result] = await Promise.allSettled([
      pipeline(Readable.from(flattenImage(image, packed), { objectMode: false }), child.stdin!).catch(
        (error: unknown) => {
          // A packer that was killed leaves no file that looks finished.
          child.kill("SIGKILL");
          throw error;
        },
      ),
      ended,
    ]);
    if (result.status === "rejected") throw result.reason;
    if (fed.status === "rejected" && fed.reason instanceof HpccError) throw fed.reason;
    if (fed.status === "rejected" || result.value.exitCode !== 0)
      throw new HpccError("store.io", `${PACKER} could not pack ${image.digest}: ${result.value.stderr}`, {
        cause: fed.status === "rejected" ? fed.reason : undefined,
      });
    const file = await open(temporary, "r");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    const { size: sizeBytes } = await stat(temporary);
    const digest = await fileDigest(temporary);
    await rename(temporary, path);
    await writeFile(`${temporary}.contents`, contents, "latin1");
    await rename(`${temporary}.contents`, `${path}.contents`);
    const stamp = {
      format: SQUASHFS_FORMAT,
      image: image.digest,
      sizeBytes,
      digest,
      contents: contentsDigest(contents),
    };
    await writeFile(`${temporary}.json`, JSON.stringify(stamp));
    await rename(`${temporary}.json`, `${path}.json`);
    return { path, sizeBytes, digest, contents: stamp.contents };
  } finally {
    await rm(temporary, { force: true });
  }
}

async function fileDigest(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), hash);
  return `sha256:${hash.digest("hex")}` as Digest;
}
