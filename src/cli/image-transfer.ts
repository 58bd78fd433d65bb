// `hpcc image pull|push`: between this machine and registries.
import { randomBytes } from "node:crypto";
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { type ByteString, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { readCheckoutFile } from "../config/checkout-file.ts";
import type { Environment } from "../config/directories.ts";
import { formatImageLock, IMAGE_LOCK, parseImageLock } from "../config/image-lock.ts";
import { trustJudge } from "../config/project-image.ts";
import type { Digest } from "../core/digest/digest.ts";
import { formatImageName, type ImageName, parseImageName, repositoryOf } from "../core/image/image-name.ts";
import { ruleFor } from "../core/image/trust.ts";
import { type FoundPlatforms, type ImageDetails, type ImageStore, KEEP_MS } from "../image/image-store.ts";
import type { PullProgress, PullReport } from "../image/registry/pull.ts";
import type { PushReport } from "../image/registry/push.ts";
import { Registries } from "../image/registry/registries.ts";
import { type CurrentConfig, currentClientConfig } from "./current-config.ts";
import { type Output, printable } from "./output.ts";

const MEBIBYTE = 1024 * 1024;

export interface TransferOptions {
  readonly env: Environment;
  readonly onProgress: (progress: PullProgress) => void;
}

export interface PulledImage extends PullReport {
  readonly name: string;
  /** The key of the user's policy that signed it; null where none is asked for. */
  readonly signedBy: string | null;
}

/** Ends a transfer at the first Ctrl-C, so that what is there stays usable; the second one ends the program. */
function interruption(): { readonly signal: AbortSignal } & Disposable {
  const control = new AbortController();
  const signals = ["SIGINT", "SIGTERM"] as const;
  const abort = () => control.abort();
  for (const signal of signals) process.once(signal, abort);
  return {
    signal: control.signal,
    [Symbol.dispose]() {
      for (const signal of signals) process.off(signal, abort);
    },
  };
}

/** `hpcc image pull [NAME]`; without a name the image that the current folder's project is bound to. */
export async function imagePull(
  images: ImageStore,
  text: string | null,
  options: TransferOptions,
): Promise<PulledImage> {
  const current = currentClientConfig(options.env);
  return pullNamed(images, text === null ? projectsName(current) : parseImageName(text), { ...options, current });
}

async function pullNamed(
  images: ImageStore,
  name: ImageName,
  { env, onProgress, current }: TransferOptions & { readonly current: CurrentConfig },
): Promise<PulledImage & FoundPlatforms> {
  using interrupted = interruption();
  using registries = new Registries({ env, signal: interrupted.signal });
  const repository = repositoryOf(name);
  const rule = ruleFor(current.config.trust, repository);
  const judge = trustJudge(current.config.trust, repository);
  const limits = { bytesMax: current.config.imageBytesMax, keepMs: KEEP_MS };
  const report = await images.pull(name, { registries, onProgress, judge, limits });
  return { name: formatImageName({ ...name, digest: report.digest }), signedBy: rule?.path ?? null, ...report };
}

function projectsName({ config: { image } }: CurrentConfig): ImageName {
  if (image.kind === "unlocked")
    throw new HpccError("image.missing", `hpcc.lock does not say which image ${formatImageName(image.name)} is`, {
      hint: "Run `hpcc image update`, and commit hpcc.lock.",
    });
  if (image.kind === "none" || image.name === null)
    throw new HpccError("argument.invalid", "this folder's project names no image of a registry; say which to pull");
  return { ...image.name, digest: image.digest };
}

export interface UpdatedImage extends PulledImage {
  readonly lockFile: string;
  /** What the lock said before; null when it said nothing. */
  readonly before: Digest | null;
  /** Compilers and packages that differ; null when the image of before is not here. */
  readonly changes: readonly string[] | null;
}

/** `hpcc image update`: asks the registry what the project's name for its image means now, and writes that into hpcc.lock. */
export async function imageUpdate(images: ImageStore, options: TransferOptions): Promise<UpdatedImage> {
  const current = currentClientConfig(options.env);
  const { image } = current.config;
  if (current.root === null || image.kind === "none" || image.name === null || image.name.digest !== null)
    throw new HpccError("argument.invalid", "this folder's project has no hpcc.toml that names an image by a tag", {
      hint: 'Write image = "registry.example.com/team/toolchain:12" into hpcc.toml at the project\'s root.',
    });
  const { name } = image;
  const before = image.kind === "unlocked" ? null : image.digest;
  const pulled = await pullNamed(images, name, { ...options, current });
  const path = `${current.root}/${IMAGE_LOCK}` as ByteString;
  const shown = displayText(path);
  const lock = existsSync(bytesOf(path))
    ? parseImageLock(readCheckoutFile(bytesOf(path)).toString("utf8"), shown)
    : new Map();
  writeAtomically(bytesOf(path), formatImageLock(lock, name, pulled.platforms));
  const old = before === null ? null : await images.show(before).catch(() => null);
  const changes = old === null ? null : differences(old, await images.show(pulled.digest));
  return { ...pulled, lockFile: shown, before, changes };
}

function writeAtomically(path: Buffer, text: string): void {
  const temporary = Buffer.concat([path, Buffer.from(`.${randomBytes(6).toString("hex")}.tmp`)]);
  writeFileSync(temporary, text);
  renameSync(temporary, path);
}

/** Packages that one image has and the other has not, or in another version. */
function differences(old: ImageDetails, now: ImageDetails): string[] {
  const versions = ({ packages }: ImageDetails) => new Map(packages.map((entry) => splitAt(entry, "=")));
  const [before, after] = [versions(old), versions(now)];
  return [...new Set([...before.keys(), ...after.keys()])].sort().flatMap((name) => {
    const [from, to] = [before.get(name), after.get(name)];
    return from === to ? [] : [`${name} ${from ?? "(absent)"} -> ${to ?? "(absent)"}`];
  });
}

function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

export function printUpdate(updated: UpdatedImage): string {
  const { digest, before, changes, lockFile } = updated;
  const what =
    before === digest
      ? "nothing changed\n"
      : before === null
        ? `${printable(lockFile)} says so from now on; commit it\n`
        : `before   ${before}\n${changedText(changes)}${printable(lockFile)} says so from now on; commit it\n`;
  return printPull(updated) + what;
}

function changedText(changes: readonly string[] | null): string {
  if (changes === null) return "changes  not known, as the image of before is not here\n";
  if (changes.length === 0) return "changes  none of compilers and packages\n";
  return changes.map((line) => `change   ${printable(line)}\n`).join("");
}

export async function imagePush(
  images: ImageStore,
  text: string,
  options: TransferOptions & { readonly image: string | null },
): Promise<PushReport> {
  const name = parseImageName(text);
  const here = options.image ?? name.digest ?? formatImageName(name);
  const { digest } = await images.show(here);
  using interrupted = interruption();
  using registries = new Registries({ env: options.env, signal: interrupted.signal });
  return images.push(digest, name, registries, options.onProgress);
}

export function printPull({ name, digest, sizeBytes, downloadedBytes, signedBy }: PulledImage): string {
  const signed = signedBy === null ? "" : `signed   by ${printable(signedBy)}\n`;
  const how = downloadedBytes === 0 ? "all of it was here" : `${mebibytes(downloadedBytes)} of it downloaded`;
  return `image    ${digest}\nname     ${name}\nsize     ${mebibytes(sizeBytes)}, ${how}\n${signed}`;
}

export function printPush({ name, digest, sizeBytes, sentBytes }: PushReport): string {
  const how = sentBytes === 0 ? "all of it was there" : `${mebibytes(sentBytes)} of it sent`;
  return `image    ${digest}\nname     ${name}\nsize     ${mebibytes(sizeBytes)}, ${how}\n`;
}

function mebibytes(sizeBytes: number): string {
  return `${(sizeBytes / MEBIBYTE).toFixed(1)} MiB`;
}

/** How far a transfer is, on one line of a terminal; elsewhere nothing. */
export class ProgressLine implements Disposable {
  readonly #output: Output;
  readonly #isShown: boolean;
  #last = "";

  constructor(output: Output, isQuiet: boolean, isTerminal = process.stderr.isTTY) {
    this.#output = output;
    this.#isShown = !isQuiet && isTerminal;
  }

  readonly show = ({ doneBytes, totalBytes }: PullProgress): void => {
    const line = `${mebibytes(doneBytes)} of ${mebibytes(totalBytes)}`;
    if (!this.#isShown || line === this.#last) return;
    this.#last = line;
    this.#output.error(`\r\u001b[K${line}`);
  };

  end(): void {
    if (this.#last !== "") this.#output.error("\r\u001b[K");
    this.#last = "";
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
