// Packs a toolchain of the host as a deterministic OCI image layout: the same packages give the same digest. One layer,
// sorted, with fixed times and owners; the configuration names packages and versions, never the machine or the hour.
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { chmod, mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { type ByteString, byteStringOfText, bytesOf, displayText } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { type Digest, digestHex, sha256 } from "../../core/digest/digest.ts";
import { ociArchitecture } from "../../core/image/platform.ts";
import { blobPath, HashTap } from "../blob.ts";
import { LABELS, MEDIA_TYPES, TAG_ANNOTATION } from "../layout.ts";
import { addTag } from "../layout-tags.ts";
import { readOsRelease } from "../os-release.ts";
import { encodeTarHeader, IMAGE_MTIME_SECONDS, TAR_END, tarPadding } from "../tar-encode.ts";
import { dependencyClosure, rootPackages } from "./dependency-closure.ts";
import { findHostPackages } from "./find-host-packages.ts";
import { type HostEntry, HostFiles } from "./host-files.ts";
import type { HostPackage, HostPackages, KnownDigest } from "./host-packages.ts";

/** Compression level of the layer; part of what makes the digest. */
const ZSTD_LEVEL = 9;

const MOUNT_POINTS = [
  "/dev",
  "/etc",
  "/hpcc",
  "/hpcc/out",
  "/hpcc/project",
  "/hpcc/roots",
  "/hpcc/tmp",
  "/proc",
  "/run",
  "/sys",
];
const PASSWD = "root:x:0:0:root:/nonexistent:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n";
const GROUP = "root:x:0:\nnogroup:x:65534:\n";

export interface BuildRequest {
  /** "gcc", "clang", or packages such as "gcc-11". */
  readonly compilers: readonly string[];
  /** Further packages, such as "zlib1g-dev". */
  readonly packages: readonly string[];
  /** Also what configure scripts and makefiles call, for `hpcc run`. */
  readonly buildTools?: boolean;
  readonly tag: string | null;
}

export interface BuildReport {
  readonly digest: Digest;
  readonly layoutFolder: string;
  readonly packages: readonly { readonly name: string; readonly version: string }[];
  readonly entries: number;
  readonly sizeBytes: number;
  readonly layerBytes: number;
  /** Paths that packages list and the disk lacks. */
  readonly missing: readonly string[];
  /** Files whose content is not what their package installed. */
  readonly changed: readonly string[];
  /** Paths that are neither file, folder nor link. */
  readonly refused: readonly string[];
}

/** The machine that an image is built from. */
export interface BuildSource {
  readonly manager: HostPackages;
  /** Where its root folder is; "" for this machine's own. */
  readonly root: string;
}

/** Builds an image from a machine's packages into a new layout below `ociFolder`, named by its digest. */
export async function buildImageFromHost(
  ociFolder: string,
  request: BuildRequest,
  { manager, root }: BuildSource = { manager: findHostPackages(), root: "" },
): Promise<BuildReport> {
  const installed = await manager.installed();
  const { skipped, install } = manager;
  const roots = rootPackages(installed, request, manager);
  const packages = dependencyClosure(installed, roots, { native: await manager.native(), skipped, install });
  const files = await collectFiles(packages, manager, root);
  const digests = await manager.digests(packages);

  await mkdir(ociFolder, { recursive: true });
  const temporary = join(ociFolder, `.tmp-${randomBytes(6).toString("hex")}`);
  await mkdir(join(temporary, "blobs", "sha256"), { recursive: true });
  try {
    const layer = await writeLayer(temporary, files, digests);
    const digest = await writeDocuments(temporary, { request, packages, layer, system: systemOf(root) });
    const layoutFolder = join(ociFolder, digestHex(digest));
    await rename(temporary, layoutFolder).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      // The same image is here already: only its tag can be new.
      if (request.tag !== null) await addTag(layoutFolder, request.tag);
    });
    return {
      digest,
      layoutFolder,
      packages: packages.map(({ name, version }) => ({ name, version })),
      entries: files.entries.size,
      sizeBytes: layer.plainBytes,
      layerBytes: layer.sizeBytes,
      missing: files.missing.map(displayText).sort(),
      changed: layer.changed.sort(),
      refused: files.refused.map(displayText).sort(),
    };
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** "debian 12"; empty where nothing says. */
function systemOf(root: string): string {
  const fields = readOsRelease(root);
  return ["ID", "VERSION_ID"].flatMap((name) => fields.get(name) ?? []).join(" ");
}

async function collectFiles(packages: readonly HostPackage[], manager: HostPackages, root: string): Promise<HostFiles> {
  const files = new HostFiles(root);
  files.addRootAliases();
  for (const found of packages) for (const path of await manager.files(found)) files.add(path as ByteString);
  files.addAlternatives();
  files.addUnlisted(manager.unlisted);
  for (const path of MOUNT_POINTS) files.addFolder(path);
  files.addFolder("/tmp", 0o1777);
  files.addText("/etc/passwd", PASSWD);
  files.addText("/etc/group", GROUP);
  files.addParents();
  return files;
}

interface WrittenLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly sizeBytes: number;
  readonly plainBytes: number;
  readonly changed: string[];
}

async function writeLayer(
  layoutFolder: string,
  files: HostFiles,
  digests: ReadonlyMap<string, KnownDigest>,
): Promise<WrittenLayer> {
  const path = join(layoutFolder, "layer.tmp");
  const changed: string[] = [];
  const plain = new HashTap();
  const packed = new HashTap();
  const params = { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL, [constants.ZSTD_c_checksumFlag]: 1 };
  await pipeline(
    Readable.from(layerBytes(files, { digests, changed }), { objectMode: false }),
    plain,
    createZstdCompress({ params }),
    packed,
    createWriteStream(path),
  );
  const digest = packed.digest();
  await rename(path, blobPath(layoutFolder, digest));
  return { digest, diffId: plain.digest(), sizeBytes: packed.sizeBytes, plainBytes: plain.sizeBytes, changed };
}

async function* layerBytes(
  files: HostFiles,
  known: { readonly digests: ReadonlyMap<string, KnownDigest>; readonly changed: string[] },
): AsyncGenerator<Buffer, void, void> {
  for (const absolute of [...files.entries.keys()].sort()) {
    const entry: HostEntry = files.entries.get(absolute)!;
    const path = absolute.slice(1) as ByteString;
    switch (entry.t) {
      case "directory":
        yield encodeTarHeader({ path, type: "directory", mode: entry.mode, sizeBytes: 0, link: null });
        break;
      case "symlink":
        yield encodeTarHeader({ path, type: "symlink", mode: 0o777, sizeBytes: 0, link: entry.target });
        break;
      case "text": {
        const bytes = Buffer.from(entry.text, "utf8");
        yield encodeTarHeader({ path, type: "file", mode: entry.mode, sizeBytes: bytes.length, link: null });
        yield bytes;
        yield tarPadding(bytes.length);
        break;
      }
      case "file": {
        yield encodeTarHeader({ path, type: "file", mode: entry.mode, sizeBytes: entry.sizeBytes, link: null });
        const digest = known.digests.get(absolute);
        const hex = yield* fileBytes(entry, digest?.algorithm ?? "md5");
        yield tarPadding(entry.sizeBytes);
        if (digest !== undefined && digest.hex !== hex) known.changed.push(displayText(absolute));
      }
    }
  }
  yield TAR_END;
}

/** MD5 where that is what packages say, as a hint and no more. */
async function* fileBytes(
  entry: Extract<HostEntry, { t: "file" }>,
  algorithm: KnownDigest["algorithm"],
): AsyncGenerator<Buffer, string, void> {
  const hash = createHash(algorithm);
  let sizeBytes = 0;
  const file = await open(bytesOf(entry.from), "r");
  try {
    for await (const chunk of createReadStream("", { fd: file, autoClose: false, highWaterMark: 256 * 1024 })) {
      const bytes = chunk as Buffer;
      sizeBytes += bytes.length;
      hash.update(bytes);
      yield bytes;
    }
  } finally {
    await file.close();
  }
  if (sizeBytes !== entry.sizeBytes)
    throw new HpccError("image.invalid", `${displayText(entry.from)} changed while it was packed: build again`);
  return hash.digest("hex");
}

async function writeDocuments(
  layoutFolder: string,
  made: {
    readonly request: BuildRequest;
    readonly packages: readonly HostPackage[];
    readonly layer: WrittenLayer;
    readonly system: string;
  },
): Promise<Digest> {
  const { request, packages, layer, system } = made;
  const architecture = ociArchitecture();
  const config = await writeDocument(layoutFolder, {
    created: new Date(IMAGE_MTIME_SECONDS * 1000).toISOString(),
    architecture,
    os: "linux",
    config: {
      Env: ["PATH=/usr/bin:/bin"],
      Labels: {
        [LABELS.compilers]: [...request.compilers].sort().join(" "),
        ...(system !== "" && { [LABELS.system]: system }),
        [LABELS.packages]: packages.map(({ name, version }) => `${name}=${version}`).join(" "),
      },
    },
    rootfs: { type: "layers", diff_ids: [layer.diffId] },
  });
  const manifest = await writeDocument(layoutFolder, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    config: { mediaType: MEDIA_TYPES.config, ...config },
    layers: [{ mediaType: MEDIA_TYPES.layerZstd, digest: layer.digest, size: layer.sizeBytes }],
  });
  const entry = { mediaType: MEDIA_TYPES.manifest, ...manifest, platform: { architecture, os: "linux" } };
  const annotations = request.tag === null ? {} : { annotations: { [TAG_ANNOTATION]: request.tag } };
  const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests: [{ ...entry, ...annotations }] };
  await writeFile(join(layoutFolder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(layoutFolder, "index.json"), JSON.stringify(index));
  await chmod(layoutFolder, 0o755);
  return manifest.digest;
}

async function writeDocument(layoutFolder: string, document: unknown): Promise<{ digest: Digest; size: number }> {
  const bytes = bytesOf(byteStringOfText(JSON.stringify(document)));
  const digest = sha256(bytes);
  await writeFile(blobPath(layoutFolder, digest), bytes);
  return { digest, size: bytes.length };
}
