// Brings an image from a registry into the store of this machine. UNTRUSTED: registry. All of it lies in a folder of its own until each
// byte was checked, then that folder gets the image's name. An interrupted pull goes on where it ended.
import { link, mkdir, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex } from "../../core/digest/digest.ts";
import { formatImageName, type ImageName } from "../../core/image/image-name.ts";
import { ociPlatform } from "../../core/image/platform.ts";
import { removeAbandoned } from "../abandoned.ts";
import { blobPath, type Descriptor } from "../blob.ts";
import { imageLock, withLock } from "../folder-lock.ts";
import { DOCUMENT_BYTES_MAX } from "../image-limits.ts";
import { MEDIA_TYPES, manifestBlobs, manifestForThisMachine, openImage, type RootDocument } from "../layout.ts";
import { fetchBlob, fetchDocument, fetchRoot, holdsBlob } from "./fetch.ts";
import { PULL_BYTES_MAX } from "./limits.ts";
import type { RegistrySession } from "./session.ts";

/** An image that a registry has for this machine; its manifest was checked. */
export interface FoundImage {
  readonly manifest: Descriptor;
  readonly bytes: Uint8Array;
  /** The index that led to it, if one did. */
  readonly index: RootDocument | null;
  readonly session: RegistrySession;
}

export interface PullProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface PullReport {
  readonly digest: Digest;
  readonly layoutFolder: string;
  /** Bytes of layers and configuration; 0 downloaded when the image was here. */
  readonly sizeBytes: number;
  readonly downloadedBytes: number;
}

const PARTIAL = ".pull-";

/** What a name leads to on the first registry that has it. Mirrors that fail are passed over. */
export async function findInRegistry(sessions: readonly RegistrySession[], name: ImageName): Promise<FoundImage> {
  const reference = name.digest ?? name.tag ?? "";
  let last: unknown = new HpccError("image.missing", `no registry has ${formatImageName(name)}`);
  for (const session of sessions)
    try {
      const root = await fetchRoot(session, reference);
      const load = (descriptor: Descriptor) => fetchDocument(session, "manifests", descriptor);
      const manifest = await manifestForThisMachine(root, load);
      if (manifest === null)
        throw new HpccError("image.missing", `${formatImageName(name)} has no image for ${ociPlatform()}`);
      const bytes = manifest.digest === root.digest ? root.bytes : await load(manifest);
      return { manifest, bytes, index: manifest.digest === root.digest ? null : root, session };
    } catch (error) {
      if (!(error instanceof HpccError) || error.code === "job.cancelled") throw error;
      last = error;
    }
  throw last;
}

/** Brings what was found below `ociFolder`; there, it is checked like any image from elsewhere. */
export async function pullFound(
  found: FoundImage,
  ociFolder: string,
  onProgress: (progress: PullProgress) => void = () => {},
): Promise<PullReport> {
  const { digest } = found.manifest;
  const layoutFolder = join(ociFolder, digestHex(digest));
  const { config, layers } = manifestBlobs(found.bytes, digest);
  const blobs = [...new Map([config, ...layers].map((blob) => [blob.digest, blob])).values()];
  const sizeBytes = blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  if (config.sizeBytes > DOCUMENT_BYTES_MAX || sizeBytes > PULL_BYTES_MAX)
    throw new HpccError("limit.exceeded", `image ${digest} has ${sizeBytes} bytes, which is more than is pulled`);
  await mkdir(ociFolder, { recursive: true });
  await removeAbandoned(ociFolder);
  return withLock(imageLock(dirname(ociFolder), `${digestHex(digest)}.pull`), async () => {
    if (await isWhole(layoutFolder, digest, blobs)) return { digest, layoutFolder, sizeBytes, downloadedBytes: 0 };
    // What a power cut or a person has left of it would stand in the way.
    await rm(layoutFolder, { recursive: true, force: true });
    const folder = join(ociFolder, `${PARTIAL}${digestHex(digest)}`);
    await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
    try {
      const downloadedBytes = await fillLayout(found, { folder, ociFolder, blobs, sizeBytes, onProgress });
      await openImage(folder, digest);
      await rename(folder, layoutFolder);
      return { digest, layoutFolder, sizeBytes, downloadedBytes };
    } catch (error) {
      const goesOn = error instanceof HpccError && ["registry.unavailable", "job.cancelled"].includes(error.code);
      if (!goesOn) await rm(folder, { recursive: true, force: true });
      throw error;
    }
  });
}

interface Filling {
  readonly folder: string;
  readonly ociFolder: string;
  readonly blobs: readonly Descriptor[];
  readonly sizeBytes: number;
  readonly onProgress: (progress: PullProgress) => void;
}

async function fillLayout({ manifest, bytes, session }: FoundImage, filling: Filling): Promise<number> {
  const { folder, blobs, sizeBytes, onProgress } = filling;
  let doneBytes = 0;
  let downloadedBytes = 0;
  const moved = (count: number) => onProgress({ doneBytes: (doneBytes += count), totalBytes: sizeBytes });
  for (const blob of blobs) {
    if ((await holdsBlob(folder, blob)) || (await takeFromOther(blob, filling))) moved(blob.sizeBytes);
    else {
      await fetchBlob(session, folder, blob, moved);
      downloadedBytes += blob.sizeBytes;
    }
  }
  const durable = { flush: true };
  await writeFile(blobPath(folder, manifest.digest), bytes, durable);
  await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }), durable);
  const entry = { mediaType: manifest.mediaType, digest: manifest.digest, size: manifest.sizeBytes };
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests: [entry] };
  await writeFile(join(folder, "index.json"), JSON.stringify(index), durable);
  return downloadedBytes;
}

/** A blob that another image here has, as images of one team share layers. */
async function takeFromOther(blob: Descriptor, { ociFolder, folder }: Filling): Promise<boolean> {
  for (const name of await readdir(ociFolder)) {
    if (name.startsWith(".")) continue;
    const other = join(ociFolder, name);
    if (!(await holdsBlob(other, blob))) continue;
    return link(blobPath(other, blob.digest), blobPath(folder, blob.digest)).then(
      () => true,
      () => false,
    );
  }
  return false;
}

/** Whether an image is here with its documents, and its blobs in their sizes; those are checked when they are read. */
async function isWhole(layoutFolder: string, digest: Digest, blobs: readonly Descriptor[]): Promise<boolean> {
  try {
    await openImage(layoutFolder, digest);
    for (const blob of blobs)
      if ((await stat(blobPath(layoutFolder, blob.digest))).size !== blob.sizeBytes) return false;
    return true;
  } catch (error) {
    const isBroken = error instanceof HpccError && ["image.invalid", "image.missing"].includes(error.code);
    if (isBroken || (error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}
