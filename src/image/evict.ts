// Keeps the folder of images below a size: those that were pulled, and that nobody uses, go with all that was made of them, the longest
// unused first. An image vanishes by one rename; what a crash leaves of it is removed by whoever comes next.
import { randomBytes } from "node:crypto";
import { lstat, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { imageLock, withLock } from "./folder-lock.ts";
import type { ImageLeases } from "./image-leases.ts";
import { runTool } from "./tool-process.ts";

/** What an image takes, and what keeps it. */
export interface ImageUse {
  readonly digest: Digest;
  /** Its layout, and the root file systems that were made of it; layers that several images share count for each. */
  readonly bytes: number;
  /** Null where it is not known. */
  readonly usedMs: number | null;
  readonly pulledAs: string | null;
  readonly pinned: boolean;
  readonly inUse: boolean;
}

export interface EvictOptions {
  /** Size of all images together at which the longest unused go. */
  readonly bytesMax: number;
  /** One that was used within this time stays. */
  readonly keepMs: number;
  /** Say what would go, and leave it. */
  readonly dryRun?: boolean;
  readonly leases: ImageLeases;
}

export interface EvictReport {
  /** Of all images together, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  readonly evicted: readonly ImageUse[];
}

const HEX = /^([0-9a-f]{64})(?:\.sqfs)?$/;
const HEADERS = /^[0-9a-f]{64}\.[0-9]+$/;
const GONE = /^\.evict-/;

/** By device and inode, so that hard links count once. */
type Files = ReadonlyMap<string, number>;
type Measured = ImageUse & { readonly hex: string; readonly files: Files };

/** Who holds this takes no image away, and nobody else does; to hold an image takes it for a moment. */
export function withEvictLock<T>(folder: string, make: () => Promise<T>): Promise<T> {
  return withLock(imageLock(folder, "evict"), make);
}

/** What each image takes, the longest unused first. */
export async function imageUses(folder: string, leases: ImageLeases): Promise<ImageUse[]> {
  return (await measure(folder, leases)).map(({ hex: _hex, files: _files, ...use }) => use);
}

export async function evictImages(folder: string, options: EvictOptions): Promise<EvictReport> {
  const { bytesMax, keepMs, leases, dryRun = false } = options;
  await mkdir(folder, { recursive: true });
  const report = await withEvictLock(folder, async () => {
    let left = await measure(folder, leases);
    const bytesBefore = total(left);
    const unusedSinceMs = Date.now() - keepMs;
    const evicted: ImageUse[] = [];
    for (const image of left) {
      if (total(left) <= bytesMax) break;
      const { hex, files: _files, ...use } = image;
      const mayGo = use.pulledAs !== null && !use.pinned && !use.inUse && (use.usedMs ?? 0) <= unusedSinceMs;
      if (!mayGo) continue;
      if (!dryRun) await setAside(folder, hex, leases);
      left = left.filter((other) => other !== image);
      evicted.push(use);
    }
    return { bytesBefore, bytesAfter: total(left), evicted };
  });
  if (!dryRun) await removeSetAside(folder);
  return report;
}

function total(images: readonly Measured[]): number {
  const files = new Map<string, number>();
  for (const image of images) for (const [name, bytes] of image.files) files.set(name, bytes);
  return [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
}

async function measure(folder: string, leases: ImageLeases): Promise<Measured[]> {
  const held = await leases.held();
  const names = new Set<string>();
  for (const part of ["oci", "squashfs", "rootfs"])
    for (const name of await readdir(join(folder, part)).catch(() => [])) {
      const hex = HEX.exec(name)?.[1];
      if (hex !== undefined) names.add(hex);
    }
  const found: Measured[] = [];
  for (const hex of names) {
    const files = await filesOf(folder, hex);
    const bytes = [...files.values()].reduce((sum, size) => sum + size, 0);
    const record = await leases.record(hex);
    found.push({ hex, digest: `sha256:${hex}` as Digest, files, bytes, inUse: held.has(hex), ...record });
  }
  return found.sort((a, b) => (a.usedMs ?? 0) - (b.usedMs ?? 0) || (a.hex < b.hex ? -1 : 1));
}

async function filesOf(folder: string, hex: string): Promise<Files> {
  const files = new Map<string, number>();
  const add = async (path: string) => {
    const found = await lstat(path).catch(() => null);
    if (found?.isFile() === true) files.set(`${found.dev} ${found.ino}`, found.size);
  };
  const blobs = join(folder, "oci", hex, "blobs/sha256");
  for (const name of await readdir(blobs).catch(() => [])) await add(join(blobs, name));
  await add(join(folder, "squashfs", `${hex}.sqfs`));
  const headers = (await headersOf(folder, hex)).filter((name) => HEADERS.test(name));
  for (const tree of [join(folder, "rootfs", hex), ...headers.map((name) => join(folder, "headers", name))]) {
    const unpacked = await lstat(tree).catch(() => null);
    if (unpacked?.isDirectory() === true)
      files.set(`${unpacked.dev} ${unpacked.ino}`, await treeBytes(tree, unpacked.ino));
  }
  return files;
}

/** Names of all that there is of an image's stripped headers. */
async function headersOf(folder: string, hex: string): Promise<string[]> {
  return (await readdir(join(folder, "headers")).catch(() => [])).filter((name) => name.startsWith(`${hex}.`));
}

/** Measured once: nobody writes into an unpacked image. */
async function treeBytes(tree: string, ino: number): Promise<number> {
  const kept = `${tree}.size`;
  const [knownIno, knownBytes] = (await readFile(kept, "latin1").catch(() => "")).split(" ").map(Number);
  if (knownIno === ino && Number.isSafeInteger(knownBytes)) return knownBytes!;
  const { stdout } = await runTool("du", ["-s", "-B1", tree], "coreutils");
  const bytes = Number(/^[0-9]+/.exec(stdout.toString("latin1"))?.[0] ?? 0);
  await writeFile(kept, `${ino} ${bytes}`).catch(() => undefined);
  return bytes;
}

/** Takes an image out of sight, its layout first: without one it is not here. Its record goes last, so that a crash leaves a sign. */
async function setAside(folder: string, hex: string, leases: ImageLeases): Promise<void> {
  const away = `.evict-${hex}-${randomBytes(6).toString("hex")}`;
  const headers = await headersOf(folder, hex);
  for (const [part, name] of [
    ["oci", hex],
    ["rootfs", hex],
    ["squashfs", `${hex}.sqfs.json`],
    ["squashfs", `${hex}.sqfs.contents`],
    ["squashfs", `${hex}.sqfs`],
    ["signatures", `${hex}.json`],
    ...headers.map((name) => ["headers", name] as const),
  ] as const)
    await rename(join(folder, part, name), join(folder, part, `${away}-${name.slice(64)}`)).catch(ignoreAbsent);
  for (const kept of ["size", "checked"]) await rm(join(folder, "rootfs", `${hex}.${kept}`), { force: true });
  await rm(leases.recordPath(hex), { force: true });
}

/** Removes what was taken out of sight, also by those who did not come to this. */
async function removeSetAside(folder: string): Promise<void> {
  for (const part of ["oci", "rootfs", "headers", "squashfs", "signatures"])
    for (const name of await readdir(join(folder, part)).catch(() => [])) {
      if (!GONE.test(name)) continue;
      const path = join(folder, part, name);
      // Folders of an image may be closed to their owner.
      if (part === "rootfs" || part === "headers") await runTool("chmod", ["-R", "u+rwX", path], "coreutils");
      await rm(path, { recursive: true, force: true });
    }
}

function ignoreAbsent(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}

/** Makes room for an image that comes. Throws `limit.exceeded` where too much of what is here must stay. */
export async function makeRoom(folder: string, bytes: number, options: EvictOptions): Promise<EvictReport> {
  const bytesMax = Math.max(0, options.bytesMax - bytes);
  const { bytesAfter } = await evictImages(folder, { ...options, bytesMax, dryRun: true });
  if (bytesAfter > bytesMax)
    throw new HpccError(
      "limit.exceeded",
      `an image of ${bytes} bytes does not fit: images here may take ${options.bytesMax} bytes, and ${bytesAfter} are in use or kept`,
      { hint: "Raise the limit, or take images away that are not needed: `hpcc image ls` shows them." },
    );
  return evictImages(folder, { ...options, bytesMax });
}
