// Reads the entries of one layer as a stream: decompressed, limited, and checked against both of its digests. UNTRUSTED:
// registry. What was yielded before the end is not yet verified: callers keep it in memory or in a temporary file.
import { type Duplex, PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { constants, createGunzip, createZstdDecompress } from "node:zlib";
import { extract, type Header } from "tar-stream";
import { byteStringOfText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type Descriptor, HashTap, openBlob } from "./blob.ts";
import { quoteName } from "./entry-path.ts";
import type { ImageLimits } from "./image-limits.ts";
import type { LayerEntryHeader } from "./image-tree.ts";

export interface Layer extends Descriptor {
  readonly diffId: Digest;
  readonly compression: "none" | "gzip" | "zstd";
}

/** Decompressed bytes that an image may still take; shared by its layers. */
export interface UnpackBudget {
  leftBytes: number;
}

export interface LayerEntry {
  readonly ordinal: number;
  readonly header: LayerEntryHeader;
  /** The content; may be left unread. */
  readonly body: AsyncIterable<Buffer>;
}

/** Names as bytes. The reader's types leave its own options out. */
const EXTRACT_OPTIONS: object = { filenameEncoding: "latin1" };
const READ_BYTES = 256 * 1024;
/** Window of a zstd frame: bounds the decompressor's memory to 128 MiB. */
const ZSTD_WINDOW_LOG_MAX = 27;

function decompressor(compression: Layer["compression"]): Duplex {
  switch (compression) {
    case "none":
      return new PassThrough();
    case "gzip":
      return createGunzip({ chunkSize: READ_BYTES });
    case "zstd":
      return createZstdDecompress({
        chunkSize: READ_BYTES,
        params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
      });
  }
}

/** Entries of a layer, in order. UNTRUSTED: registry. */
export async function* readLayer(
  layoutFolder: string,
  layer: Layer,
  options: { readonly limits: ImageLimits; readonly budget: UnpackBudget; readonly signal?: AbortSignal | undefined },
): AsyncGenerator<LayerEntry, void, void> {
  const { limits, budget } = options;
  const file = await openBlob(layoutFolder, layer);
  const source: Readable = file.createReadStream({ highWaterMark: READ_BYTES });
  const packed = new HashTap();
  let counted = 0;
  const plain = new HashTap((sizeBytes) => {
    budget.leftBytes -= sizeBytes - counted;
    counted = sizeBytes;
    if (budget.leftBytes < 0)
      throw new HpccError("limit.exceeded", `the image unpacks to more than ${limits.unpackedBytesMax} bytes`);
    if (sizeBytes > limits.ratioFreeBytes && sizeBytes > layer.sizeBytes * limits.ratioMax)
      throw new HpccError(
        "limit.exceeded",
        `layer ${layer.digest} unpacks to more than ${limits.ratioMax} times its size`,
      );
  });
  const tar = extract(EXTRACT_OPTIONS);
  const stages = [source, packed, decompressor(layer.compression), plain, tar] as const;
  const pumped = pipeline(stages, options.signal === undefined ? {} : { signal: options.signal });
  pumped.catch(() => {});
  try {
    let ordinal = 0;
    for await (const entry of tar) {
      yield { ordinal, header: parseHeader(entry.header), body: entry as AsyncIterable<Buffer> };
      ordinal += 1;
      entry.resume();
    }
    await pumped;
  } catch (cause) {
    if (cause instanceof HpccError) throw cause;
    // The pipeline's own error says more than the archive reader's "premature close".
    const first = await pumped.then(
      () => cause,
      (error: unknown) => error,
    );
    if (first instanceof HpccError) throw first;
    throw new HpccError("image.invalid", `layer ${layer.digest} cannot be read: ${(first as Error).message}`, {
      cause: first,
    });
  } finally {
    source.destroy();
    tar.destroy();
    await pumped.catch(() => {});
    await file.close().catch(() => {});
  }
  if (packed.digest() !== layer.digest)
    throw new HpccError("image.invalid", `blob ${layer.digest} has other content than its name says`);
  if (plain.digest() !== layer.diffId)
    throw new HpccError("image.invalid", `layer ${layer.digest} does not unpack to ${layer.diffId}`);
}

/** A member's header as the tree takes it. UNTRUSTED: registry. */
function parseHeader(header: Header): LayerEntryHeader {
  const name = nameOf(header, "path", header.name);
  const refuse = (what: string): never => {
    throw new HpccError("image.invalid", `layer entry ${quoteName(name)} ${what}`);
  };
  if (Object.keys(paxOf(header)).some((key) => key.startsWith("GNU.sparse."))) refuse("is a sparse file");
  const common = { name, mode: header.mode, sizeBytes: header.size };
  switch (header.type) {
    case "file":
    case "contiguous-file":
      return { ...common, type: "file", link: null };
    case "directory":
      return { ...common, type: "directory", link: null };
    case "symlink":
    case "link":
      return { ...common, type: header.type, link: nameOf(header, "linkpath", header.linkname) };
    case "character-device":
    case "block-device":
    case "fifo":
      return refuse(`is a ${header.type}`);
    default:
      return refuse("has an unknown type");
  }
}

/** PAX records of a member. */
function paxOf(header: Header): Record<string, unknown> {
  const pax: unknown = header.pax ?? null;
  return typeof pax === "object" && pax !== null ? { ...pax } : {};
}

/** A name as bytes: the old header's field is read as bytes, a PAX record was decoded from UTF-8. */
function nameOf(header: Header, record: "path" | "linkpath", field: string | null): string {
  const pax = paxOf(header)[record];
  if (typeof pax !== "string" || pax === "") return field ?? "";
  if (pax.includes("\ufffd")) throw new HpccError("image.invalid", `layer entry ${quoteName(pax)} is not UTF-8`);
  return byteStringOfText(pax);
}
