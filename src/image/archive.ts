// Takes an image out of an archive: an OCI layout as tar, or what `docker save` writes. UNTRUSTED: whoever made the archive. Its names are
// never used for files; all of it lies in a folder of its own until every layer was read and checked.
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, posix } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { HpccError } from "../base/errors.ts";
import { type Digest, digestHex, sha256 } from "../core/digest/digest.ts";
import { removeAbandoned } from "./abandoned.ts";
import { blobPath, type Descriptor } from "./blob.ts";
import { imageTree } from "./flatten.ts";
import { DOCUMENT_BYTES_MAX, LAYERS_MAX, UNPACKED_BYTES_MAX } from "./image-limits.ts";
import { MEDIA_TYPES, manifestBlobs, openImage } from "./layout.ts";
import { readTar } from "./tar-decode.ts";
import { unpackZstdFrames } from "./zstd-frames.ts";

export interface ImportReport {
  readonly digest: Digest;
  readonly layoutFolder: string;
  /** The first name that the archive gives the image, as it stands there. */
  readonly savedName: string | null;
}

interface Member {
  readonly path: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
}

/** Members by name, and links from one to another. */
interface Members {
  readonly files: Map<string, Member>;
  readonly links: Map<string, string>;
}

const MEMBERS_MAX = 10_000;
const LAYER_TAR = "application/vnd.oci.image.layer.v1.tar";

function invalid(what: string): never {
  throw new HpccError("image.invalid", `the archive ${what}`, {
    hint: "Make it with `docker save`, `podman save`, or `skopeo copy` to oci-archive: or docker-archive:.",
  });
}

/** Brings the one image of an archive below `ociFolder`. */
export async function importArchive(file: string, ociFolder: string): Promise<ImportReport> {
  await mkdir(ociFolder, { recursive: true });
  await removeAbandoned(ociFolder);
  const folder = join(ociFolder, `.import-${randomBytes(6).toString("hex")}`);
  await mkdir(join(folder, "members"), { recursive: true });
  await mkdir(join(folder, "layout", "blobs", "sha256"), { recursive: true });
  try {
    const members = await unpackMembers(file, join(folder, "members"));
    const layout = join(folder, "layout");
    const { manifest, savedName } = members.files.has("index.json")
      ? await fromLayout(members, layout)
      : await fromSaved(members, layout);
    const index = { schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests: [manifest] };
    await writeFile(join(layout, "index.json"), JSON.stringify(index));
    await writeFile(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
    await imageTree(await openImage(layout, manifest.digest));
    const layoutFolder = join(ociFolder, digestHex(manifest.digest));
    await rename(layout, layoutFolder).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      if (await isWhole(layoutFolder, manifest.digest)) return;
      // What a power cut or a person has left of it stands in the way.
      await rename(layoutFolder, join(folder, "broken"));
      await rename(layout, layoutFolder);
    });
    return { digest: manifest.digest, layoutFolder, savedName };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Whether an image is here, each of its layers as it was pushed. */
async function isWhole(layoutFolder: string, digest: Digest): Promise<boolean> {
  try {
    await imageTree(await openImage(layoutFolder, digest));
    return true;
  } catch (error) {
    if (error instanceof HpccError || (error as NodeJS.ErrnoException).code === "ENOENT") return false;
    throw error;
  }
}

async function unpackMembers(file: string, folder: string): Promise<Members> {
  const members: Members = { files: new Map(), links: new Map() };
  let leftBytes = UNPACKED_BYTES_MAX;
  // A name may come twice, and the last one counts: members are numbered as they come.
  let count = 0;
  for await (const { flag, name, link, sizeBytes, sparse, body } of readTar(archiveBytes(file))) {
    const key = posix.normalize(name);
    if ((count += 1) > MEMBERS_MAX) invalid(`has more than ${MEMBERS_MAX} members`);
    if (flag === "2" || flag === "1")
      members.links.set(key, posix.normalize(flag === "1" ? link : posix.join(posix.dirname(key), link)));
    if (flag !== "0") continue;
    if (sparse || (leftBytes -= sizeBytes) < 0) invalid("has a sparse member, or is too large");
    const path = join(folder, String(count));
    const hash = createHash("sha256");
    await pipeline(
      body,
      async function* (chunks: AsyncIterable<Buffer>) {
        for await (const chunk of chunks) {
          hash.update(chunk);
          yield chunk;
        }
      },
      createWriteStream(path),
    );
    members.files.set(key, { path, digest: `sha256:${hash.digest("hex")}` as Digest, sizeBytes });
  }
  return members;
}

/** What decoders call bytes that are not theirs. */
const DECODER_ERROR = /^Z(?:STD)?_/;

/** The archive's own bytes, unpacked where it is compressed as a whole. */
async function* archiveBytes(file: string): AsyncGenerator<Buffer, void, void> {
  try {
    yield* unpackedBytes(file);
  } catch (cause) {
    const { code = "", message } = cause as NodeJS.ErrnoException;
    if (cause instanceof HpccError || !DECODER_ERROR.test(code)) throw cause;
    invalid(`cannot be unpacked: ${message}`);
  }
}

async function* unpackedBytes(file: string): AsyncGenerator<Buffer, void, void> {
  const magic = await firstBytes(file).catch((cause: unknown) => {
    throw new HpccError("image.missing", `${file} cannot be read`, { cause, hint: "Name an archive of an image." });
  });
  const source = createReadStream(file, { highWaterMark: 256 * 1024 });
  if (magic.readUInt16BE(0) === 0x1f8b) {
    const unpacked = createGunzip();
    const fed = pipeline(source, unpacked);
    fed.catch(() => {});
    yield* unpacked as AsyncIterable<Buffer>;
    await fed;
  } else if (magic.readUInt32LE(0) === 0xfd2fb528) yield* unpackZstdFrames(source as AsyncIterable<Buffer>);
  else yield* source as AsyncIterable<Buffer>;
}

async function firstBytes(file: string): Promise<Buffer> {
  const handle = await open(file, "r");
  try {
    const bytes = Buffer.alloc(4);
    await handle.read(bytes, 0, bytes.length, 0);
    return bytes;
  } finally {
    await handle.close();
  }
}

interface Taken {
  readonly manifest: { readonly mediaType: string; readonly digest: Digest; readonly size: number };
  readonly savedName: string | null;
}

/** An OCI layout: the image for this machine, and of its blobs those that it names. */
async function fromLayout({ files }: Members, layout: string): Promise<Taken> {
  const index = files.get("index.json")!;
  if (index.sizeBytes > DOCUMENT_BYTES_MAX) invalid("has too large an index");
  for (const [name, member] of files) {
    const hex = /^blobs\/sha256\/([0-9a-f]{64})$/.exec(name)?.[1];
    if (hex === undefined) continue;
    if (member.digest !== `sha256:${hex}`) invalid(`holds other content for ${hex} than that digest says`);
    await rename(member.path, blobPath(layout, member.digest));
  }
  await rename(index.path, join(layout, "index.json"));
  const image = await openImage(layout);
  const bytes = await readFile(blobPath(layout, image.digest));
  const { config, layers } = manifestBlobs(bytes, image.digest);
  const wanted = new Set<string>([image.digest, config.digest, ...layers.map(({ digest }) => digest)]);
  for (const { digest } of files.values()) if (!wanted.has(digest)) await rm(blobPath(layout, digest), { force: true });
  return { manifest: { mediaType: image.mediaType, digest: image.digest, size: bytes.length }, savedName: null };
}

/** What `docker save` writes: a list of images with names of their members. A manifest is made of it, always the same. */
async function fromSaved(members: Members, layout: string): Promise<Taken> {
  const list = parseJson(await smallMember(members, "manifest.json"));
  const [saved, ...more] = Array.isArray(list) ? (list as Record<string, unknown>[]) : [];
  if (saved === undefined || typeof saved !== "object" || saved === null || more.length > 0)
    return invalid("is none of one image: it holds neither an OCI layout nor one saved image");
  const { Config: configName, Layers: layerNames, RepoTags: tags } = saved;
  if (typeof configName !== "string" || !Array.isArray(layerNames) || layerNames.length > LAYERS_MAX)
    return invalid("has a list of images that is none");
  const config = await keep(memberOf(members, configName), layout, MEDIA_TYPES.config);
  const layers: object[] = [];
  for (const name of layerNames as unknown[]) {
    const member = memberOf(members, typeof name === "string" ? name : "");
    layers.push(await keep(member, layout, await layerType(member, layout)));
  }
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.manifest, config, layers }));
  const digest = sha256(bytes);
  await writeFile(blobPath(layout, digest), bytes);
  const [first] = Array.isArray(tags) ? (tags as unknown[]) : [];
  return {
    manifest: { mediaType: MEDIA_TYPES.manifest, digest, size: bytes.length },
    savedName: typeof first === "string" ? first : null,
  };
}

function memberOf({ files, links }: Members, name: string): Member {
  const key = posix.normalize(name);
  return files.get(key) ?? files.get(links.get(key) ?? "") ?? invalid(`lacks ${JSON.stringify(name.slice(0, 120))}`);
}

async function smallMember(members: Members, name: string): Promise<Buffer> {
  const { path, sizeBytes } = memberOf(members, name);
  if (sizeBytes > DOCUMENT_BYTES_MAX) invalid(`has too large a ${name}`);
  return readFile(path);
}

/** Moves a member among the layout's blobs, once. */
async function keep(member: Member, layout: string, mediaType: string): Promise<object> {
  const { digest, sizeBytes } = member;
  await rename(member.path, blobPath(layout, digest)).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  return { mediaType, digest, size: sizeBytes } satisfies Omit<Descriptor, "sizeBytes"> & { size: number };
}

async function layerType({ path, digest }: Member, layout: string): Promise<string> {
  const magic = await firstBytes(path).catch(() => firstBytes(blobPath(layout, digest)));
  if (magic.readUInt16BE(0) === 0x1f8b) return `${LAYER_TAR}+gzip`;
  return magic.readUInt32LE(0) === 0xfd2fb528 ? MEDIA_TYPES.layerZstd : LAYER_TAR;
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return null;
  }
}
