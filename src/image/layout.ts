// Reads OCI image layouts: index, manifest, configuration, layers. UNTRUSTED: registry. Every document is checked against
// its descriptor before it is parsed; an image's digest is its manifest's.
import { constants, type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Digest, isDigest } from "../core/digest/digest.ts";
import { ociArchitecture } from "../core/image/platform.ts";
import { type Descriptor, readDocument } from "./blob.ts";
import { DOCUMENT_BYTES_MAX, LAYERS_MAX, NESTED_INDEXES_MAX, REFERENCES_MAX } from "./image-limits.ts";
import type { Layer } from "./layer-stream.ts";

export const MEDIA_TYPES = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layerZstd: "application/vnd.oci.image.layer.v1.tar+zstd",
} as const;

/** Annotation under which an index names an image. */
export const TAG_ANNOTATION = "org.opencontainers.image.ref.name";

/** Labels of an image that was made from a host's packages. */
export const LABELS = {
  compilers: "dev.hpcc.compilers",
  packages: "dev.hpcc.packages",
  system: "dev.hpcc.system",
} as const;

const MANIFESTS: ReadonlySet<string> = new Set([
  MEDIA_TYPES.manifest,
  "application/vnd.docker.distribution.manifest.v2+json",
]);
const INDEXES: ReadonlySet<string> = new Set([
  MEDIA_TYPES.index,
  "application/vnd.docker.distribution.manifest.list.v2+json",
]);
const CONFIGS: ReadonlySet<string> = new Set([MEDIA_TYPES.config, "application/vnd.docker.container.image.v1+json"]);
const LAYERS: ReadonlyMap<string, Layer["compression"]> = new Map<string, Layer["compression"]>([
  ["application/vnd.oci.image.layer.v1.tar", "none"],
  ["application/vnd.oci.image.layer.v1.tar+gzip", "gzip"],
  [MEDIA_TYPES.layerZstd, "zstd"],
  ["application/vnd.docker.image.rootfs.diff.tar", "none"],
  ["application/vnd.docker.image.rootfs.diff.tar.gzip", "gzip"],
  ["application/vnd.docker.image.rootfs.diff.tar.zstd", "zstd"],
]);
const PLATFORM = /^linux\/[a-z0-9]{1,32}$/;
/** How deep an index may refer to another one. */
const INDEX_DEPTH_MAX = 2;

/** An image that a layout names. */
export interface ImageReference extends Descriptor {
  readonly layoutFolder: string;
  readonly tag: string | null;
}

/** An image whose documents were read and checked; its layers are checked when they are read. */
export interface OciImage {
  /** The manifest's digest: the image's identity. */
  readonly digest: Digest;
  /** The manifest's. */
  readonly mediaType: string;
  readonly layoutFolder: string;
  readonly tag: string | null;
  readonly architecture: string;
  readonly os: string;
  /** `NAME=value` of the configuration. */
  readonly environment: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  readonly layers: readonly Layer[];
}

type Json = { readonly [key: string]: unknown };

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(what: string): never {
  throw new HpccError("image.invalid", what);
}

function parseJson(bytes: Uint8Array, what: string): Json {
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (isObject(value)) return value;
  } catch (cause) {
    throw new HpccError("image.invalid", `${what} is no JSON`, { cause });
  }
  return invalid(`${what} is no JSON object`);
}

function parseDescriptor(value: unknown, what: string): Descriptor & { readonly json: Json } {
  if (!isObject(value)) return invalid(`${what} is no descriptor`);
  const { mediaType, digest, size } = value;
  if (typeof mediaType !== "string") return invalid(`${what} has no media type`);
  if (typeof digest !== "string" || !isDigest(digest)) return invalid(`${what} has no sha256 digest`);
  if (!Number.isSafeInteger(size) || (size as number) < 0) return invalid(`${what} has no size`);
  return { mediaType, digest, sizeBytes: size as number, json: value };
}

function arrayOf(value: unknown, what: string): readonly unknown[] {
  return Array.isArray(value) ? value : invalid(`${what} is no list`);
}

function stringMap(value: unknown): Record<string, string> {
  const map: Record<string, string> = {};
  if (isObject(value)) for (const [key, text] of Object.entries(value)) if (typeof text === "string") map[key] = text;
  return map;
}

/** Images that a layout folder names, in its order; those for other machines are left out. UNTRUSTED: registry. */
export async function listLayout(layoutFolder: string): Promise<ImageReference[]> {
  const path = join(layoutFolder, "index.json");
  let file: FileHandle;
  try {
    // Non-blocking: a fifo in its place would be waited for.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new HpccError("image.missing", `${layoutFolder} is no OCI image layout`, { cause });
  }
  try {
    const { size } = await plainFile(file, path);
    if (size > DOCUMENT_BYTES_MAX) throw new HpccError("limit.exceeded", `${path} is too large`);
    const bytes = Buffer.alloc(size);
    const { bytesRead } = await file.read(bytes, 0, size, 0);
    const index = parseJson(bytes.subarray(0, bytesRead), path);
    const load: Load = (descriptor) => readDocument(layoutFolder, descriptor);
    const found = await references(index, load, { tag: null, depth: 0 });
    return found.map((reference) => ({ ...reference, layoutFolder }));
  } finally {
    await file.close();
  }
}

async function plainFile(file: FileHandle, path: string): Promise<{ readonly size: number }> {
  const found = await file.stat();
  return found.isFile() ? found : invalid(`${path} is no file`);
}

/** How a document that another one names is come by: from a layout's folder, or from a registry. */
type Load = (descriptor: Descriptor) => Promise<Uint8Array>;

async function references(
  index: Json,
  load: Load,
  from: { readonly tag: string | null; readonly depth: number },
): Promise<(Descriptor & { readonly tag: string | null })[]> {
  if (from.depth >= INDEX_DEPTH_MAX) return invalid("an image index refers to too many others");
  const found: (Descriptor & { readonly tag: string | null })[] = [];
  let indexes = 0;
  for (const item of arrayOf(index["manifests"], "the index's list of manifests")) {
    const { json, ...descriptor } = parseDescriptor(item, "an index entry");
    const { mediaType, digest } = descriptor;
    if (found.length >= REFERENCES_MAX)
      throw new HpccError("limit.exceeded", `an image index names more than ${REFERENCES_MAX} images`);
    const tag = stringMap(json["annotations"])[TAG_ANNOTATION] ?? from.tag;
    const platform = json["platform"];
    if (isObject(platform) && (platform["architecture"] !== ociArchitecture() || platform["os"] !== "linux")) continue;
    if (MANIFESTS.has(mediaType)) found.push({ ...descriptor, tag });
    else if (INDEXES.has(mediaType)) {
      if ((indexes += 1) > NESTED_INDEXES_MAX)
        throw new HpccError("limit.exceeded", `an image index refers to more than ${NESTED_INDEXES_MAX} others`);
      const nested = parseJson(await load(descriptor), `index ${digest}`);
      found.push(...(await references(nested, load, { tag, depth: from.depth + 1 })));
    }
  }
  return found;
}

/** Media types of what a registry may give for an image's name. */
export const ROOT_MEDIA_TYPES: readonly string[] = [...INDEXES, ...MANIFESTS];

/** A manifest or an index as a registry gave it. */
export interface RootDocument extends Descriptor {
  readonly bytes: Uint8Array;
}

/**
 * The manifest for this machine that a document is or leads to; null when an index has none. The document must be what its media
 * type says. UNTRUSTED: registry.
 */
export async function manifestForThisMachine(root: RootDocument, load: Load): Promise<Descriptor | null> {
  const { mediaType, digest, sizeBytes, bytes } = root;
  const json = parseJson(bytes, `document ${digest}`);
  const { mediaType: said = mediaType, manifests, layers } = json;
  if (said !== mediaType || (manifests !== undefined && layers !== undefined))
    return invalid(`document ${digest} is said to be ${JSON.stringify(mediaType)} and says that it is something else`);
  if (MANIFESTS.has(mediaType)) return { mediaType, digest, sizeBytes };
  if (!INDEXES.has(mediaType)) return invalid(`document ${digest} is no image but ${JSON.stringify(mediaType)}`);
  const [first] = await references(json, load, { tag: null, depth: 0 });
  return first === undefined ? null : { mediaType: first.mediaType, digest: first.digest, sizeBytes: first.sizeBytes };
}

/** The images of an index by platform, "linux/amd64": of each the first. UNTRUSTED: registry. */
export function platformsOfIndex(bytes: Uint8Array): ReadonlyMap<string, Digest> {
  const found = new Map<string, Digest>();
  const list = arrayOf(parseJson(bytes, "the index")["manifests"], "the index's list of manifests");
  for (const item of list.slice(0, REFERENCES_MAX)) {
    const { mediaType, digest, json } = parseDescriptor(item, "an index entry");
    const { os, architecture } = isObject(json["platform"]) ? json["platform"] : {};
    if (!MANIFESTS.has(mediaType) || os !== "linux" || typeof architecture !== "string") continue;
    const platform = `linux/${architecture}`;
    if (PLATFORM.test(platform) && !found.has(platform)) found.set(platform, digest);
  }
  return found;
}

/** What an image's manifest names: the configuration, then the layers. UNTRUSTED: registry. */
export function manifestBlobs(bytes: Uint8Array, digest: Digest): { config: Descriptor; layers: Descriptor[] } {
  const manifest = parseJson(bytes, `manifest ${digest}`);
  const config = parseDescriptor(manifest["config"], "the manifest's configuration");
  if (!CONFIGS.has(config.mediaType))
    return invalid(`manifest ${digest} is of no container image (configuration is ${config.mediaType})`);
  return { config, layers: layerDescriptors(manifest) };
}

function layerDescriptors(manifest: Json): Descriptor[] {
  const list = arrayOf(manifest["layers"], "the manifest's list of layers");
  if (list.length > LAYERS_MAX) throw new HpccError("limit.exceeded", `the image has more than ${LAYERS_MAX} layers`);
  return list.map((item) => {
    const layer = parseDescriptor(item, "a layer");
    if (!LAYERS.has(layer.mediaType))
      return invalid(`layer ${layer.digest} has the unknown media type ${JSON.stringify(layer.mediaType)}`);
    return layer;
  });
}

/** Reads an image of a layout: the one with this digest, or the only one. UNTRUSTED: registry. */
export async function openImage(layoutFolder: string, digest: Digest | null = null): Promise<OciImage> {
  const all = await listLayout(layoutFolder);
  const found = digest === null ? all : all.filter((reference) => reference.digest === digest);
  const reference = found[0];
  if (reference === undefined)
    throw new HpccError("image.missing", `${layoutFolder} holds no image ${digest ?? "for this machine"}`);
  if (digest === null && found.some((other) => other.digest !== reference.digest))
    throw new HpccError("image.missing", `${layoutFolder} holds several images: name one by its digest`);
  return readImage(reference);
}

/** Reads the documents of an image. UNTRUSTED: registry. */
export async function readImage(reference: ImageReference): Promise<OciImage> {
  const { layoutFolder, digest } = reference;
  const blobs = manifestBlobs(await readDocument(layoutFolder, reference), digest);
  const config = parseJson(await readDocument(layoutFolder, blobs.config), `configuration of ${digest}`);
  const settings = isObject(config["config"]) ? config["config"] : {};
  const environment = Array.isArray(settings["Env"]) ? settings["Env"] : [];
  return {
    digest,
    mediaType: reference.mediaType,
    layoutFolder,
    tag: reference.tag,
    architecture: typeof config["architecture"] === "string" ? config["architecture"] : "",
    os: typeof config["os"] === "string" ? config["os"] : "",
    environment: environment.filter((entry): entry is string => typeof entry === "string"),
    labels: stringMap(settings["Labels"]),
    layers: parseLayers(blobs.layers, config),
  };
}

function parseLayers(list: readonly Descriptor[], config: Json): Layer[] {
  const rootfs = isObject(config["rootfs"]) ? config["rootfs"] : {};
  const diffIds = arrayOf(rootfs["diff_ids"], "the configuration's list of unpacked digests");
  if (diffIds.length !== list.length) return invalid("manifest and configuration differ in their number of layers");
  return list.map(({ mediaType, digest, sizeBytes }, at) => {
    const compression = LAYERS.get(mediaType) ?? invalid(`layer ${digest} has an unknown media type`);
    const diffId = diffIds[at];
    if (typeof diffId !== "string" || !isDigest(diffId)) return invalid(`layer ${digest} has no unpacked digest`);
    return { mediaType, digest, sizeBytes, diffId, compression };
  });
}
