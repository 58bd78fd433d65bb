// Makes OCI image layouts for tests, hostile ones too: nothing here checks what it writes.
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import type { Digest } from "../../src/core/digest/digest.ts";

export interface RawEntry {
  readonly name: string | Buffer;
  /** Type flag: "0" file, "1" hard link, "2" symlink, "3" character device, "5" folder ... */
  readonly flag?: string;
  readonly mode?: number;
  readonly content?: string | Buffer;
  readonly link?: string;
  /** Size that the header claims, when it is not the content's. */
  readonly size?: number;
  /** Records of a PAX header before the entry. */
  readonly pax?: Record<string, string>;
}

const BLOCK = 512;

function block(entry: RawEntry, sizeBytes: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  const name = typeof entry.name === "string" ? Buffer.from(entry.name, "utf8") : entry.name;
  name.copy(header, 0, 0, 100);
  header.write(`${(entry.mode ?? 0o644).toString(8).padStart(7, "0")}\0`, 100, "latin1");
  header.write("0000000\x000000000\0", 108, "latin1");
  header.write(`${sizeBytes.toString(8).padStart(11, "0")}\0`, 124, "latin1");
  header.write("00000000007\0        ", 136, "latin1");
  header.write(entry.flag ?? "0", 156, "latin1");
  header.write(entry.link ?? "", 157, 100, "utf8");
  header.write("ustar\x0000", 257, "latin1");
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
}

function paxRecords(records: Record<string, string>): Buffer {
  const lines = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = Buffer.byteLength(rest) + 1;
    while (String(length).length + Buffer.byteLength(rest) !== length)
      length = String(length).length + Buffer.byteLength(rest);
    return `${length}${rest}`;
  });
  return Buffer.from(lines.join(""), "utf8");
}

/** A tar archive of entries as given. */
export function rawTar(entries: readonly RawEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    if (entry.pax !== undefined) {
      const records = paxRecords(entry.pax);
      parts.push(block({ name: "pax", flag: "x" }, records.length), padded(records));
    }
    const content = Buffer.from(entry.content ?? "");
    parts.push(block(entry, entry.size ?? content.length), padded(content));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK)]);
}

export interface RawLayer {
  readonly tar: Buffer;
  readonly compression?: "none" | "gzip" | "zstd";
  /** How many frames or members the compressed bytes are made of. */
  readonly frames?: number;
  /** Bytes of the blob behind what unpacks. */
  readonly trailing?: Buffer;
  /** What the documents say, when it is not the truth. */
  readonly claims?: {
    readonly mediaType?: string;
    readonly size?: number;
    readonly diffId?: string;
    readonly digest?: string;
  };
}

export interface RawLayout {
  readonly layers: readonly RawLayer[];
  readonly docker?: boolean;
  readonly tag?: string;
  readonly labels?: Record<string, string>;
  /** Edits documents before they are written. */
  readonly editManifest?: (manifest: Record<string, unknown>) => unknown;
  readonly editIndex?: (index: Record<string, unknown>) => unknown;
}

function compressed(tar: Buffer, { compression = "none", frames = 1 }: RawLayer): Buffer {
  if (compression === "none") return tar;
  const size = Math.ceil(tar.length / frames);
  const parts = Array.from({ length: frames }, (_, at) => tar.subarray(at * size, (at + 1) * size));
  return Buffer.concat(parts.map((part) => (compression === "gzip" ? gzipSync(part) : zstdCompressSync(part))));
}

const hash = (bytes: Buffer) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const TYPES = {
  oci: {
    manifest: "application/vnd.oci.image.manifest.v1+json",
    config: "application/vnd.oci.image.config.v1+json",
    layer: { none: "application/vnd.oci.image.layer.v1.tar", gzip: "application/vnd.oci.image.layer.v1.tar+gzip" },
  },
  docker: {
    manifest: "application/vnd.docker.distribution.manifest.v2+json",
    config: "application/vnd.docker.container.image.v1+json",
    layer: {
      none: "application/vnd.docker.image.rootfs.diff.tar",
      gzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
    },
  },
} as const;

/** Writes a layout folder and returns its manifest's digest. */
export async function writeLayout(folder: string, layout: RawLayout): Promise<Digest> {
  await mkdir(join(folder, "blobs", "sha256"), { recursive: true });
  const types = layout.docker === true ? TYPES.docker : TYPES.oci;
  const put = async (bytes: Buffer) => {
    const digest = hash(bytes);
    await writeFile(join(folder, "blobs", "sha256", digest.slice(7)), bytes);
    return { digest, size: bytes.length };
  };
  const putJson = (value: unknown) => put(Buffer.from(JSON.stringify(value)));
  const layers: unknown[] = [];
  const diffIds: string[] = [];
  for (const layer of layout.layers) {
    const { tar, compression = "none", trailing, claims = {} } = layer;
    const packed = compressed(tar, layer);
    const stored = await put(trailing === undefined ? packed : Buffer.concat([packed, trailing]));
    const mediaType = compression === "zstd" ? "application/vnd.oci.image.layer.v1.tar+zstd" : types.layer[compression];
    layers.push({
      mediaType: claims.mediaType ?? mediaType,
      digest: claims.digest ?? stored.digest,
      size: claims.size ?? stored.size,
    });
    diffIds.push(claims.diffId ?? hash(tar));
  }
  const config = await putJson({
    architecture: process.arch === "x64" ? "amd64" : process.arch,
    os: "linux",
    config: { Env: ["PATH=/usr/bin"], ...(layout.labels && { Labels: layout.labels }) },
    rootfs: { type: "layers", diff_ids: diffIds },
  });
  const manifest = { schemaVersion: 2, config: { mediaType: types.config, ...config }, layers };
  const stored = await putJson(layout.editManifest?.(manifest) ?? manifest);
  const annotations =
    layout.tag === undefined ? {} : { annotations: { "org.opencontainers.image.ref.name": layout.tag } };
  const index = { schemaVersion: 2, manifests: [{ mediaType: types.manifest, ...stored, ...annotations }] };
  await writeFile(join(folder, "index.json"), JSON.stringify(layout.editIndex?.(index) ?? index));
  await writeFile(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  return stored.digest as Digest;
}
