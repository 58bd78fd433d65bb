// `hpcc init`: binds the current folder's project to an image by an hpcc.toml, or says that none is needed.
import { existsSync, writeFileSync } from "node:fs";
import { type ByteString, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { PROJECT_CONFIG } from "../config/client.ts";
import type { Environment } from "../config/directories.ts";
import type { ProjectImage } from "../config/project-image.ts";
import { findProjectRoot } from "../config/project-root.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { ImageStore, ImageSummary } from "../image/image-store.ts";
import { currentClientConfig } from "./current-config.ts";
import { printable } from "./output.ts";

export interface InitReport {
  /** The project's root; the current folder where it is in none. */
  readonly root: string;
  /** What was written; null when nothing was. */
  readonly file: string | null;
  /** The image that the project is bound to. */
  readonly image: Digest | null;
  /** Whether the user's configuration lets it run. */
  readonly allowed: boolean;
  /** Images of this machine that a project could be bound to. */
  readonly images: readonly ImageSummary[];
}

export interface InitOptions {
  readonly env: Environment;
  readonly folder: ByteString;
  /** Digest, start of one or tag; null to look only. */
  readonly image: string | null;
  readonly images: () => Promise<ImageStore>;
}

export async function init({ env, folder, image, images }: InitOptions): Promise<InitReport> {
  const root = findProjectRoot(folder, (path) => existsSync(bytesOf(path))) ?? folder;
  const file = `${root}/${PROJECT_CONFIG}` as ByteString;
  const store = await images();
  if (image === null) {
    const { config } = currentClientConfig(env);
    const bound = boundImage(config.image);
    const all = await store.list();
    return { root: displayText(root), file: null, image: bound, allowed: config.image.kind === "allowed", images: all };
  }
  const { digest } = await store.show(image);
  if (existsSync(bytesOf(file))) {
    const { config } = currentClientConfig(env);
    if (boundImage(config.image) !== digest)
      throw new HpccError("argument.invalid", `${displayText(file)} is there already; set image = "${digest}" in it`);
    return { root: displayText(root), file: null, image: digest, allowed: config.image.kind === "allowed", images: [] };
  }
  writeFileSync(bytesOf(file), bytesOf(byteStringOfText(fileText(digest))), { flag: "wx" });
  const { config } = currentClientConfig(env);
  return {
    root: displayText(root),
    file: displayText(file),
    image: digest,
    allowed: config.image.kind === "allowed",
    images: [],
  };
}

function boundImage(image: ProjectImage): Digest | null {
  return image.kind === "none" || image.kind === "unlocked" ? null : image.digest;
}

function fileText(digest: Digest): string {
  return `# What compiles this project: \`hpcc image show ${digest.slice(0, "sha256:".length + 12)}\`.\nimage = "${digest}"\n`;
}

export function printInit({ root, file, image, allowed, images }: InitReport, userConfig: string): string {
  const lines = [];
  if (image === null) {
    lines.push(
      `No file is needed for ${printable(root)}: \`hpcc gcc -c foo.c\` keeps what this machine's compilers make.`,
      "A project is bound to an image to be compiled by workers, or by the same compiler everywhere:",
    );
    const [first] = images;
    if (first === undefined) lines.push("  hpcc image build --from-host --tag NAME", "  hpcc init --image NAME");
    else
      for (const { tag, digest, compilers } of images)
        lines.push(
          `  hpcc init --image ${printable(tag ?? digest.slice(0, "sha256:".length + 12))}      # ${printable(compilers.join(", "))}`,
        );
    return `${lines.join("\n")}\n`;
  }
  lines.push(
    file === null
      ? `${printable(root)} is bound to ${image} already.`
      : `${printable(file)} binds the project to ${image}.`,
  );
  if (!allowed)
    lines.push(
      "You have not allowed that image yet. Add to",
      `  ${printable(userConfig)}`,
      `this line, or its digest to the list:`,
      `  images.allowed = ["${image}"]`,
    );
  return `${lines.join("\n")}\n`;
}
