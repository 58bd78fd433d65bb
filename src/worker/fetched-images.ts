// Images that a worker fetches by itself: those that its operator lists, ahead of need, and those that jobs name, where the operator's rules
// allow. Each is fetched once, however many jobs of however many tenants wait for it. UNTRUSTED: clients, for what they name; registries.
import type { Clock, Timer } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type FetchPlace, type FetchRules, fetchPlaces, type WantedImage } from "../core/image/fetch-rules.ts";
import { formatImageName, repositoryOf } from "../core/image/image-name.ts";
import type { TrustRule } from "../core/image/trust.ts";
import type { ImageStore, Judge, StoreLimits } from "../image/image-store.ts";
import type { OciImage } from "../image/layout.ts";
import { Registries } from "../image/registry/registries.ts";
import type { VmEvent } from "../vm/vm-event.ts";
import { AT_ONCE_MAX, type FetchTurn, FetchTurns, OPERATOR } from "./fetch-turns.ts";
import type { LayoutImages, WorkerImages } from "./images.ts";

export interface FetchedImagesOptions {
  readonly images: LayoutImages;
  readonly store: ImageStore;
  readonly rules: FetchRules;
  /** Says whether an image of a repository is signed as a rule asks. */
  readonly judge: (rule: TrustRule, repository: string) => Judge;
  /** Where logins, mirrors, certificates and proxies of registries are found. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** What the images here may take, and what of them stays. */
  readonly limits: StoreLimits;
  /** For one image, from the question to its last byte. */
  readonly deadlineMs: number;
  /** Called when an image has come, or is offered no longer. */
  readonly changed: (digest: Digest) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** For how long what failed is not tried again. */
const FAILED_MS = 60_000;
/** How often the images of VMs that live are held anew. */
const RENEW_MS = 60 * 60_000;
/** Failures that are remembered. */
const FAILED_MAX = 256;

interface Coming {
  readonly turn: FetchTurn;
  readonly done: Promise<void>;
}

interface Failed {
  readonly error: unknown;
  readonly untilMs: number;
}

export class FetchedImages implements WorkerImages {
  readonly #options: FetchedImagesOptions;
  /** By what was asked for: an image, of which repositories, signed by whom. */
  readonly #coming = new Map<string, Coming>();
  readonly #failed = new Map<string, Failed>();
  readonly #turns = new FetchTurns();
  /** Those that came from a registry. */
  readonly #fetched = new Set<Digest>();
  /** VMs that live, by their image. */
  readonly #machines = new Map<Digest, Set<string>>();
  #renewal: Timer | null = null;
  readonly #closing = new AbortController();

  constructor(options: FetchedImagesOptions) {
    this.#options = options;
  }

  get digests(): readonly Digest[] {
    return this.#options.images.digests;
  }

  has(digest: Digest): boolean {
    return this.#options.images.has(digest);
  }

  contents(digest: Digest): Digest | null {
    return this.#options.images.contents(digest);
  }

  async rootfs(digest: Digest): Promise<string> {
    const { images, store } = this.#options;
    await store.leases.used(digest);
    if (this.#machines.has(digest)) await store.renew(digest);
    try {
      return await images.rootfs(digest);
    } catch (error) {
      await this.#forgetGone();
      if (images.has(digest)) throw error;
      throw new HpccError("image.fetching", `image ${digest} was taken away, and comes again when it is asked for`);
    }
  }

  /** What happens to VMs: an image that one was started from stays here as long as that lives, parked or not. */
  async vmEvent(event: VmEvent): Promise<void> {
    if (event.t !== "booted" && event.t !== "destroyed") return;
    const { image } = event.owner;
    const { store } = this.#options;
    const machines = this.#machines.get(image) ?? new Set();
    if (event.t === "booted") {
      this.#machines.set(image, machines.add(event.vm.id));
      await store.hold(image);
      this.#renewLater();
    } else if (machines.delete(event.vm.id) && machines.size === 0) {
      this.#machines.delete(image);
      await store.leases.release(image);
    }
  }

  #renewLater(): void {
    this.#renewal ??= this.#options.clock.after(RENEW_MS, () => {
      this.#renewal = null;
      for (const image of this.#machines.keys()) void this.#options.store.renew(image);
      if (this.#machines.size > 0) this.#renewLater();
    });
  }

  /** Offers no longer what was taken away, by this worker or by a person. */
  async #forgetGone(): Promise<void> {
    const { images, store, logger, changed } = this.#options;
    for (const digest of this.#fetched)
      if (!(await store.isHere(digest))) {
        this.#fetched.delete(digest);
        images.remove(digest);
        logger.info("worker.image.gone", { image: digest });
        changed(digest);
      }
  }

  fetch(wanted: WantedImage): Promise<void> {
    const { digest, tenant } = wanted;
    if (this.has(digest)) return Promise.resolve();
    // Before anything else: who may not have it does not learn that it comes for somebody else.
    const places = fetchPlaces(wanted, this.#options.rules);
    // Nor does it fail or wait for him where it does for somebody who says that it is elsewhere.
    const question = JSON.stringify([
      digest,
      places.map(({ name, rule }) => [formatImageName(name), rule?.path ?? null]),
    ]);
    const coming = this.#coming.get(question);
    if (coming !== undefined) {
      this.#turns.join(coming.turn, tenant);
      return coming.done;
    }
    const failed = this.#failed.get(question);
    if (failed !== undefined && failed.untilMs > this.#options.clock.monotonicMs()) throw failed.error;
    const turn = this.#turns.wait(tenant);
    const done = this.#inTurn(turn, () => this.#fetch(digest, places))
      .catch((error: unknown) => {
        if (!this.#closing.signal.aborted) this.#remember(question, error);
        throw error;
      })
      .finally(() => this.#coming.delete(question));
    // Whoever asks hears of it; that nobody waits any more is no fault.
    done.catch(() => undefined);
    this.#coming.set(question, { turn, done });
    return done;
  }

  /** Gets what the operator lists by digest, ahead of need. Detached: never rejects, and its failures are logged. */
  async fetchListed(): Promise<void> {
    const waiting = [...this.#options.rules.allowed];
    // No more at a time than are fetched: of a long list the rest would be turned away, and jobs would wait behind it.
    const fetchSome = async () => {
      for (let digest = waiting.shift(); digest !== undefined; digest = waiting.shift())
        try {
          await this.fetch({ tenant: OPERATOR, digest, repository: "", isListed: false });
        } catch {
          // Logged where it was fetched; the next job that names it tries again.
        }
    };
    await Promise.all(Array.from({ length: AT_ONCE_MAX }, fetchSome));
  }

  /** Ends what is coming; the next start goes on with it. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#renewal?.cancel();
    this.#turns.close();
    await Promise.allSettled([...this.#coming.values()].map(({ done }) => done));
  }

  async #inTurn(turn: FetchTurn, run: () => Promise<void>): Promise<void> {
    try {
      await turn.begun.promise;
      this.#closing.signal.throwIfAborted();
      await run();
    } finally {
      this.#turns.end(turn);
    }
  }

  async #fetch(digest: Digest, places: readonly FetchPlace[]): Promise<void> {
    const { images, clock, logger, changed } = this.#options;
    // It may have come from elsewhere while this waited.
    if (this.has(digest)) return;
    const startMs = clock.monotonicMs();
    const image = (await this.#alreadyHere(digest, places)) ?? (await this.#fromPlaces(digest, places));
    images.add(image);
    this.#fetched.add(digest);
    await this.#forgetGone();
    logger.info("worker.image.fetched", { image: digest, ms: Math.round(clock.monotonicMs() - startMs) });
    changed(digest);
  }

  /** One that was fetched before the worker's last start, and needs nobody's signature. */
  async #alreadyHere(digest: Digest, places: readonly FetchPlace[]): Promise<OciImage | null> {
    if (!places.some(({ rule }) => rule === null)) return null;
    return this.#options.store.open(digest).catch(() => null);
  }

  async #fromPlaces(digest: Digest, places: readonly FetchPlace[]): Promise<OciImage> {
    const { logger, store } = this.#options;
    let last: unknown = new HpccError("image.missing", `this worker has no image ${digest}`);
    for (const place of places)
      try {
        return await this.#fromPlace(digest, place);
      } catch (error) {
        if (this.#closing.signal.aborted || !(error instanceof HpccError)) throw error;
        const { code, message } = error;
        logger.warn("worker.image.fetch_failed", { image: digest, from: formatImageName(place.name), code, message });
        last = error;
      }
    // A registry that is away takes nothing back that it gave: what is kept of the signature is judged again.
    for (const { name, rule } of places)
      if (rule !== null && last instanceof HpccError && last.code === "registry.unavailable")
        if (await store.isVouchedFor(digest, this.#options.judge(rule, repositoryOf(name)))) return store.open(digest);
    throw last;
  }

  async #fromPlace(digest: Digest, { name, rule }: FetchPlace): Promise<OciImage> {
    const { store, env, deadlineMs, limits, logger } = this.#options;
    logger.info("worker.image.fetching", { image: digest, from: formatImageName(name), signedBy: rule?.path ?? null });
    const deadline = AbortSignal.timeout(deadlineMs);
    using registries = new Registries({ env, signal: AbortSignal.any([deadline, this.#closing.signal]) });
    const judge = rule === null ? null : this.#options.judge(rule, repositoryOf(name));
    try {
      const report = await store.pull(name, { registries, judge, limits });
      if (report.digest !== digest)
        throw new HpccError("image.missing", `${formatImageName(name)} is an index; jobs name the image in it`);
      return await store.open(digest);
    } catch (error) {
      if (!deadline.aborted) throw error;
      throw new HpccError("registry.unavailable", `${formatImageName(name)} did not come within ${deadlineMs} ms`, {
        cause: error,
      });
    }
  }

  #remember(question: string, error: unknown): void {
    this.#failed.delete(question);
    this.#failed.set(question, { error, untilMs: this.#options.clock.monotonicMs() + FAILED_MS });
    for (const oldest of this.#failed.keys()) {
      if (this.#failed.size <= FAILED_MAX) break;
      this.#failed.delete(oldest);
    }
  }
}
