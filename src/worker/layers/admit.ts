// Lets a job in: reads what the client sent and holds it against limits, images and policy, before anything is asked for or looked up.
// UNTRUSTED: the header of a job.
import { type Clock, pause } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { resultKeys } from "../../core/action/result-keys.ts";
import {
  decodeSourceManifest,
  filesOf,
  SOURCE_MANIFEST_BYTES_MAX,
  type SourceManifest,
  sourceDigest,
} from "../../core/action/source-manifest.ts";
import { type Digest, parseDigest } from "../../core/digest/digest.ts";
import { BUILD_ID_LENGTH_MAX, type BuildId, isBuildId } from "../../core/identity/build-id.ts";
import { type Principal, spiffeId, type TenantId } from "../../core/identity/spiffe.ts";
import { type Isolation, isolationAtLeast } from "../../core/isolation.ts";
import type { JobPolicy, PolicySource } from "../../core/tenant-policy.ts";
import type { TenantStore } from "../../store/action-cache.ts";
import { makePoolKey } from "../../vm/pool-key.ts";
import { actionOfMessage, isolationOfNumber } from "../../wire/worker/action-codec.ts";
import { DEADLINE_MS_MAX } from "../../wire/worker/limits.ts";
import { checkContents, type WorkerImages } from "../images.ts";
import { type Answer, Denied, type Job, type Layer, type RecordedArrival } from "./layer.ts";
import type { JobObserver } from "./observer.ts";

export interface SourceLimits {
  /** Largest blob of a source, uncompressed. */
  readonly blobBytesMax: number;
  /** All blobs of a source together, uncompressed. */
  readonly sourceBytesMax: number;
}

/** For an image of which everything is here already, and for a refusal that needs no registry. */
const AT_ONCE_MS = 100;

export interface AdmitLayerOptions {
  /** What this worker's VMs offer. */
  readonly isolation: Isolation;
  readonly images: WorkerImages;
  readonly policies: PolicySource;
  readonly limits: SourceLimits;
  readonly store: (tenant: TenantId) => TenantStore;
  readonly observe: JobObserver;
  readonly clock: Clock;
}

export class AdmitLayer implements Layer<RecordedArrival> {
  readonly #next: Layer;
  readonly #options: AdmitLayerOptions;

  constructor(next: Layer, options: AdmitLayerOptions) {
    this.#next = next;
    this.#options = options;
  }

  async run(arrival: RecordedArrival): Promise<Answer> {
    let job: Job;
    try {
      job = this.#admit(arrival);
      await this.#bringImage(job, arrival.header);
      checkContents(this.#options.images, job.action.imageDigest, job.imageContents ?? null);
    } catch (error) {
      throw new Denied(error);
    }
    this.#options.observe({ t: "admitted", job });
    return this.#next.run(job);
  }

  #admit({ principal, header, client, signal, record }: RecordedArrival): Job {
    const { limits, policies, store } = this.#options;
    // Both of one file, whatever comes into force meanwhile: the job keeps what it was admitted under.
    const policy = policies.of(principal);
    record.policy(policies.digest, policy?.tier ?? null);
    const digest = sourceDigest(header.sourceManifest);
    record.source(digest);
    const build = buildOf(header.buildId);
    record.build(build);
    const action = actionOfMessage(header.action);
    record.action(action);
    if (header.sourceManifest.length > SOURCE_MANIFEST_BYTES_MAX)
      throw new HpccError("limit.exceeded", `a source manifest has at most ${SOURCE_MANIFEST_BYTES_MAX} bytes`);
    const source = decodeSourceManifest(header.sourceManifest);
    checkSizes(source, limits);
    if (header.deadlineMs < 1 || header.deadlineMs > DEADLINE_MS_MAX)
      throw new HpccError("argument.invalid", `a deadline is 1 to ${DEADLINE_MS_MAX} ms`);
    if (policy === null)
      throw new HpccError("identity.forbidden", `this worker's policy does not serve ${spiffeId(principal)}`);
    const keys = resultKeys({ action, sourceDigest: digest, principal, policy });
    record.key(keys.own.key);
    const isolationMin = this.#isolationMin(isolationOfNumber(header.isolationMin), policy);
    this.#checkImage(action.imageDigest, principal, policy);
    const { life: trust, golden } = policy;
    return {
      principal,
      action,
      source,
      encodedSource: header.sourceManifest,
      keys,
      policy,
      isolationMin,
      poolKey: makePoolKey({ principal, image: action.imageDigest, trust: header.again ? "clean" : trust, golden }),
      again: header.again,
      imageContents: header.imageContents === "" ? null : parseDigest(header.imageContents, "what the image holds"),
      store: store(principal.tenant),
      build,
      signal,
      client,
      deadlineMs: header.deadlineMs,
    };
  }

  /** A job may ask for more than the policy does, and never gets less. */
  #isolationMin(asked: Isolation, { isolationMin }: JobPolicy): Isolation {
    const { isolation } = this.#options;
    if (!isolationAtLeast(isolation, asked))
      throw new HpccError("isolation.weak", `this worker offers ${isolation}, and the job asks for ${asked}`);
    if (isolationMin === null || isolationAtLeast(asked, isolationMin)) return asked;
    if (!isolationAtLeast(isolation, isolationMin))
      throw new HpccError("isolation.weak", `this worker offers ${isolation}, and the policy asks for ${isolationMin}`);
    return isolationMin;
  }

  #checkImage(image: Digest, { tenant }: Principal, { images }: JobPolicy): void {
    if (images !== null && !images.has(image))
      throw new HpccError("image.forbidden", `this worker's policy does not allow ${tenant} the image ${image}`);
  }

  /** Waits for an image that has to be fetched as long as the client said, which knows whether a local compile will do meanwhile. */
  async #bringImage({ action, policy, principal, signal }: Job, header: RecordedArrival["header"]): Promise<void> {
    const { images, clock } = this.#options;
    const digest = action.imageDigest;
    if (images.has(digest)) return;
    if (images.fetch === undefined) throw new HpccError("image.missing", `this worker has no image ${digest}`);
    const isListed = policy.images?.has(digest) ?? false;
    const coming = images.fetch({ tenant: principal.tenant, digest, repository: header.imageRepository, isListed });
    const waitMs = Math.max(AT_ONCE_MS, Math.min(header.imageWaitMs, header.deadlineMs));
    const over = new AbortController();
    try {
      await Promise.race([coming, pause(clock, waitMs, AbortSignal.any([signal, over.signal]))]);
    } finally {
      over.abort();
    }
    signal.throwIfAborted();
    if (!images.has(digest)) throw new HpccError("image.fetching", `this worker is fetching the image ${digest}`);
  }
}

/** UNTRUSTED: the client. */
function buildOf(text: string): BuildId | null {
  if (text === "") return null;
  if (isBuildId(text)) return text;
  throw new HpccError(
    "argument.invalid",
    `a build's name is printable ASCII of at most ${BUILD_ID_LENGTH_MAX} characters`,
  );
}

function checkSizes(source: SourceManifest, { blobBytesMax, sourceBytesMax }: SourceLimits): void {
  const sizes = new Map<Digest, number>();
  let total = 0;
  for (const { digest, size } of filesOf(source)) {
    if (sizes.has(digest) && sizes.get(digest) !== size)
      throw new HpccError("argument.invalid", "a source manifest gives one digest two sizes");
    sizes.set(digest, size);
    total += size;
    if (size > blobBytesMax) throw new HpccError("limit.exceeded", `a source file has at most ${blobBytesMax} bytes`);
    if (total > sourceBytesMax) throw new HpccError("limit.exceeded", `a source has at most ${sourceBytesMax} bytes`);
  }
}
