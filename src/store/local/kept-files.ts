// The whole files of the local store, by digest. Each bears a time of change that follows from its digest and size: whoever writes to it
// changes that time, within one tick of the clock too. Inode and time of status change are remembered; what differs in any of them is hashed.
import type { BigIntStats } from "node:fs";
import { constants } from "node:fs";
import { type FileHandle, lstat, open, rm } from "node:fs/promises";
import { type ByteString, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex, sha256 } from "../../core/digest/digest.ts";
import { type DiskFiles, isMissing } from "../disk/disk-files.ts";
import { digestOfFile } from "./file-digest.ts";
import type { KeptFile } from "./local-store.ts";
import type { KeptStamp } from "./record-codec.ts";

export const FILES_AREA = "files";
/** Marks lie in these years, so that no file that is written now has one by chance; whole even seconds, for coarse file systems. */
const MARK_FROM_MS = Date.UTC(1980);
const MARK_TO_MS = Date.UTC(2020);
const MARK_STEP_MS = 2_000;
const STAMPS_MAX = 20_000;
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

export interface KeptFilesOptions {
  readonly files: DiskFiles;
  readonly clock: Clock;
  readonly fileBytesMax: number;
  readonly grew: (bytes: number) => void;
  readonly damaged: (digest: Digest, problem: string) => void;
}

interface Known extends KeptStamp {
  /** False for what a record says. */
  readonly verified: boolean;
}

export class KeptFiles {
  readonly #options: KeptFilesOptions;
  readonly #known = new Map<Digest, Known>();

  constructor(options: KeptFilesOptions) {
    this.#options = options;
  }

  async keepFile(path: ByteString): Promise<KeptFile> {
    const source = await open(bytesOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const info = await source.stat();
      if (!info.isFile()) throw new HpccError("store.io", "only a regular file can be kept");
      this.#checkSize(info.size);
      return (await this.#keepCopy(source, null))!;
    } finally {
      await source.close();
    }
  }

  async keepBytes(bytes: Uint8Array): Promise<KeptFile> {
    this.#checkSize(bytes.length);
    const digest = sha256(bytes);
    const kept = await this.find(digest);
    if (kept !== null) return kept;
    await this.#options.files.create(
      false,
      async (file) => {
        await file.append(bytes);
        await file.times(this.#options.clock.wallMs(), markOf(digest, bytes.length));
        return this.#path(digest);
      },
      (handle) => this.#placed(digest, handle),
    );
    return this.#keptFile(digest, bytes.length);
  }

  async find(digest: Digest): Promise<KeptFile | null> {
    const path = this.#path(digest);
    const info = await lstat(path, { bigint: true }).catch(nullWhenMissing);
    if (info === null) return null;
    if (hasMark(digest, info) && sameStamp(this.#known.get(digest), info))
      return this.#keptFile(digest, Number(info.size));
    const verified = info.isFile() ? await this.#verify(digest, path) : { problem: "it is no regular file" };
    if (verified === "whole") return this.#keptFile(digest, Number(info.size));
    this.#known.delete(digest);
    if (verified === "gone") return null;
    await rm(path, { recursive: true, force: true });
    this.#options.damaged(digest, verified.problem);
    return null;
  }

  /** What a record says of a file: believed unless more is known. */
  believe(digest: Digest, stamp: KeptStamp): void {
    if (this.#known.get(digest)?.verified !== true) this.#remember(digest, stamp, false);
  }

  /** The stamp of a file as it is now; null when it is not there, or not whole. */
  async stampOf(digest: Digest): Promise<KeptStamp | null> {
    return (await this.find(digest)) === null ? null : (this.#known.get(digest) ?? null);
  }

  /** With `wanted`, a file of other bytes is not kept, and one that is there is replaced; null then. */
  async #keepCopy(source: FileHandle, wanted: Digest | null): Promise<KeptFile | null> {
    let kept: KeptFile | null = null;
    await this.#options.files.createCopy(
      source,
      async (copy) => {
        const { size } = await copy.stat();
        // Of the copy: the source may change while it is copied.
        const digest = await digestOfFile(copy, size);
        if (wanted !== null && digest !== wanted) return null;
        if (wanted === null) kept = await this.find(digest);
        if (kept !== null) return null;
        await copy.utimes(this.#options.clock.wallMs() / 1000, markOf(digest, size) / 1000);
        kept = this.#keptFile(digest, size);
        return this.#path(digest);
      },
      (copy) => this.#placed(kept!.digest, copy),
    );
    return kept;
  }

  async #placed(digest: Digest, handle: FileHandle): Promise<void> {
    const info = await handle.stat({ bigint: true });
    this.#remember(digest, info, true);
    this.#options.grew(Number(info.size));
  }

  /** Reads a file of which nothing is known. */
  async #verify(digest: Digest, path: string): Promise<"whole" | "gone" | { readonly problem: string }> {
    const handle = await open(path, OPEN_FLAGS).catch(nullWhenMissing);
    if (handle === null) return "gone";
    try {
      const before = await handle.stat({ bigint: true });
      const wrong = { problem: "its bytes are not those of its digest" };
      // Its mark is not set again in place: that would hide what is written to it meanwhile.
      if (!hasMark(digest, before))
        return before.isFile() && (await this.#keepCopy(handle, digest)) !== null ? "whole" : wrong;
      if ((await digestOfFile(handle, Number(before.size))) !== digest) return wrong;
      const after = await handle.stat({ bigint: true });
      if (!hasMark(digest, after)) return { problem: "it was written to while it was read" };
      // Removed or replaced by another process.
      if (after.ctimeNs !== before.ctimeNs) return "gone";
      this.#remember(digest, after, true);
      return "whole";
    } finally {
      await handle.close();
    }
  }

  #remember(digest: Digest, { ino, ctimeNs }: KeptStamp, verified: boolean): void {
    this.#known.delete(digest);
    this.#known.set(digest, { ino, ctimeNs, verified });
    if (this.#known.size <= STAMPS_MAX) return;
    const [oldest] = this.#known.keys();
    this.#known.delete(oldest!);
  }

  #checkSize(sizeBytes: number): void {
    if (sizeBytes > this.#options.fileBytesMax)
      throw new HpccError("limit.exceeded", `a file is larger than ${this.#options.fileBytesMax} bytes`);
  }

  #path(digest: Digest): string {
    return this.#options.files.path(FILES_AREA, digestHex(digest));
  }

  #keptFile(digest: Digest, sizeBytes: number): KeptFile {
    return { digest, sizeBytes, path: byteStringOfText(this.#path(digest)) };
  }
}

/** The time of change of a kept file, in milliseconds since 1970. */
export function markOf(digest: Digest, sizeBytes: number): number {
  const start = Number.parseInt(digestHex(digest).slice(0, 8), 16);
  return MARK_FROM_MS + MARK_STEP_MS * ((start + sizeBytes) % ((MARK_TO_MS - MARK_FROM_MS) / MARK_STEP_MS));
}

function hasMark(digest: Digest, info: BigIntStats): boolean {
  return info.isFile() && info.mtimeNs === BigInt(markOf(digest, Number(info.size))) * 1_000_000n;
}

function sameStamp(known: KeptStamp | undefined, info: KeptStamp): boolean {
  return known !== undefined && known.ino === info.ino && known.ctimeNs === info.ctimeNs;
}

function nullWhenMissing(error: unknown): null {
  if (isMissing(error) || (error as NodeJS.ErrnoException).code === "ENOTDIR") return null;
  throw error;
}
