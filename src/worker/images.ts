// The images that a worker offers: those of its OCI layouts, each turned into a read-only root file system once.

import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { listLayout, type OciImage, readImage } from "../image/layout.ts";
import { ensureSquashfs } from "../image/squashfs.ts";

export interface WorkerImages {
  /** Digests of the images that jobs may name. */
  readonly digests: readonly Digest[];
  /** Whether jobs may name this image. */
  has(digest: Digest): boolean;
  /** Host path of the image's root file system, made when it is not there. Throws `image.missing`. */
  rootfs(digest: Digest): Promise<string>;
}

export interface LayoutImagesOptions {
  /** OCI layout folders; all images of this machine's architecture in them are offered. */
  readonly layoutFolders: readonly string[];
  /** Where root file systems are kept. */
  readonly imageFolder: string;
}

/** Reads the layouts once; a worker that shall offer other images is started anew. */
export async function openLayoutImages(options: LayoutImagesOptions): Promise<WorkerImages> {
  const images = new Map<Digest, OciImage>();
  for (const folder of options.layoutFolders)
    for (const reference of await listLayout(folder)) images.set(reference.digest, await readImage(reference));
  const rootfs = new Map<Digest, Promise<string>>();
  return {
    digests: [...images.keys()],
    has: (digest) => images.has(digest),
    async rootfs(digest) {
      const image = images.get(digest);
      if (image === undefined) throw new HpccError("image.missing", `the worker has no image ${digest}`);
      let made = rootfs.get(digest);
      if (made === undefined) {
        made = ensureSquashfs(image, options.imageFolder).then(({ path }) => path);
        rootfs.set(digest, made);
        made.catch(() => rootfs.delete(digest));
      }
      return made;
    },
  };
}
