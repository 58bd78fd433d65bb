// The image unpacked once on the client, for the driver `namespace`: out of its squashfs, so that the rules of the flattened
// tree hold here too. No device nodes and no set-user-id bits are in it, so a plain user can do it.
import { randomBytes } from "node:crypto";
import { lstat, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { digestHex } from "../core/digest/digest.ts";
import { withLock } from "./folder-lock.ts";
import type { OciImage } from "./layout.ts";
import { ensureSquashfs } from "./squashfs.ts";
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
  return withLock(`${path}.lock`, async () => {
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

async function isFolder(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
