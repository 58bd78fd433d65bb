// Who uses an image of this machine, and when it was used last, so that nobody takes it away meanwhile. A lease is a file that its process
// keeps locked; one whose process is gone, or that nobody renewed for a day, holds nothing. Processes of many kinds share the folder.
import { randomBytes } from "node:crypto";
import { closeSync, constants, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type FileLock, isLocked, tryLock } from "../base/system/file-lock.ts";
import { type Digest, digestHex } from "../core/digest/digest.ts";

/** What is kept of an image beside its files; its file's time is that of the last use. */
export interface ImageRecord {
  /** The name that it was pulled by; null for one that was made or imported here, which nothing would bring back. */
  readonly pulledAs: string | null;
  readonly pinned: boolean;
}

/** A lease is renewed at most so often, and holds for so long without. */
const RENEW_MS = 10 * 60_000;
const HOLD_MS = 24 * 60 * 60_000;
const LEASE = /^[0-9a-f]{64}\.[0-9a-f]{12}$/;
const BELOW_ROOTFS = /^\/([0-9a-f]{64})(?:\/|$)/;
const BELOW_ANY_ROOTFS = /\/rootfs\/([0-9a-f]{64})(?:\/|$)/;
const NO_RECORD: ImageRecord = { pulledAs: null, pinned: false };

export class ImageLeases {
  readonly #folder: string;
  /** Leases of this process by image, and when each was renewed last. */
  readonly #own = new Map<Digest, { readonly path: string; readonly lock: FileLock; renewedMs: number }>();

  /** `folder` is that of the images. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Holds an image for this process, or renews that. */
  async hold(digest: Digest): Promise<void> {
    const nowMs = Date.now();
    const own = this.#own.get(digest);
    if (own !== undefined && nowMs - own.renewedMs < RENEW_MS) return;
    if (own === undefined) {
      // At once, so that of several who ask one holds it.
      mkdirSync(this.#at("leases"), { recursive: true });
      const path = join(this.#at("leases"), `${digestHex(digest)}.${randomBytes(6).toString("hex")}`);
      let lock: FileLock | null = null;
      // Whoever looks whether it is held has it himself for a moment.
      while (lock === null) lock = tryLock(path);
      this.#own.set(digest, { path, lock, renewedMs: nowMs });
    } else {
      own.renewedMs = nowMs;
      const now = new Date(nowMs);
      await utimes(own.path, now, now).catch(() => this.release(digest));
    }
    await this.used(digest);
  }

  /** Lets an image go. */
  async release(digest: Digest): Promise<void> {
    const own = this.#own.get(digest);
    this.#own.delete(digest);
    if (own === undefined) return;
    await rm(own.path, { force: true });
    own.lock.release();
  }

  /** Images that somebody holds, or has mounted; leases of processes that are gone are removed. */
  async held(): Promise<ReadonlySet<string>> {
    const held = mountedImages(join(this.#folder, "rootfs"));
    for (const name of await readdir(this.#at("leases")).catch(() => [])) {
      const path = join(this.#at("leases"), name);
      if (await isLapsed(path, name)) await rm(path, { force: true });
      else if (isLocked(path) || !(await removeUnlocked(path))) held.add(name.slice(0, 64));
    }
    return held;
  }

  /** Notes that an image was used. */
  async used(digest: Digest): Promise<void> {
    const now = new Date();
    await utimes(this.recordPath(digestHex(digest)), now, now).catch(() => undefined);
  }

  async record(hex: string): Promise<ImageRecord & { readonly usedMs: number | null }> {
    const path = this.recordPath(hex);
    try {
      const [text, { mtimeMs }] = [await readFile(path, "utf8"), await stat(path)];
      const { pulledAs, pinned } = JSON.parse(text) as Record<string, unknown>;
      return { pulledAs: typeof pulledAs === "string" ? pulledAs : null, pinned: pinned === true, usedMs: mtimeMs };
    } catch {
      return { ...NO_RECORD, usedMs: null };
    }
  }

  async keepRecord(digest: Digest, change: Partial<ImageRecord>): Promise<void> {
    const { pulledAs, pinned } = await this.record(digestHex(digest));
    const path = this.recordPath(digestHex(digest));
    await mkdir(this.#at("uses"), { recursive: true });
    const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
    await writeFile(temporary, JSON.stringify({ pulledAs, pinned, ...change }));
    await rename(temporary, path);
  }

  recordPath(hex: string): string {
    return join(this.#at("uses"), `${hex}.json`);
  }

  #at(name: "leases" | "uses"): string {
    return join(this.#folder, name);
  }
}

/** Whether a lease counts for nothing, whoever holds it; or is none. */
async function isLapsed(path: string, name: string): Promise<boolean> {
  const found = LEASE.test(name) ? await stat(path).catch(() => null) : null;
  return found === null || Date.now() - found.mtimeMs > HOLD_MS;
}

/** Takes the file away while it is locked: who is just taking it finds that it is gone, and takes another. False where somebody has it by now. */
async function removeUnlocked(path: string): Promise<boolean> {
  const lock = tryLock(path);
  if (lock === null) return false;
  await rm(path, { force: true });
  lock.release();
  return true;
}

/**
 * Images of a folder whose unpacked roots a process that can be seen has mounted: a shell of `hpcc run` may outlive the daemon that held its
 * image.
 */
function mountedImages(folder: string): Set<string> {
  const namespaces = new Set<string>();
  const mounted = new Set<string>();
  const place = placeOf(folder);
  for (const name of readdirSync("/proc").filter((entry) => /^[0-9]+$/.test(entry)))
    try {
      const namespace = readlinkSync(`/proc/${name}/ns/mnt`);
      if (namespaces.has(namespace)) continue;
      for (const mount of mountsOf(name)) {
        const hex = mountedImage(mount, place);
        if (hex !== undefined) mounted.add(hex);
      }
      namespaces.add(namespace);
    } catch {
      // It is gone, or somebody else's.
    }
  return mounted;
}

/** Where it is not known which folder is meant, the image may be that of any. */
function mountedImage({ device, root }: Place, folder: Place | null): string | undefined {
  if (folder === null) return BELOW_ANY_ROOTFS.exec(root)?.[1];
  if (device !== folder.device || !root.startsWith(folder.root)) return undefined;
  return BELOW_ROOTFS.exec(root.slice(folder.root.length))?.[1];
}

/** A file system, and a path in it: the same for all processes, wherever each has it mounted. */
interface Place {
  readonly device: string;
  readonly root: string;
}

/** Where a folder is; null where that cannot be told: in a chroot the mount that it is on may not be listed. */
function placeOf(folder: string): Place | null {
  let descriptor: number | null = null;
  try {
    descriptor = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    const id = /^mnt_id:\s*([0-9]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "latin1"))?.[1];
    const path = readlinkSync(`/proc/self/fd/${descriptor}`, "latin1");
    const mount = mountsOf("self").find((one) => one.id === id);
    if (mount === undefined) return null;
    return { device: mount.device, root: joined(mount.root, path.slice(mount.point === "/" ? 0 : mount.point.length)) };
  } catch {
    return null;
  } finally {
    if (descriptor !== null) closeSync(descriptor);
  }
}

function joined(root: string, rest: string): string {
  return root === "/" ? rest : root + rest;
}

/** What a process has mounted; paths as bytes. */
function mountsOf(process: string): (Place & { readonly id: string; readonly point: string })[] {
  const lines = readFileSync(`/proc/${process}/mountinfo`, "latin1").trimEnd().split("\n");
  return lines.map((line) => {
    const [id = "", , device = "", root = "", point = ""] = line.split(" ").map(unescaped);
    return { id, device, root, point };
  });
}

function unescaped(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
