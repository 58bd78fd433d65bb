// Images as registries and archives give them: documents that say what is true, what is not, and nothing that can be understood.
import { createHash } from "node:crypto";
import { deflateRawSync, gzipSync, zstdCompressSync } from "node:zlib";
import { ociArchitecture } from "../../src/core/image/platform.ts";
import { type Draw, mutated } from "./draw.ts";
import { drawTar, plainTar } from "./draw-tar.ts";

type Json = { [key: string]: unknown };

export interface DrawnImage {
  /** By digest. */
  readonly blobs: ReadonlyMap<string, Buffer>;
  readonly index: Buffer;
  readonly manifestDigest: string;
  readonly manifestType: string;
  readonly configDigest: string;
  readonly layerDigests: readonly string[];
}

const OCI = "application/vnd.oci.image";
const DOCKER = "application/vnd.docker";
const TYPES = [
  `${OCI}.layer.v1.tar`,
  `${OCI}.layer.v1.tar+gzip`,
  `${OCI}.layer.v1.tar+zstd`,
  `${DOCKER}.image.rootfs.diff.tar.gzip`,
  `${OCI}.manifest.v1+json`,
  `${OCI}.index.v1+json`,
  "",
  "x",
];
const VALUES: readonly unknown[] = [
  null,
  0,
  -1,
  1.5,
  1e300,
  "",
  "x",
  [],
  {},
  true,
  [null],
  "sha256:",
  "__proto__",
  2 ** 53,
];

export function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Bytes compressed in one of the ways that layers are; `kind` says what they are. */
export function packed(draw: Draw, bytes: Buffer): { readonly kind: "none" | "gzip" | "zstd"; readonly bytes: Buffer } {
  const cut = (pieces: number) => {
    const at = Array.from({ length: pieces - 1 }, () => draw.below(bytes.length + 1)).sort((a, b) => a - b);
    return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
  };
  switch (draw.below(3)) {
    case 0:
      return { kind: "none", bytes };
    case 1: {
      const members: Buffer[] = cut(1 + draw.below(3)).map((piece) => gzipSync(piece, { level: draw.below(3) }));
      if (draw.once(20)) members.push(deflateRawSync(draw.bytes(20)));
      return { kind: "gzip", bytes: Buffer.concat(members) };
    }
    default: {
      const frames: Buffer[] = cut(1 + draw.below(4)).map((piece) => zstdCompressSync(piece));
      if (draw.once(3)) frames.splice(draw.below(frames.length + 1), 0, skippable(draw));
      return { kind: "zstd", bytes: Buffer.concat(frames) };
    }
  }
}

function skippable(draw: Draw): Buffer {
  const content = draw.bytes(40);
  const frame = Buffer.alloc(8);
  frame.writeUInt32LE(0x184d2a50 + draw.below(16), 0);
  frame.writeUInt32LE(draw.once(8) ? 0xffffffff : content.length, 4);
  return Buffer.concat([frame, content]);
}

/** A document with something of it changed; more often not. */
function changed(draw: Draw, document: Json, odds: number): Json {
  if (!draw.once(odds)) return document;
  const copy = structuredClone(document);
  const places: [Json, string][] = [];
  const walk = (at: Json) => {
    for (const key of Object.keys(at)) {
      places.push([at, key]);
      const value = at[key];
      if (typeof value === "object" && value !== null) walk(value as Json);
    }
  };
  walk(copy);
  for (let left = 1 + draw.below(3); left > 0; left -= 1) {
    const [at, key] = draw.of(places);
    if (draw.once(4)) delete at[key];
    else at[key] = draw.once(3) ? draw.of(TYPES) : draw.of(VALUES);
  }
  return copy;
}

function document(draw: Draw, value: Json, odds: number): Buffer {
  const bytes = Buffer.from(JSON.stringify(changed(draw, value, odds)));
  return draw.once(odds * 2) ? mutated(draw, bytes) : bytes;
}

/** `odds`: about one in so many of its parts is wrong. */
export function drawImage(draw: Draw, outside: string, odds: number): DrawnImage {
  const blobs = new Map<string, Buffer>();
  const keep = (bytes: Buffer) => {
    const digest = digestOf(bytes);
    blobs.set(digest, draw.once(odds * 4) ? mutated(draw, bytes) : bytes);
    return digest;
  };
  const isDocker = draw.once(3);
  const layers = Array.from({ length: 1 + draw.below(3) }, () => {
    const tar = draw.once(2) ? plainTar(draw) : drawTar(draw, outside);
    const { kind, bytes } = packed(draw, tar);
    const stored = draw.once(odds) ? mutated(draw, bytes) : bytes;
    const suffix = kind === "none" ? "" : isDocker ? `.${kind}` : `+${kind}`;
    const mediaType = (isDocker ? `${DOCKER}.image.rootfs.diff.tar` : `${OCI}.layer.v1.tar`) + suffix;
    const size = draw.once(odds * 4) ? draw.below(10_000) : stored.length;
    return { diffId: digestOf(tar), descriptor: { mediaType, digest: keep(stored), size } };
  });
  const config = document(
    draw,
    {
      architecture: ociArchitecture(),
      os: "linux",
      config: { Env: ["PATH=/usr/bin", "A"], Labels: { "dev.hpcc.packages": "gcc-12=12.2.0-14" } },
      rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    },
    odds,
  );
  const configDigest = keep(config);
  const manifestType = isDocker ? `${DOCKER}.distribution.manifest.v2+json` : `${OCI}.manifest.v1+json`;
  const configType = isDocker ? `${DOCKER}.container.image.v1+json` : `${OCI}.config.v1+json`;
  const manifest = document(
    draw,
    {
      schemaVersion: 2,
      mediaType: manifestType,
      config: { mediaType: configType, digest: configDigest, size: config.length },
      layers: layers.map(({ descriptor }) => descriptor),
    },
    odds,
  );
  const manifestDigest = keep(manifest);
  const platform = { os: "linux", architecture: ociArchitecture() };
  const entry = { mediaType: manifestType, digest: manifestDigest, size: manifest.length };
  const nested = document(draw, { schemaVersion: 2, manifests: [{ ...entry, platform }] }, odds);
  const inner = { mediaType: `${OCI}.index.v1+json`, digest: keep(nested), size: nested.length };
  const list = draw.once(4) ? [inner] : [{ ...entry, ...(draw.once(2) && { platform }) }];
  const index = document(draw, { schemaVersion: 2, mediaType: inner.mediaType, manifests: list }, odds);
  const layerDigests = layers.map(({ descriptor }) => descriptor.digest);
  return { blobs, index, manifestDigest, manifestType, configDigest, layerDigests };
}

function plainMember(name: string, content: Buffer, flag = "0", link = ""): Buffer {
  const block = Buffer.alloc(512);
  block.write(name, 0, 100, "latin1");
  block.write("0000644\x000000000\x000000000\0", 100, "latin1");
  block.write(`${content.length.toString(8).padStart(11, "0")}\x0000000000007\0        `, 124, "latin1");
  block.write(flag, 156, "latin1");
  block.write(link, 157, 100, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return Buffer.concat([block, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** What `docker save` or a tool for layouts writes, and what it should not. */
export function drawArchive(draw: Draw, outside: string, odds: number): Buffer {
  const image = drawImage(draw, outside, odds);
  const members: Buffer[] = [];
  const name = (usual: string) => (draw.once(odds * 3) ? draw.of([outside, `../${usual}`, `./${usual}`, ""]) : usual);
  if (draw.once(2)) {
    members.push(plainMember(name("index.json"), image.index));
    for (const [digest, bytes] of image.blobs)
      members.push(plainMember(name(`blobs/sha256/${digest.slice(7)}`), bytes));
  } else {
    const saved = {
      Config: name(`${image.configDigest.slice(7)}.json`),
      RepoTags: draw.once(3) ? null : ["team/gcc:12"],
      Layers: image.layerDigests.map((digest) => name(`${digest.slice(7)}/layer.tar`)),
    };
    members.push(plainMember(`${image.configDigest.slice(7)}.json`, image.blobs.get(image.configDigest)!));
    for (const digest of image.layerDigests) {
      const at = `${digest.slice(7)}/layer.tar`;
      if (draw.once(8)) {
        members.push(
          plainMember("shared.tar", image.blobs.get(digest)!),
          plainMember(at, Buffer.alloc(0), "2", "../shared.tar"),
        );
      } else members.push(plainMember(name(at), image.blobs.get(digest)!));
    }
    members.push(plainMember("manifest.json", Buffer.from(JSON.stringify([changed(draw, saved, odds)]))));
  }
  if (draw.once(odds)) members.splice(draw.below(members.length + 1), 0, drawTar(draw, outside).subarray(0, -1024));
  const whole = Buffer.concat([...members, Buffer.alloc(1024)]);
  const { bytes } = packed(draw, whole);
  return draw.once(odds) ? mutated(draw, bytes) : bytes;
}
