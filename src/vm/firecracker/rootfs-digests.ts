// Digests of root file systems, each read once: a file that is the same by device, inode, size and times has the same bytes, for
// nobody but the worker writes there.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { HpccError } from "../../base/errors.ts";
import type { Digest } from "../../core/digest/digest.ts";

/** Root file systems that are remembered. */
const FILES_MAX = 256;

export interface RootfsFile {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export class RootfsDigests {
  readonly #known = new Map<string, Promise<RootfsFile>>();

  /** The digest of a file; throws `vm.boot` when it cannot be read. */
  async of(path: string): Promise<RootfsFile> {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true }).catch((cause: unknown) => {
      throw new HpccError("vm.boot", `the root file system ${path} cannot be read`, { cause });
    });
    const identity = [path, dev, ino, size, mtimeNs, ctimeNs].join("\n");
    const known = this.#known.get(identity);
    if (known) return known;
    const read = digestOf(path);
    this.#known.set(identity, read);
    read.catch(() => this.#known.delete(identity));
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= FILES_MAX) break;
      this.#known.delete(oldest);
    }
    return read;
  }
}

async function digestOf(path: string): Promise<RootfsFile> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
      hash.update(chunk);
      sizeBytes += chunk.length;
    }
  } catch (cause) {
    throw new HpccError("vm.boot", `the root file system ${path} cannot be read`, { cause });
  }
  return { digest: `sha256:${hash.digest("hex")}` as Digest, sizeBytes };
}
