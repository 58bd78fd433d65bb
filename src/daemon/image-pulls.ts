// Brings projects' images to this machine in the background: pulled, judged and unpacked once, however many calls wait. UNTRUSTED: registries.
// Which images may be pulled by themselves, and from where, the configuration has decided.
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { trustJudge } from "../config/project-image.ts";
import type { Digest } from "../core/digest/digest.ts";
import { formatImageName, type ImageName, repositoryOf } from "../core/image/image-name.ts";
import type { TrustRule } from "../core/image/trust.ts";
import { type ImageStore, KEEP_MS } from "../image/image-store.ts";

export interface ImagePullsOptions {
  readonly images: ImageStore;
  /** Where logins, mirrors, certificates and proxies of registries are found. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface WantedPull {
  readonly name: ImageName;
  readonly digest: Digest;
  readonly trust: readonly TrustRule[];
  /** Size of all images here at which the longest unused go. */
  readonly bytesMax: number;
}

/** One that is under way. */
export interface RunningPull {
  /** How far it is, for a person. */
  readonly progress: () => string;
  /** Resolves when the image can be used; rejects, with an HpccError if it is nobody's bug, when it cannot be had. */
  readonly done: Promise<void>;
}

interface Known {
  readonly image: Digest;
  readonly name: string;
  readonly done: Promise<void>;
  doneBytes: number;
  totalBytes: number;
}

/** From the question to the unpacked image. */
const DEADLINE_MS = 60 * 60_000;
/** For how long what failed is not tried again. */
const FAILED_MS = 30_000;
/** Failures that are remembered. */
const FAILED_MAX = 256;
const MEBIBYTE = 1024 ** 2;

export class ImagePulls {
  readonly #options: ImagePullsOptions;
  /** By repository and digest: a checkout that says that an image is elsewhere is no other one's fault. */
  readonly #running = new Map<string, Known>();
  readonly #failed = new Map<string, { readonly error: unknown; readonly untilMs: number }>();
  readonly #closing = new AbortController();

  constructor(options: ImagePullsOptions) {
    this.#options = options;
  }

  /** Begins a pull, or joins the one that runs. Throws what the last one failed of, for a while. */
  pull(wanted: WantedPull): RunningPull {
    const question = questionOf(wanted);
    const failed = this.#failed.get(question);
    if (failed !== undefined && failed.untilMs > this.#options.clock.monotonicMs()) throw failed.error;
    this.#failed.delete(question);
    const known = this.#running.get(question) ?? this.#begin(wanted);
    return { done: known.done, progress: () => shown(known) };
  }

  /** What is under way, for the commands. */
  list(): { readonly image: Digest; readonly progress: string }[] {
    return [...this.#running.values()].map((known) => ({ image: known.image, progress: shown(known) }));
  }

  /** Ends what is under way; the next daemon goes on with it. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled([...this.#running.values()].map(({ done }) => done));
  }

  #begin(wanted: WantedPull): Known {
    const { digest } = wanted;
    const name = formatImageName({ ...wanted.name, digest: null });
    const ended = Promise.withResolvers<void>();
    const known: Known = { image: digest, name, done: ended.promise, doneBytes: 0, totalBytes: 0 };
    const question = questionOf(wanted);
    this.#running.set(question, known);
    this.#options.logger.info("daemon.image.pulling", { image: digest, name });
    const run = this.#bring(wanted, known).finally(() => this.#running.delete(question));
    run.catch((error: unknown) => this.#remember(question, known, error));
    ended.resolve(run);
    ended.promise.catch(() => undefined);
    return known;
  }

  async #bring({ name, digest, trust, bytesMax }: WantedPull, known: Known): Promise<void> {
    const { images, env, clock, logger } = this.#options;
    const startMs = clock.monotonicMs();
    const signal = AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), this.#closing.signal]);
    // Whoever pulls nothing does without the code of HTTP and TLS.
    const { Registries } = await import("../image/registry/registries.ts");
    using registries = new Registries({ env, signal });
    const report = await images.pull(
      { ...name, digest },
      {
        registries,
        judge: trustJudge(trust, repositoryOf(name)),
        limits: { bytesMax, keepMs: KEEP_MS },
        onProgress: ({ doneBytes, totalBytes }) => Object.assign(known, { doneBytes, totalBytes }),
      },
    );
    if (report.digest !== digest)
      throw new HpccError("image.missing", `${known.name} is not ${digest} for this machine`);
    await images.rootfs(digest);
    const ms = Math.round(clock.monotonicMs() - startMs);
    logger.info("daemon.image.pulled", { image: digest, bytes: report.downloadedBytes, ms });
  }

  #remember(question: string, { image, name }: Known, error: unknown): void {
    const { clock, logger } = this.#options;
    if (this.#closing.signal.aborted) return;
    const { code, message } = error instanceof HpccError ? error : { code: "bug", message: String(error) };
    logger.warn("daemon.image.not_pulled", { image, name, code, message });
    this.#failed.set(question, { error, untilMs: clock.monotonicMs() + FAILED_MS });
    for (const oldest of this.#failed.keys()) {
      if (this.#failed.size <= FAILED_MAX) break;
      this.#failed.delete(oldest);
    }
  }
}

function questionOf({ name, digest }: WantedPull): string {
  return `${repositoryOf(name)}@${digest}`;
}

function shown({ name, doneBytes, totalBytes }: Known): string {
  const mebibytes = (bytes: number) => Math.round(bytes / MEBIBYTE);
  if (totalBytes === 0) return `${name}, asking its registry`;
  if (doneBytes >= totalBytes) return `${name}, ${mebibytes(totalBytes)} MiB are here and are unpacked`;
  return `${name}, ${mebibytes(doneBytes)} of ${mebibytes(totalBytes)} MiB`;
}
