// Reads the entries of one layer as a stream: decompressed, limited, and checked against both of its digests. UNTRUSTED:
// registry. What was yielded before the end is not yet verified: callers keep it in memory or in a temporary file.
import { addAbortSignal, type Duplex, PassThrough } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type Descriptor, HashTap, openBlob } from "./blob.ts";
import { quoteName } from "./entry-path.ts";
import type { ImageLimits } from "./image-limits.ts";
import type { LayerEntryHeader } from "./image-tree.ts";
import { readTar, type TarEntry } from "./tar-decode.ts";
import { unpackZstdFrames } from "./zstd-frames.ts";

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

const READ_BYTES = 256 * 1024;
type Unpack = Duplex | typeof unpackZstdFrames;

function decompressor(compression: Layer["compression"]): Unpack {
  switch (compression) {
    case "none":
      return new PassThrough();
    case "gzip":
      return createGunzip({ chunkSize: READ_BYTES });
    case "zstd":
      return unpackZstdFrames;
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
  const source = file.createReadStream({ highWaterMark: READ_BYTES });
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
  // An error of any stage, and the signal, reach whoever reads the last one.
  const pumped = pipeline(source, packed, decompressor(layer.compression), plain);
  pumped.catch(() => {});
  try {
    if (options.signal !== undefined) addAbortSignal(options.signal, plain);
    let ordinal = 0;
    for await (const entry of readTar(plain)) {
      yield { ordinal, header: parseHeader(entry), body: entry.body };
      ordinal += 1;
    }
    // A blob may go on behind what unpacks; its digest counts that, too.
    await pumped;
  } catch (cause) {
    if (options.signal?.aborted === true || (cause instanceof HpccError && cause.code !== "image.invalid")) throw cause;
    throw new HpccError("image.invalid", `layer ${layer.digest} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  } finally {
    plain.destroy();
    await pumped.catch(() => {});
    await file.close().catch(() => {});
  }
  if (packed.digest() !== layer.digest)
    throw new HpccError("image.invalid", `blob ${layer.digest} has other content than its name says`);
  if (plain.digest() !== layer.diffId)
    throw new HpccError("image.invalid", `layer ${layer.digest} does not unpack to ${layer.diffId}`);
}

/** A member's header as the tree takes it. UNTRUSTED: registry. */
function parseHeader({ flag, name, link, mode, sizeBytes, sparse }: TarEntry): LayerEntryHeader {
  const refuse = (what: string): never => {
    throw new HpccError("image.invalid", `layer entry ${quoteName(name)} ${what}`);
  };
  if (sparse) refuse("is a sparse file");
  const common = { name, mode, sizeBytes };
  switch (flag) {
    case "0":
    case "7":
      return { ...common, type: "file", link: null };
    case "5":
      return { ...common, type: "directory", link: null };
    case "1":
      return { ...common, type: "link", link };
    case "2":
      return { ...common, type: "symlink", link };
    case "3":
      return refuse("is a character-device");
    case "4":
      return refuse("is a block-device");
    case "6":
      return refuse("is a fifo");
    default:
      return refuse("has an unknown type");
  }
}
