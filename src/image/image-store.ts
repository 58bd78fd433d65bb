// The images of one machine, in one folder: OCI layouts in `oci/<hex>`, packed root file systems in `squashfs/`, unpacked
// ones in `rootfs/<hex>`. An image is named by its digest, by the start of one, or by a tag of this machine.
import { randomBytes } from "node:crypto";
import { access, mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex, isDigest } from "../core/digest/digest.ts";
import { formatImageName, type ImageName, parseImageName } from "../core/image/image-name.ts";
import { ociPlatform } from "../core/image/platform.ts";
import { decodeEvidence, encodeEvidence, evidenceFile, type TrustEvidence } from "../core/image/trust.ts";
import { type ImportReport, importArchive } from "./archive.ts";
import {
  type EvictOptions,
  type EvictReport,
  evictImages,
  type ImageUse,
  imageUses,
  makeRoom,
  withEvictLock,
} from "./evict.ts";
import { type BuildReport, type BuildRequest, buildImageFromHost } from "./host/build-image.ts";
import { ImageLeases } from "./image-leases.ts";
import { LABELS, listLayout, manifestBlobs, type OciImage, openImage, platformsOfIndex, readImage } from "./layout.ts";
import { addTag, removeTag } from "./layout-tags.ts";
import { readOsRelease } from "./os-release.ts";
import type { FoundImage, PullProgress, PullReport } from "./registry/pull.ts";
import type { PushReport } from "./registry/push.ts";
import type { Registries } from "./registry/registries.ts";
import { checkRootfs, ensureRootfs, rootfsPath } from "./rootfs.ts";
import { ensureSquashfs, type SquashfsFile, squashfsPath } from "./squashfs.ts";
import { ensureStrippedHeaders, type StrippedHeaders } from "./stripped-headers.ts";
import { ImageToolchain } from "./toolchain.ts";

export interface ImageSummary {
  readonly digest: Digest;
  readonly tag: string | null;
  /** Compiler packages with their versions, "gcc-12 12.2.0-14"; empty for an image that hpcc did not build. */
  readonly compilers: readonly string[];
  /** Of its layers, as stored. */
  readonly sizeBytes: number;
}

export interface ImageDetails extends ImageSummary {
  readonly layoutFolder: string;
  readonly platform: string;
  /** "debian 12", as the image or its os-release says; null where neither does, or it is not unpacked. */
  readonly system: string | null;
  /** Compilers that are called by these names or, where a name is another one's, by their paths; null when it is not unpacked. */
  readonly found: readonly string[] | null;
  readonly environment: readonly string[];
  readonly packages: readonly string[];
  readonly layers: readonly { readonly digest: Digest; readonly diffId: Digest; readonly sizeBytes: number }[];
  /** Paths of what was made of it, null when it was not. */
  readonly squashfs: string | null;
  readonly rootfs: string | null;
}

/** Throws unless what a registry says of an image's signatures is enough. */
export type Judge = (evidence: TrustEvidence, digest: Digest) => void;

export interface PullOptions {
  readonly registries: Registries;
  /** Null where no signature is asked for. */
  readonly judge: Judge | null;
  readonly onProgress?: (progress: PullProgress) => void;
  /** What the images here may take with this one; null for no limit. */
  readonly limits?: StoreLimits | null;
}

/** The digests that a name has for each platform, as far as the registry says. */
export interface FoundPlatforms {
  readonly platforms: ReadonlyMap<string, Digest>;
}

const COMPILER_PACKAGE = /^(?:gcc|g\+\+|clang)(?:-[0-9.]+)?=/;
const LAYOUT_NAME = /^[0-9a-f]{64}$/;
/** An image's layers, its packed root file system, and that unpacked. */
const ROOM_PER_BYTE = 4;
const DIGEST_START = /^(?:sha256:)?[0-9a-f]{6,64}$/;

/** An image that was used within this time stays, by default. */
export const KEEP_MS = 24 * 60 * 60_000;

/** How much the images of a machine may take, and what of them stays whatever comes. */
export type StoreLimits = Pick<EvictOptions, "bytesMax" | "keepMs">;

export class ImageStore {
  readonly folder: string;
  readonly leases: ImageLeases;

  /** `folder` need not exist. */
  constructor(folder: string) {
    this.folder = folder;
    this.leases = new ImageLeases(folder);
  }

  /** Packs this machine's compilers; a tag moves to the new image. */
  async build(request: BuildRequest): Promise<BuildReport> {
    const report = await buildImageFromHost(join(this.folder, "oci"), request);
    if (request.tag !== null) await this.tag(report.digest, request.tag);
    return report;
  }

  /** Brings an image from its registry; it is tagged with the name, unless that is of a digest alone. */
  async pull(name: ImageName, options: PullOptions): Promise<PullReport & FoundPlatforms> {
    const { registries, onProgress, judge, limits = null } = options;
    const { findInRegistry, pullFound } = await import("./registry/pull.ts");
    const found = await findInRegistry(await registries.sessions(name, "pull"), name);
    if (judge !== null) await this.#checkEvidence(found, name, judge);
    if (limits !== null) await this.#makeRoom(found, limits);
    const pulled = await pullFound(found, join(this.folder, "oci"), onProgress);
    const platforms =
      found.index === null ? new Map([[ociPlatform(), pulled.digest]]) : platformsOfIndex(found.index.bytes);
    const report = { ...pulled, platforms: new Map(platforms).set(ociPlatform(), pulled.digest) };
    if (name.tag !== null) await this.tag(report.digest, formatImageName({ ...name, digest: null }));
    await this.leases.keepRecord(report.digest, { pulledAs: formatImageName({ ...name, digest: null }) });
    return report;
  }

  async #makeRoom({ manifest, bytes }: FoundImage, limits: StoreLimits): Promise<void> {
    if (await this.isHere(manifest.digest)) return;
    const { config, layers } = manifestBlobs(bytes, manifest.digest);
    const sizeBytes = [config, ...layers].reduce((sum, blob) => sum + blob.sizeBytes, 0);
    await makeRoom(this.folder, sizeBytes * ROOM_PER_BYTE, { ...limits, leases: this.leases });
  }

  /** What each image takes and when it was used last, the longest unused first. */
  async uses(): Promise<ImageUse[]> {
    return imageUses(this.folder, this.leases);
  }

  /** Takes images away that were pulled and that nobody uses, the longest unused first, until the others fit. */
  async evict(limits: StoreLimits, dryRun = false): Promise<EvictReport> {
    return evictImages(this.folder, { ...limits, dryRun, leases: this.leases });
  }

  /** Keeps an image here whatever comes, or no longer. */
  async pin(name: string, pinned: boolean): Promise<Digest> {
    const { digest } = await this.find(name);
    await this.leases.keepRecord(digest, { pinned });
    return digest;
  }

  /** Takes the image of an archive; it is tagged so, or as the archive names it. */
  async import(file: string, tag: string | null): Promise<ImportReport> {
    const report = await importArchive(file, join(this.folder, "oci"));
    const name = tag ?? (report.savedName === null ? null : nameOf(report.savedName));
    if (name !== null) await this.tag(report.digest, name);
    return report;
  }

  /** Sends an image of this machine to a registry, under a name. */
  async push(
    digest: Digest,
    name: ImageName,
    registries: Registries,
    onProgress?: (progress: PullProgress) => void,
  ): Promise<PushReport> {
    if (name.digest !== null && name.digest !== digest)
      throw new HpccError("argument.invalid", `image ${digest} cannot be sent as ${formatImageName(name)}`);
    const image = await this.open(digest);
    const [session] = await registries.sessions(name, "pull,push");
    const { pushImage } = await import("./registry/push.ts");
    const report = await pushImage(session!, image, name, onProgress);
    if (name.tag !== null) await this.tag(digest, formatImageName({ ...name, digest: null }));
    return report;
  }

  /** Gets an image's signatures, has them judged before anything else of it is read, and keeps them. */
  async #checkEvidence(found: FoundImage, name: ImageName, judge: Judge): Promise<void> {
    const { manifest, bytes, session } = found;
    const { digest } = manifest;
    const path = join(this.folder, evidenceFile(digest));
    const { fetchSignatures, signedIndex } = await import("./registry/signatures.ts");
    const index = await signedIndex(found, name);
    const signatures = await fetchSignatures(session, digest);
    if (index !== null) signatures.push(...(await fetchSignatures(session, index.digest)));
    const evidence = {
      manifest: Buffer.from(bytes),
      index: index === null ? null : Buffer.from(index.bytes),
      signatures,
    };
    judge(evidence, digest);
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
    await writeFile(temporary, encodeEvidence(evidence));
    await rename(temporary, path);
  }

  /** Whether an image is here, and what was kept of its signatures is enough still. */
  async isVouchedFor(digest: Digest, judge: Judge): Promise<boolean> {
    try {
      await this.open(digest);
      judge(decodeEvidence(await readFile(join(this.folder, evidenceFile(digest)), "utf8")), digest);
      return true;
    } catch {
      return false;
    }
  }

  /** Gives an image of this machine a tag, which no other keeps. */
  async tag(digest: Digest, tag: string): Promise<void> {
    for (const image of await this.#images())
      if (image.tag === tag && image.digest !== digest) await removeTag(image.layoutFolder, tag);
    await addTag((await this.open(digest)).layoutFolder, tag);
  }

  /** All images here, by tag and digest. */
  async list(): Promise<ImageSummary[]> {
    const order = (image: ImageSummary) => `${image.tag ?? "\uffff"} ${image.digest}`;
    return (await this.#images()).map(summaryOf).sort((a, b) => (order(a) < order(b) ? -1 : 1));
  }

  /** What is known of an image. */
  async show(name: string): Promise<ImageDetails> {
    const image = await this.find(name);
    const rootfs = await ifThere(rootfsPath(this.folder, image));
    return {
      ...summaryOf(image),
      system: systemOf(image, rootfs),
      found: rootfs === null ? null : compilersIn(rootfs, image),
      layoutFolder: image.layoutFolder,
      platform: `${image.os}/${image.architecture}`,
      environment: image.environment,
      packages: packagesOf(image),
      layers: image.layers.map(({ digest, diffId, sizeBytes }) => ({ digest, diffId, sizeBytes })),
      squashfs: await ifThere(squashfsPath(this.folder, image)),
      rootfs,
    };
  }

  /** Whether an image is here. */
  async isHere(digest: Digest): Promise<boolean> {
    return (await ifThere(join(this.folder, "oci", digestHex(digest)))) !== null;
  }

  /** Opens an image by its whole digest, without a search. */
  async open(digest: Digest): Promise<OciImage> {
    const layoutFolder = join(this.folder, "oci", digestHex(digest));
    if ((await ifThere(layoutFolder)) === null)
      throw new HpccError("image.missing", `image ${digest} is not on this machine: there is no ${layoutFolder}`, {
        hint: "Make it with `hpcc image build --from-host`, or bring it with `hpcc image pull` from where your team keeps it.",
      });
    return openImage(layoutFolder, digest);
  }

  /** Opens an image by digest, start of a digest, or tag. */
  async find(name: string): Promise<OciImage> {
    if (isDigest(name)) return this.open(name);
    const images = await this.#images();
    const tagged = images.filter((image) => image.tag === name);
    const start = DIGEST_START.test(name) ? `sha256:${name.replace(/^sha256:/, "")}` : null;
    const found =
      tagged.length > 0 ? tagged : images.filter((image) => start !== null && image.digest.startsWith(start));
    if (found[0] === undefined) throw new HpccError("image.missing", `there is no image ${JSON.stringify(name)} here`);
    if (found.some(({ digest }) => digest !== found[0]!.digest))
      throw new HpccError("image.missing", `several images are named ${JSON.stringify(name)}`);
    return found[0];
  }

  /** Holds an image for this process: nobody takes it away while that lives and goes on saying so. */
  async hold(digest: Digest): Promise<void> {
    try {
      await withEvictLock(this.folder, () => this.leases.hold(digest));
    } catch (error) {
      // In a folder that this user cannot write, nobody of his takes anything away.
      if (!["EACCES", "EROFS", "EPERM", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
    }
  }

  /**
   * Digest of what an image's unpacked root holds, which is checked against the image: quickly where it was checked before. Null in a folder
   * that this user cannot write. Throws `image.altered`.
   */
  async contents(digest: Digest, thoroughly = false): Promise<Digest | null> {
    try {
      return await checkRootfs(await this.open(digest), this.folder, thoroughly);
    } catch (error) {
      if (["EACCES", "EROFS", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
      throw error;
    }
  }

  /** Says that this process goes on using what it holds. Detached and cheap: a call may say so each time. */
  async renew(digest: Digest): Promise<void> {
    await this.leases.hold(digest).catch(() => undefined);
  }

  /** The packed root file system of an image, made when needed. */
  async squashfs(digest: Digest): Promise<SquashfsFile> {
    return ensureSquashfs(await this.open(digest), this.folder);
  }

  /** The unpacked root of an image, made when needed; its path is known to hold it when this returns. */
  async rootfs(digest: Digest): Promise<string> {
    await this.hold(digest);
    const path = rootfsPath(this.folder, { digest });
    return (await ifThere(path)) ?? ensureRootfs(await this.open(digest), this.folder);
  }

  /**
   * An image's headers as listings need them, made when needed, of an unpacked root that is held and checked. Null where there are none, or
   * where this user cannot keep any.
   */
  async strippedHeaders(digest: Digest): Promise<StrippedHeaders | null> {
    try {
      const rootfs = rootfsPath(this.folder, { digest });
      return await ensureStrippedHeaders(digest, { rootfs, imageFolder: this.folder });
    } catch (error) {
      if (["EACCES", "EROFS", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
      throw error;
    }
  }

  /** The images whose documents can be read; a broken layout does not hide the others. */
  async #images(): Promise<OciImage[]> {
    const folder = join(this.folder, "oci");
    const names = await readdir(folder).catch(() => []);
    const images: OciImage[] = [];
    for (const name of names.filter((candidate) => LAYOUT_NAME.test(candidate)))
      try {
        for (const reference of await listLayout(join(folder, name))) images.push(await readImage(reference));
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
      }
    return images;
  }
}

/** What an archive calls its image, in full; null where that is no name. UNTRUSTED: who made the archive. */
function nameOf(saved: string): string | null {
  try {
    return formatImageName(parseImageName(saved));
  } catch (error) {
    if (error instanceof HpccError) return null;
    throw error;
  }
}

function packagesOf(image: OciImage): string[] {
  const label = image.labels[LABELS.packages] ?? "";
  return label === "" ? [] : label.split(" ");
}

function systemOf(image: OciImage, rootfs: string | null): string | null {
  const label = image.labels[LABELS.system];
  if (label !== undefined) return label;
  return (rootfs === null ? undefined : readOsRelease(rootfs).get("PRETTY_NAME")) ?? null;
}

function compilersIn(rootfs: string, { environment }: OciImage): string[] {
  const compilers = [...new ImageToolchain(rootfs, environment).all()];
  return compilers.map(({ name, path }) => displayText(name ?? path));
}

function summaryOf(image: OciImage): ImageSummary {
  const compilers = packagesOf(image).filter((entry) => COMPILER_PACKAGE.test(entry));
  return {
    digest: image.digest,
    tag: image.tag,
    compilers: compilers.map((entry) => entry.replace("=", " ")),
    sizeBytes: image.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0),
  };
}

async function ifThere(path: string): Promise<string | null> {
  return access(path).then(
    () => path,
    () => null,
  );
}
