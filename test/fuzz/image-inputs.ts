// One drawn input for each part that reads what comes from a registry or an archive. Whatever comes of it, it is an answer or one of the
// errors that say whose fault it is; what the tree of an image holds lies within its root.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createGunzip } from "node:zlib";
import { HpccError } from "../../src/base/errors.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { parseImageName } from "../../src/core/image/image-name.ts";
import { importArchive } from "../../src/image/archive.ts";
import { flattenImage } from "../../src/image/flatten.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import { type Emission, ImageTree } from "../../src/image/image-tree.ts";
import {
  manifestBlobs,
  manifestForThisMachine,
  type OciImage,
  openImage,
  platformsOfIndex,
} from "../../src/image/layout.ts";
import { Registries } from "../../src/image/registry/registries.ts";
import { ensureRootfs } from "../../src/image/rootfs.ts";
import { readTar } from "../../src/image/tar-decode.ts";
import { unpackZstdFrames } from "../../src/image/zstd-frames.ts";
import { Draw, mutated } from "./draw.ts";
import { type DrawnImage, drawArchive, drawImage, packed } from "./draw-image.ts";
import { drawTar } from "./draw-tar.ts";
import type { DrawnRegistry } from "./drawn-registry.ts";

export interface Place {
  /** Where images are kept. */
  readonly store: string;
  /** A folder for what an input needs besides. */
  readonly scratch: string;
  /** A path that nothing of an image may reach. */
  readonly outside: string;
  readonly registry: DrawnRegistry;
}

/** What each kind costs differs a hundredfold: so many of ten thousand inputs are of it. */
const KINDS = { tar: 6400, packed: 2300, documents: 1070, layout: 104, archive: 65, registry: 60, rootfs: 1 } as const;
export type Kind = keyof typeof KINDS;
/** Errors that say whose fault it is. */
const ANSWERS = ["image.invalid", "image.missing", "limit.exceeded"];
const REGISTRY_ANSWERS = [...ANSWERS, "registry.denied", "registry.protocol", "registry.unavailable"];
const TIMING = { stallMs: 3_000, stallBytesMin: 1, documentMs: 3_000, retryMs: 1, attemptsMax: 2 };

/** Packing and unpacking a root file system comes often enough to be seen in a small run. */
const ROOTFS_EACH = 2_000;

function kindOf(draw: Draw, index: number): Kind {
  if (index % ROOTFS_EACH === ROOTFS_EACH - 1) return "rootfs";
  let left = draw.below(10_000);
  for (const [kind, share] of Object.entries(KINDS)) {
    if (left < share) return kind as Kind;
    left -= share;
  }
  return "tar";
}

/** Runs one input. Throws what no input may bring about. */
export async function runInput(seed: number, index: number, place: Place): Promise<Kind> {
  const draw = new Draw(seed, index);
  const kind = kindOf(draw, index);
  try {
    await RUN[kind](draw, place);
  } catch (error) {
    const allowed = kind === "registry" ? REGISTRY_ANSWERS : ANSWERS;
    if (!(error instanceof HpccError) || !allowed.includes(error.code)) throw error;
    // What a person sees of it.
    assert.doesNotMatch(error.message, /[\u0000-\u0009\u000b-\u001f]/);
  }
  return kind;
}

const RUN: Record<Kind, (draw: Draw, place: Place) => Promise<void>> = {
  async tar(draw, { outside }) {
    const bytes = drawTar(draw, outside);
    await treeOf(draw, chunks(draw, draw.once(3) ? mutated(draw, bytes) : bytes));
  },
  async packed(draw, { outside }) {
    const { kind, bytes } = packed(draw, drawTar(draw, outside));
    await treeOf(draw, unpacked(kind, chunks(draw, draw.once(2) ? mutated(draw, bytes) : bytes)));
  },
  async documents(draw, { outside }) {
    await readDocuments(draw, drawImage(draw, outside, 2));
  },
  async layout(draw, place) {
    const folder = join(place.scratch, "layout");
    await writeDrawn(folder, drawImage(draw, place.outside, 6));
    try {
      await drain(await openImage(folder));
    } finally {
      await rm(folder, { recursive: true });
    }
  },
  async archive(draw, { scratch, store, outside }) {
    const file = join(scratch, "archive");
    await writeFile(file, drawArchive(draw, outside, 8));
    try {
      const { layoutFolder, digest } = await importArchive(file, join(store, "oci"));
      await drain(await openImage(layoutFolder, digest));
    } finally {
      await rm(file);
      await cleared(store, false);
    }
  },
  async registry(draw, { store, registry, outside }) {
    registry.serve(draw, drawImage(draw, outside, 12), 10);
    using registries = new Registries({ env: { HOME: store }, timing: TIMING });
    let goesOn = false;
    try {
      const judge = draw.once(3) ? () => undefined : null;
      await new ImageStore(store).pull(parseImageName(`${registry.host}/team/gcc:12`), { registries, judge });
    } catch (error) {
      goesOn = error instanceof HpccError && error.code === "registry.unavailable";
      throw error;
    } finally {
      await cleared(store, goesOn);
    }
  },
  async rootfs(draw, { scratch, store, outside }) {
    const folder = join(scratch, "layout");
    await writeDrawn(folder, drawImage(draw, outside, 60));
    try {
      await ensureRootfs(await openImage(folder), store);
    } finally {
      await rm(folder, { recursive: true });
      await rm(join(store, "rootfs"), { recursive: true, force: true });
      await rm(join(store, "squashfs"), { recursive: true, force: true });
    }
  },
};

/** In pieces as they come from a wire. */
async function* chunks(draw: Draw, bytes: Buffer): AsyncGenerator<Buffer, void, void> {
  const size = 1 + draw.below(draw.once(4) ? 40 : 4000);
  // As long as it takes a piece of one byte.
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Decompressed, with decoders' errors told as layers' are. */
async function* unpacked(
  kind: "none" | "gzip" | "zstd",
  given: AsyncIterable<Buffer>,
): AsyncGenerator<Buffer, void, void> {
  try {
    if (kind === "none") yield* given;
    else if (kind === "zstd") yield* unpackZstdFrames(given);
    else {
      const gunzip = createGunzip();
      const parts: Buffer[] = [];
      for await (const chunk of given) parts.push(chunk);
      gunzip.end(Buffer.concat(parts));
      yield* gunzip as AsyncIterable<Buffer>;
    }
  } catch (cause) {
    if (cause instanceof HpccError) throw cause;
    const { code = "", errno } = cause as NodeJS.ErrnoException;
    assert.ok(/^(?:Z_|ZSTD_)/.test(code) || errno !== undefined, String(cause));
    throw new HpccError("image.invalid", "no such bytes", { cause });
  }
}

async function treeOf(draw: Draw, bytes: AsyncIterable<Buffer>): Promise<void> {
  const tree = new ImageTree();
  const types: Record<string, "file" | "directory" | "link" | "symlink"> = {
    0: "file",
    5: "directory",
    1: "link",
    2: "symlink",
  };
  let ordinal = 0;
  for await (const { flag, name, link, mode, sizeBytes, sparse, body } of readTar(bytes)) {
    const type = types[flag];
    if (draw.once(2)) for await (const part of body) assert.ok(part.length > 0);
    if (sparse || type === undefined) throw new HpccError("image.invalid", "of a type that images do not have");
    const hasLink = type === "link" || type === "symlink";
    tree.apply(draw.once(5) ? 1 : 0, ordinal, { type, name, mode, sizeBytes, link: hasLink ? link : null });
    ordinal += 1;
  }
  checkEmission(tree.emission(2));
}

/** What goes to the packer of root file systems. */
function checkEmission({ first, files, last }: Emission): void {
  const folders = new Set([""]);
  const known = new Set<string>();
  const at = (path: string) => {
    const parts = path.split("/");
    for (const part of parts)
      assert.ok(part !== "" && part !== "." && part !== ".." && !part.includes("\0") && part.length <= 255, path);
    assert.ok(folders.has(parts.slice(0, -1).join("/")), `${path} before its folder`);
    assert.ok(!known.has(path), `${path} twice`);
    known.add(path);
  };
  for (const { path, type, mode, link } of first) {
    at(path);
    assert.equal(mode & ~0o1777, 0);
    if (type === "directory") folders.add(path);
    else assert.ok(type === "symlink" && link !== null && link !== "" && !link.includes("\0"));
  }
  const contents = new Set<string>();
  for (const layer of files)
    for (const { path, mode, type } of layer.values()) {
      at(path);
      assert.ok(type === "file" && (mode & ~0o1777) === 0);
      contents.add(path);
    }
  for (const { path, type, link } of last) {
    at(path);
    assert.ok(type === "link" && contents.has(link ?? ""), path);
  }
}

async function readDocuments(draw: Draw, image: DrawnImage): Promise<void> {
  const { index, blobs, manifestDigest, manifestType } = image;
  const load = async ({ digest }: { digest: string }) => blobs.get(digest) ?? Buffer.alloc(0);
  const tried: (() => unknown)[] = [
    () => platformsOfIndex(index),
    () => manifestBlobs(blobs.get(manifestDigest)!, manifestDigest as Digest),
    () => {
      const mediaType = draw.once(3) ? manifestType : "application/vnd.oci.image.index.v1+json";
      return manifestForThisMachine(
        { mediaType, digest: manifestDigest as Digest, sizeBytes: index.length, bytes: index },
        load,
      );
    },
  ];
  for (const one of tried)
    try {
      await one();
    } catch (error) {
      if (!(error instanceof HpccError) || !ANSWERS.includes(error.code)) throw error;
    }
}

async function writeDrawn(folder: string, { blobs, index }: DrawnImage): Promise<void> {
  const at = join(folder, "blobs/sha256");
  await mkdir(at, { recursive: true });
  await writeFile(join(folder, "index.json"), index);
  for (const [digest, bytes] of blobs) await writeFile(join(at, digest.slice(7)), bytes);
}

async function drain(image: OciImage): Promise<void> {
  for await (const part of flattenImage(image)) assert.ok(part.length >= 0);
}

/** An image that came whole is taken away again; of one that did not, nothing is there but what a later pull goes on with. */
async function cleared(store: string, goesOn: boolean): Promise<void> {
  const oci = join(store, "oci");
  if (!existsSync(oci)) return;
  for (const name of await readdir(oci)) {
    const isWhole = /^[0-9a-f]{64}$/.test(name);
    assert.ok(isWhole || (goesOn && /^\.pull-[0-9a-f]{64}$/.test(name)), `left over: ${name}`);
    await rm(join(oci, name), { recursive: true });
  }
  await rm(join(store, "signatures"), { recursive: true, force: true });
}
