// The images that a worker offers: those of its OCI layouts, and those that it fetched, each turned into a read-only root file system once.
import { existsSync } from "node:fs";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { WantedImage } from "../core/image/fetch-rules.ts";
import { listLayout, type OciImage, readImage } from "../image/layout.ts";
import { ensureSquashfs } from "../image/squashfs.ts";

export interface WorkerImages {
  /** Digests of the images that jobs may name now. */
  readonly digests: readonly Digest[];
  /** Whether jobs may name this image. */
  has(digest: Digest): boolean;
  /** Host path of the image's root file system, made when it is not there. Throws `image.missing`. */
  rootfs(digest: Digest): Promise<string>;
  /** Digest of what that holds, once it is known. */
  contents?(digest: Digest): Digest | null;
  /**
   * Begins to get an image that is not here; all who ask meanwhile get the same promise. Throws, or rejects with, `image.missing` and
   * `image.forbidden` where the worker gets none, and what a registry did. Absent from a worker that fetches nothing.
   */
  fetch?(wanted: WantedImage): Promise<void>;
}

export interface LayoutImagesOptions {
  /** OCI layout folders; all images of this machine's architecture in them are offered. */
  readonly layoutFolders: readonly string[];
  /** Where root file systems are kept. */
  readonly imageFolder: string;
}

/** Refuses to run what is not the same here and on the client. Either side may not know what its root holds. */
export function checkContents(images: WorkerImages, digest: Digest, ofClient: Digest | null): void {
  const own = images.contents?.(digest) ?? null;
  if (own !== null && ofClient !== null && own !== ofClient)
    throw new HpccError(
      "image.differs",
      `the root file system of image ${digest} holds ${own} on this worker, and ${ofClient} on the client`,
    );
}

/** The images of layouts, and others that are added later. */
export class LayoutImages implements WorkerImages {
  readonly #imageFolder: string;
  readonly #images = new Map<Digest, OciImage>();
  readonly #contents = new Map<Digest, Digest>();
  readonly #rootfs = new Map<Digest, Promise<string>>();

  constructor(imageFolder: string) {
    this.#imageFolder = imageFolder;
  }

  get digests(): readonly Digest[] {
    return [...this.#images.keys()];
  }

  has(digest: Digest): boolean {
    return this.#images.has(digest);
  }

  add(image: OciImage): void {
    this.#images.set(image.digest, image);
  }

  /** Offers an image no longer. */
  remove(digest: Digest): void {
    this.#images.delete(digest);
    this.#rootfs.delete(digest);
  }

  contents(digest: Digest): Digest | null {
    return this.#contents.get(digest) ?? null;
  }

  async rootfs(digest: Digest): Promise<string> {
    const image = this.#images.get(digest);
    if (image === undefined) throw new HpccError("image.missing", `the worker has no image ${digest}`);
    let made = this.#rootfs.get(digest);
    // It may have been taken away meanwhile, to be made again.
    if (made !== undefined && !existsSync(await made)) {
      this.#rootfs.delete(digest);
      made = undefined;
    }
    if (made === undefined) {
      made = ensureSquashfs(image, this.#imageFolder).then(({ path, contents }) => {
        this.#contents.set(digest, contents);
        return path;
      });
      this.#rootfs.set(digest, made);
      made.catch(() => this.#rootfs.delete(digest));
    }
    return made;
  }
}

/** Reads the layouts once; a worker that shall offer other layouts is started anew. */
export async function openLayoutImages(options: LayoutImagesOptions): Promise<LayoutImages> {
  const images = new LayoutImages(options.imageFolder);
  for (const folder of options.layoutFolders)
    for (const reference of await listLayout(folder)) images.add(await readImage(reference));
  return images;
}
