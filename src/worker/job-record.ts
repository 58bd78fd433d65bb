// What is known of one job so far, from which its one audit row is made, whatever becomes of it.

import type { AppendedRow, AuditLog } from "../audit/audit-log.ts";
import { encodeFlags } from "../audit/flags.ts";
import { type AuditRow, INLINE_FLAGS_LENGTH_MAX } from "../audit/row.ts";
import type { EnvelopeBody } from "../audit/rows/bodies.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Action } from "../core/action/action.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import type { BuildId } from "../core/identity/build-id.ts";
import { type Principal, spiffeId } from "../core/identity/spiffe.ts";
import type { BlobStore } from "../store/blob-store.ts";
import { type JobEnd, type JobFacts, jobRow } from "./rows/job-rows.ts";

const FLAGS_BYTES_MAX = 8 * 1024 * 1024;
/** A character of a path is at most so many bytes of an envelope. */
const JSON_GROWTH_MAX = 6;

export class JobRecord {
  readonly #principal: Principal;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #startMonotonicMs: number;
  #action: Action | null = null;
  #sourceDigest: Digest | null = null;
  #actionKey: Digest | null = null;
  #policy: Digest | null = null;
  #tier: string | null = null;
  #build: BuildId | null = null;

  constructor(principal: Principal, clock: Clock) {
    this.#principal = principal;
    this.#clock = clock;
    this.#startMs = clock.wallMs();
    this.#startMonotonicMs = clock.monotonicMs();
  }

  /** Notes what the client sent, as the worker hashed it. */
  source(digest: Digest): void {
    this.#sourceDigest = digest;
  }

  action(action: Action): void {
    this.#action = action;
  }

  key(key: Digest): void {
    this.#actionKey = key;
  }

  /** The policy file in force and the principal's tier in it. */
  policy(policy: Digest | null, tier: string | null): void {
    this.#policy = policy;
    this.#tier = tier;
  }

  /** What the client calls the build that the job belongs to. */
  build(build: BuildId | null): void {
    this.#build = build;
  }

  /** Appends the job's row; resolves when it is durable. */
  async append(
    to: { readonly log: AuditLog; readonly blobs: BlobStore; readonly worker: string },
    end: JobEnd,
  ): Promise<AppendedRow> {
    return this.appendRow(to, (job) => jobRow(job, end));
  }

  /** Appends a row that is made of what is known of the job. */
  async appendRow(
    to: { readonly log: AuditLog; readonly blobs: BlobStore; readonly worker: string },
    make: (job: JobFacts) => [AuditRow, EnvelopeBody],
  ): Promise<AppendedRow> {
    const flags = await this.#flags(to.blobs);
    const job = {
      worker: to.worker,
      tenant: this.#principal.tenant,
      principal: spiffeId(this.#principal),
      policy: this.#policy,
      tier: this.#tier,
      action: this.#action,
      sourceDigest: this.#sourceDigest,
      flags,
      actionKey: this.#actionKey,
      build: this.#build,
      startMs: this.#startMs,
      endMs: this.#clock.wallMs(),
      durationUs: Math.max(0, Math.round((this.#clock.monotonicMs() - this.#startMonotonicMs) * 1000)),
    };
    return to.log.append(...make(job));
  }

  async #flags(blobs: BlobStore): Promise<string | null> {
    if (this.#action === null) return null;
    const flags = encodeFlags(this.#action);
    // The outputs' names stand in the same record.
    const { outputs } = this.#action;
    if (flags.length + JSON.stringify(outputs).length * JSON_GROWTH_MAX <= INLINE_FLAGS_LENGTH_MAX) return flags;
    const bytes = Buffer.from(flags, "latin1");
    try {
      return (await blobs.putBytes(bytes, "kept", FLAGS_BYTES_MAX)).digest;
    } catch (error) {
      if (error instanceof HpccError && error.code === "store.io")
        throw new HpccError("audit.io", `the flags ${sha256(bytes)} of an audit row cannot be kept`, { cause: error });
      throw error;
    }
  }
}
