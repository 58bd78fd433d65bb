// An image that is not the host's: an image of the store with files of a test's own on top, so that it holds what the host lacks.
// It stays in the store: the same files give the same digest.
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { IMAGE_FOLDER } from "./farm.ts";
import { type RawEntry, rawTar } from "./oci-layout.ts";

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/** Puts a layer of these entries on an image; returns the new image's digest and layout folder. */
export function extendImage(base: string, entries: readonly RawEntry[]): { digest: string; layout: string } {
  const hex = (digest: string) => digest.slice("sha256:".length);
  const work = mkdtempSync(join(IMAGE_FOLDER, "extend-"));
  cpSync(join(IMAGE_FOLDER, "oci", hex(base)), work, { recursive: true });
  const blob = (digest: string) => join(work, "blobs/sha256", hex(digest));
  const read = (digest: string) => JSON.parse(readFileSync(blob(digest), "utf8")) as unknown;
  const put = (bytes: Buffer, mediaType: string): Descriptor => {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    writeFileSync(blob(digest), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const putJson = (value: unknown, mediaType: string) => put(Buffer.from(JSON.stringify(value)), mediaType);
  const manifest = read(base) as { config: Descriptor; layers: Descriptor[] };
  const config = read(manifest.config.digest) as { rootfs: { diff_ids: string[] } };
  const layer = put(rawTar(entries), "application/vnd.oci.image.layer.v1.tar");
  const rootfs = { ...config.rootfs, diff_ids: [...config.rootfs.diff_ids, layer.digest] };
  const newConfig = putJson({ ...config, rootfs }, manifest.config.mediaType);
  const layers = [...manifest.layers, layer];
  const stored = putJson({ ...manifest, config: newConfig, layers }, "application/vnd.oci.image.manifest.v1+json");
  writeFileSync(join(work, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [stored] }));
  const layout = join(IMAGE_FOLDER, "oci", hex(stored.digest));
  if (existsSync(layout)) rmSync(work, { recursive: true });
  else renameSync(work, layout);
  return { digest: stored.digest, layout };
}
