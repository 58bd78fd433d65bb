// `hpcc image build|ls|show`: commands return data, printers make text of it.
import { HpccError } from "../base/errors.ts";
import type { ImageUse } from "../image/evict.ts";
import type { BuildReport } from "../image/host/build-image.ts";
import type { ImageDetails, ImageStore, ImageSummary } from "../image/image-store.ts";

export interface ImageBuildOptions {
  /** The one source there is; it has to be asked for, as others will follow. */
  readonly fromHost: boolean;
  /** `--compiler`, any number of times; none means gcc. */
  readonly compilers: readonly string[];
  /** `--with`, any number of times. */
  readonly with: readonly string[];
  readonly buildTools: boolean;
  readonly tag: string | null;
}

const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
/** A tag that could be the start of a digest would be ambiguous. */
const DIGEST_LIKE = /^[0-9a-f]{6,64}$/;

/** `hpcc image build --from-host [--compiler NAME]... [--with PACKAGE]... [--tag NAME]`. */
export async function imageBuild(images: ImageStore, options: ImageBuildOptions): Promise<BuildReport> {
  if (!options.fromHost)
    throw new HpccError("argument.invalid", "say where the image comes from: hpcc image build --from-host");
  if (options.tag !== null) checkedTag(options.tag);
  const compilers = options.compilers.length > 0 ? options.compilers : ["gcc"];
  return images.build({ compilers, packages: options.with, buildTools: options.buildTools, tag: options.tag });
}

/** A tag that this machine's user gives. */
export function checkedTag(tag: string): string {
  if (TAG.test(tag) && !DIGEST_LIKE.test(tag)) return tag;
  throw new HpccError("argument.invalid", `${JSON.stringify(tag)} cannot be a tag`);
}

/** `hpcc image ls`. */
export async function imageLs(images: ImageStore): Promise<readonly ListedImage[]> {
  const uses = new Map((await images.uses()).map(({ digest, ...use }) => [digest, use]));
  return (await images.list()).map((image) => ({ ...image, use: uses.get(image.digest) ?? null }));
}

/** With what it takes on the disk, what was made of it included, and what keeps it there. */
export interface ListedImage extends ImageSummary {
  readonly use: Omit<ImageUse, "digest"> | null;
}

/** `hpcc image show NAME`: a digest, the start of one, or a tag. */
export async function imageShow(images: ImageStore, name: string): Promise<ImageDetails> {
  return images.show(name);
}

/** Paths listed at most per kind of finding. */
const PATHS_SHOWN = 20;

export function printImageBuild(report: BuildReport): string {
  const findings = [
    ...finding("listed by a package and not on this machine", report.missing),
    ...finding("differ from what their package installed", report.changed),
    ...finding("left out: neither file, folder nor link", report.refused),
  ];
  return lines([
    `image    ${report.digest}`,
    `layout   ${report.layoutFolder}`,
    `packages ${report.packages.length}, ${report.entries} entries`,
    `size     ${mebibytes(report.sizeBytes)} in a layer of ${mebibytes(report.layerBytes)}`,
    ...findings,
  ]);
}

export function printImageList(images: readonly ListedImage[]): string {
  if (images.length === 0) return "no images here; make one with: hpcc image build --from-host\n";
  const rows = images.map((image) => [
    image.tag ?? "-",
    image.digest,
    mebibytes(image.use?.bytes ?? image.sizeBytes),
    usedText(image.use),
    image.compilers.join(", ") || "-",
  ]);
  return table([["TAG", "DIGEST", "ON DISK", "USED", "COMPILERS"], ...rows]);
}

function usedText(use: ListedImage["use"]): string {
  if (use?.inUse === true) return "in use";
  const day = use === null || use.usedMs === null ? "-" : new Date(use.usedMs).toISOString().slice(0, 10);
  return use?.pinned === true ? `${day}, pinned` : day;
}

export function printImageDetails(image: ImageDetails): string {
  return lines([
    `digest    ${image.digest}`,
    `tag       ${image.tag ?? "-"}`,
    `platform  ${image.platform}`,
    `system    ${printable(image.system ?? "-")}`,
    `compilers ${image.compilers.join(", ") || "-"}`,
    `called    ${image.found === null ? "not unpacked yet" : printable(image.found.join(" ")) || "-"}`,
    `layout    ${image.layoutFolder}`,
    `squashfs  ${image.squashfs ?? "not made yet"}`,
    `rootfs    ${image.rootfs ?? "not unpacked yet"}`,
    ...image.environment.map((entry) => `env       ${printable(entry)}`),
    ...image.layers.map(
      (layer) => `layer     ${layer.digest} ${mebibytes(layer.sizeBytes)}, unpacks to ${layer.diffId}`,
    ),
    ...image.packages.map((entry) => `package   ${printable(entry)}`),
  ]);
}

function finding(what: string, paths: readonly string[]): string[] {
  if (paths.length === 0) return [];
  const more = paths.length > PATHS_SHOWN ? [`  ... and ${paths.length - PATHS_SHOWN} more`] : [];
  return [
    `${paths.length} paths ${what}:`,
    ...paths.slice(0, PATHS_SHOWN).map((path) => `  ${printable(path)}`),
    ...more,
  ];
}

/** An image's own words may hold control characters. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, "?");
}

function mebibytes(sizeBytes: number): string {
  return `${(sizeBytes / (1024 * 1024)).toFixed(1)} MiB`;
}

function lines(text: readonly string[]): string {
  return text.map((line) => `${line}\n`).join("");
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return lines(
    rows.map((row) =>
      row
        .map((cell, column) => printable(cell).padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    ),
  );
}
