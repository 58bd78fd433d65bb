// The image unpacked once on the client, for the driver `namespace`: out of its squashfs, so that the rules of the flattened
// tree hold here too. No device nodes and no set-user-id bits are in it, so a plain user can do it.
import { randomBytes } from "node:crypto";
import { lstat, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ByteString, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";
import { imageLock, withLock } from "./folder-lock.ts";
import type { OciImage } from "./layout.ts";
import { contentsDigest, firstDifference, readRootContents, readRootStamp } from "./root-contents.ts";
import { contentsPath, ensureSquashfs } from "./squashfs.ts";
import { runTool } from "./tool-process.ts";

/** Path of an image's unpacked root below `imageFolder`, whether it is there or not. */
export function rootfsPath(imageFolder: string, image: Pick<OciImage, "digest">): string {
  return join(imageFolder, "rootfs", digestHex(image.digest));
}

/** The unpacked root of an image, made when it is not there; safe to call from several processes. */
export async function ensureRootfs(image: OciImage, imageFolder: string): Promise<string> {
  const path = rootfsPath(imageFolder, image);
  if (await isFolder(path)) return path;
  await mkdir(join(imageFolder, "rootfs"), { recursive: true });
  return withLock(imageLock(imageFolder, `${digestHex(image.digest)}.rootfs`), async () => {
    if (!(await isFolder(path))) await unpack(image, { imageFolder, path });
    return path;
  });
}

async function unpack(image: OciImage, to: { readonly imageFolder: string; readonly path: string }): Promise<void> {
  const squashfs = await ensureSquashfs(image, to.imageFolder);
  const temporary = `${to.path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const args = ["-d", temporary, "-no-xattrs", "-no-progress", "-quiet", "-strict-errors", squashfs.path];
    const result = await runTool("unsquashfs", args, "squashfs-tools");
    if (result.exitCode !== 0)
      throw new HpccError("store.io", `unsquashfs could not unpack ${image.digest}: ${result.stderr}`);
    // The rename must not reach the disk before the files.
    await runTool("sync", ["-f", temporary], "coreutils");
    await rename(temporary, to.path).catch(async (error: NodeJS.ErrnoException) => {
      if (!(await isFolder(to.path))) throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/**
 * Checks that an unpacked root holds what its image does, and gives the digest of that. By times and sizes where it was checked before,
 * else by reading everything. Throws `image.altered`, which names a path that differs.
 */
export async function checkRootfs(image: OciImage, imageFolder: string, thoroughly = false): Promise<Digest> {
  const root = rootfsPath(imageFolder, image);
  const { contents } = await ensureSquashfs(image, imageFolder);
  const checked = `${root}.checked`;
  const stamp = await readRootStamp(root);
  const known = await readFile(checked, "latin1").catch(() => "");
  if (!thoroughly && known === `${stamp} ${contents}`) return contents;
  const found = await readRootContents(root);
  if (contentsDigest(found) !== contents) {
    const path = firstDifference(await readFile(contentsPath(imageFolder, image), "latin1"), found);
    throw new HpccError(
      "image.altered",
      `the unpacked image ${image.digest} is not what it was: ${displayText(path as ByteString)} differs, below ${root}`,
    );
  }
  const temporary = `${checked}.${randomBytes(6).toString("hex")}.tmp`;
  await writeFile(temporary, `${stamp} ${contents}`).then(
    () => rename(temporary, checked),
    () => undefined,
  );
  return contents;
}

async function isFolder(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
