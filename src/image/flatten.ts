// One normalised tar stream out of an image's layers, in two passes: the first makes the tree of what is left of each
// layer, the second streams the files that won. Memory is bounded by the tree; nothing is unpacked.
import { createHash } from "node:crypto";
import type { ByteString } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { IMAGE_LIMITS, type ImageLimits } from "./image-limits.ts";
import { type Emission, ImageTree } from "./image-tree.ts";
import { readLayer } from "./layer-stream.ts";
import type { OciImage } from "./layout.ts";
import { type RootEntry, rootContents } from "./root-contents.ts";
import { encodeTarHeader, TAR_END, type TarMember, tarPadding } from "./tar-encode.ts";

export interface FlattenOptions {
  readonly limits?: ImageLimits;
  readonly signal?: AbortSignal | undefined;
  /** Called at the end with what the tree holds (root-contents.ts). */
  readonly onContents?: (contents: string) => void;
}

/**
 * The image's file tree as tar. UNTRUSTED: registry. Both passes verify every layer; when the stream ends without an
 * error, each byte of it was checked.
 */
export async function* flattenImage(image: OciImage, options: FlattenOptions = {}): AsyncGenerator<Buffer, void, void> {
  const limits = options.limits ?? IMAGE_LIMITS;
  const reading = () => ({ limits, budget: { leftBytes: limits.unpackedBytesMax }, signal: options.signal });

  const tree = new ImageTree(limits);
  const indexing = reading();
  for (const [at, layer] of image.layers.entries())
    for await (const entry of readLayer(image.layoutFolder, layer, indexing))
      tree.apply(at, entry.ordinal, entry.header);
  const emission = tree.emission(image.layers.length);

  const digests = new Map<ByteString, Digest>();
  for (const member of emission.first) yield encodeTarHeader(member);
  const copying = reading();
  for (const [at, layer] of image.layers.entries()) {
    const wanted = emission.files[at]!;
    for await (const entry of readLayer(image.layoutFolder, layer, copying)) {
      const member = wanted.get(entry.ordinal);
      if (member !== undefined) yield* fileMember(member, entry.body, digests);
    }
  }
  for (const member of emission.last) yield encodeTarHeader(member);
  yield TAR_END;
  options.onContents?.(contentsOf(emission, digests));
}

function contentsOf({ first, files, last }: Emission, digests: ReadonlyMap<ByteString, Digest>): string {
  const written = files.flatMap((byOrdinal) => [...byOrdinal.values()]);
  const modes = new Map(written.map(({ path, mode }) => [path, mode]));
  const entries = [...first, ...written, ...last].map(({ path, type, mode, link }): RootEntry => {
    if (type === "directory") return { path, type, mode, content: "" };
    if (type === "symlink") return { path, type, mode, content: link ?? "" };
    const content = (type === "link" ? link : path) as ByteString;
    return { path, type: "file", mode: modes.get(content) ?? mode, content: digests.get(content) ?? "" };
  });
  return rootContents(entries);
}

async function* fileMember(
  member: TarMember,
  body: AsyncIterable<Buffer>,
  digests: Map<ByteString, Digest>,
): AsyncGenerator<Buffer, void, void> {
  yield encodeTarHeader(member);
  const hash = createHash("sha256");
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += chunk.length;
    hash.update(chunk);
    yield chunk;
  }
  if (sizeBytes !== member.sizeBytes)
    throw new HpccError("image.invalid", `a layer's file has ${sizeBytes} bytes and not ${member.sizeBytes}`);
  digests.set(member.path, `sha256:${hash.digest("hex")}` as Digest);
  yield tarPadding(sizeBytes);
}

/** Paths of the image's top level, sorted; read from the tree alone. UNTRUSTED: registry. */
export async function imageTree(image: OciImage, options: FlattenOptions = {}): Promise<readonly TarMember[]> {
  const limits = options.limits ?? IMAGE_LIMITS;
  const tree = new ImageTree(limits);
  const reading = { limits, budget: { leftBytes: limits.unpackedBytesMax }, signal: options.signal };
  for (const [at, layer] of image.layers.entries())
    for await (const entry of readLayer(image.layoutFolder, layer, reading))
      tree.apply(at, entry.ordinal, entry.header);
  const { first, files, last } = tree.emission(image.layers.length);
  const members = [...first, ...files.flatMap((byOrdinal) => [...byOrdinal.values()]), ...last];
  return members.sort((a, b) => compareBytes(a.path, b.path));
}

function compareBytes(a: ByteString, b: ByteString): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
