// What is known of one job so far, from which its one audit row is made, whatever becomes of it.

import type { AppendedRow, AuditLog } from "../audit/audit-log.ts";
import type { AuditKind, EnvelopeBody } from "../audit/envelope.ts";
import { encodeFlags } from "../audit/flags.ts";
import { INLINE_FLAGS_LENGTH_MAX } from "../audit/row.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Action } from "../core/action/action.ts";
import { objectOf, type ResultManifest } from "../core/action/result-manifest.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { type Principal, spiffeId } from "../core/identity/spiffe.ts";
import type { Isolation } from "../core/isolation.ts";
import type { Life } from "../core/life.ts";
import type { BlobStore } from "../store/blob-store.ts";

/** Which VM made a result, and on what. */
export interface Origin {
  readonly vm: string;
  readonly isolation: Isolation;
  readonly life: Life;
  readonly compileUs: number;
  readonly versions: Readonly<Record<string, string>>;
}

export interface RecordedResult {
  readonly manifest: ResultManifest;
  readonly resultDigest: Digest;
  readonly origin: Origin;
}

/** A life as the log's envelopes name it. */
export function lifeForRows(life: Life): NonNullable<EnvelopeBody["life"]> {
  return life === "clean" ? "clean" : "warm";
}

const FLAGS_BYTES_MAX = 8 * 1024 * 1024;

export class JobRecord {
  readonly #principal: Principal;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #startMonotonicMs: number;
  #action: Action | null = null;
  #sourceDigest: Digest | null = null;
  #actionKey: Digest | null = null;

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

  /** Appends the job's row; resolves when it is durable. */
  async append(
    to: { readonly log: AuditLog; readonly blobs: BlobStore; readonly worker: string },
    end: { readonly kind: AuditKind; readonly note: string; readonly vm?: string; readonly result?: RecordedResult },
  ): Promise<AppendedRow> {
    const { result } = end;
    const flags = await this.#flags(to.blobs);
    const durationUs = Math.max(0, Math.round((this.#clock.monotonicMs() - this.#startMonotonicMs) * 1000));
    return to.log.append(
      {
        imageDigest: this.#action?.imageDigest ?? null,
        sourceDigest: this.#sourceDigest,
        flags,
        outputDigest: (result && objectOf(result.manifest)?.digest) ?? null,
        tenant: this.#principal.tenant,
        worker: to.worker,
        vm: result?.origin.vm ?? end.vm ?? null,
        durationUs,
        exit: result?.manifest.exitCode ?? null,
      },
      {
        kind: end.kind,
        note: end.note,
        principal: spiffeId(this.#principal),
        startMs: this.#startMs,
        endMs: this.#clock.wallMs(),
        isolation: result?.origin.isolation ?? null,
        life: result === undefined ? null : lifeForRows(result.origin.life),
        actionKey: this.#actionKey,
        resultDigest: result?.resultDigest ?? null,
        compileUs: result?.origin.compileUs ?? null,
        versions: result?.origin.versions ?? {},
      },
    );
  }

  async #flags(blobs: BlobStore): Promise<string | null> {
    if (this.#action === null) return null;
    const flags = encodeFlags(this.#action);
    if (flags.length <= INLINE_FLAGS_LENGTH_MAX) return flags;
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
