// `hpcc image pull|push`: between this machine and registries.
import type { Environment } from "../config/directories.ts";
import { formatImageName, parseImageName } from "../core/image/image-name.ts";
import type { ImageStore } from "../image/image-store.ts";
import type { PullProgress, PullReport } from "../image/registry/pull.ts";
import type { PushReport } from "../image/registry/push.ts";
import { Registries } from "../image/registry/registries.ts";
import type { Output } from "./output.ts";

const MEBIBYTE = 1024 * 1024;

export interface TransferOptions {
  readonly env: Environment;
  readonly onProgress: (progress: PullProgress) => void;
}

export interface PulledImage extends PullReport {
  readonly name: string;
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

export async function imagePull(images: ImageStore, text: string, options: TransferOptions): Promise<PulledImage> {
  using interrupted = interruption();
  using registries = new Registries({ env: options.env, signal: interrupted.signal });
  const name = parseImageName(text);
  const report = await images.pull(name, registries, options.onProgress);
  return { name: formatImageName({ ...name, digest: report.digest }), ...report };
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

export function printPull({ name, digest, sizeBytes, downloadedBytes }: PulledImage): string {
  const how = downloadedBytes === 0 ? "all of it was here" : `${mebibytes(downloadedBytes)} of it downloaded`;
  return `image    ${digest}\nname     ${name}\nsize     ${mebibytes(sizeBytes)}, ${how}\n`;
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
