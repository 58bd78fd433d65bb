// What a worker revokes: asked by an operator, told by a peer, found out by itself. Each leaves a row that says how many results
// went, and each is told on to whoever follows the feed.
import type { AuditLog } from "../audit/audit-log.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { TenantId } from "../core/identity/spiffe.ts";
import { CLOCK_SKEW_MS_MAX, checkRevocationValue, type Revocation, type RevokedBy } from "../core/revocation.ts";
import type { DiskRevocations, NotedRevocation, Swept } from "../store/disk/disk-revocations.ts";
import { revokeRow } from "./rows/log-rows.ts";
import { type Served, servedRows } from "./served-rows.ts";

/** A revocation as workers tell each other of it. */
export interface ToldRevocation {
  /** Of the worker that tells; grows, also over its restarts. */
  readonly sequence: number;
  /** Null: for all tenants. */
  readonly tenant: TenantId | null;
  readonly revocation: Revocation;
}

/** How the workers of a site hear of each other's revocations. */
export interface RevocationFeed {
  /** All after a sequence that are still remembered, oldest first, and then each one as it comes, until the signal aborts. */
  since(sequence: number, signal: AbortSignal): AsyncIterable<ToldRevocation>;
  /** Takes over another worker's; resolves when it is durable. False: it was in force already. UNTRUSTED: `told`, the peer `from`. */
  apply(told: Pick<ToldRevocation, "tenant" | "revocation">, from: string): Promise<boolean>;
}

/** What became of a revocation that somebody asked for. */
export interface RevocationReport {
  readonly revocation: Revocation;
  readonly tenant: TenantId | null;
  /** Results that were removed; null: they could not be, which is tried again, and they answer nobody. */
  readonly entries: number | null;
  readonly served: Served;
}

export interface WorkerRevocationsOptions {
  readonly log: AuditLog;
  readonly auditFolder: string;
  readonly worker: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Reading the whole log of a busy year takes minutes. */
const SERVED_MS_MAX = 10 * 60 * 1000;

export class WorkerRevocations implements RevocationFeed {
  readonly #options: WorkerRevocationsOptions;
  #disk: DiskRevocations | null = null;
  #retire: (vm: string) => void = () => undefined;
  /** By sequence: who waits for a sweep. */
  readonly #waiting = new Map<number, (swept: Swept | null) => void>();
  readonly #followers = new Set<(noted: NotedRevocation) => void>();
  readonly #writing = new Set<Promise<void>>();
  /** Since the worker started. */
  #made = 0;
  #entries = 0;

  constructor(options: WorkerRevocationsOptions) {
    this.#options = options;
  }

  get counters() {
    return { revocations: this.#made, entries: this.#entries };
  }

  /** To be called before anything else, with the store that `observer` was given to. */
  attach(disk: DiskRevocations): void {
    this.#disk = disk;
  }

  /** Who destroys a VM that is revoked. */
  retireBy(retire: (vm: string) => void): void {
    this.#retire = retire;
  }

  /** What the store tells. */
  get observer() {
    return { revoked: this.#noted, takenBack: this.#swept, sweepFailed: this.#sweepFailed };
  }

  /** A revocation is durable. */
  readonly #noted = (noted: NotedRevocation): void => {
    this.#made++;
    if (noted.mark.kind === "vm") this.#retire(noted.mark.value);
    for (const follow of this.#followers) follow(noted);
  };

  /** What it names is removed: leaves the row. */
  readonly #swept = (swept: Swept): void => {
    this.#entries += swept.entries;
    const waiting = this.#waiting.get(swept.mark.sequence);
    if (waiting !== undefined) waiting(swept);
    else this.#write(swept, null);
  };

  readonly #sweepFailed = (): void => {
    for (const waiting of this.#waiting.values()) waiting(null);
  };

  /** Revokes, and tells what went and who had been answered with it. Throws `store.io` when it could not be written down. */
  async revoke(revocation: Revocation, by: RevokedBy, tenant: TenantId | null): Promise<RevocationReport> {
    checkRevocationValue(revocation.kind, revocation.value);
    const { auditFolder, clock } = this.#options;
    const late = new AbortController();
    const timer = clock.after(SERVED_MS_MAX, () =>
      late.abort(new HpccError("limit.exceeded", "it is revoked, but reading the audit log took too long")),
    );
    try {
      const swept = await this.#sweepOf(revocation, by, tenant);
      const served = await servedRows(auditFolder, revocation, tenant, late.signal);
      if (swept !== null && swept !== "already") this.#write(swept, served);
      await this.settled();
      const entries = swept === "already" ? 0 : (swept?.entries ?? null);
      return { revocation, tenant, entries, served };
    } finally {
      timer.cancel();
    }
  }

  async apply({ tenant, revocation }: Pick<ToldRevocation, "tenant" | "revocation">, from: string): Promise<boolean> {
    const { kind, value, atMs } = revocation;
    checkRevocationValue(kind, value);
    if (!Number.isSafeInteger(atMs) || atMs < 0)
      throw new HpccError("argument.invalid", "the moment of a revocation is a number of milliseconds");
    // A clock that is far ahead would revoke what is still to come.
    const latestMs = this.#options.clock.wallMs() + CLOCK_SKEW_MS_MAX;
    const bounded = { kind, value, atMs: Math.min(atMs, latestMs) };
    const noted = await this.#store.revoke(bounded, { cause: "peer", askedBy: from }, tenant);
    return noted !== null;
  }

  async *since(sequence: number, signal: AbortSignal): AsyncIterable<ToldRevocation> {
    const queue: NotedRevocation[] = [];
    let wake = Promise.withResolvers<void>();
    const follow = (noted: NotedRevocation) => {
      queue.push(noted);
      wake.resolve();
    };
    const stop = () => wake.resolve();
    this.#followers.add(follow);
    signal.addEventListener("abort", stop);
    try {
      const told = new Set<number>();
      for (const noted of await this.#store.since(sequence)) {
        if (signal.aborted) return;
        yield toldOf(noted);
        told.add(noted.mark.sequence);
      }
      while (!signal.aborted) {
        // What came while the lists were read is in both.
        for (const noted of queue.splice(0)) if (!told.has(noted.mark.sequence)) yield toldOf(noted);
        if (queue.length > 0 || signal.aborted) continue;
        wake = Promise.withResolvers();
        await wake.promise;
      }
    } finally {
      this.#followers.delete(follow);
      signal.removeEventListener("abort", stop);
    }
  }

  /** Resolves when the rows of all that is removed are durable. */
  async settled(): Promise<void> {
    while (this.#writing.size > 0) await Promise.all(this.#writing);
  }

  get #store(): DiskRevocations {
    if (this.#disk === null) throw new Error("bug: no store is attached");
    return this.#disk;
  }

  async #sweepOf(revocation: Revocation, by: RevokedBy, tenant: TenantId | null): Promise<Swept | null | "already"> {
    const { promise, resolve } = Promise.withResolvers<Swept | null>();
    let sequence: number | null = null;
    const numbered = (number: number) => {
      sequence = number;
      this.#waiting.set(number, resolve);
    };
    try {
      const noted = await this.#store.revoke(revocation, by, tenant, numbered);
      return noted === null ? "already" : await promise;
    } finally {
      if (sequence !== null) this.#waiting.delete(sequence);
    }
  }

  #write({ tenant, mark, entries }: Swept, served: Served | null): void {
    const { log, worker, clock, logger } = this.#options;
    const { kind, value, atMs, by } = mark;
    const row = revokeRow({
      worker,
      tenant,
      what: kind,
      value,
      upToMs: kind === "vm" ? null : atMs,
      ...by,
      entries,
      served: served?.total ?? null,
      servedRows: (served?.rows ?? []).map((one): Digest => one.row).toReversed(),
      nowMs: clock.wallMs(),
    });
    const writing: Promise<void> = log
      .append(...row)
      .then(
        () => undefined,
        (error: unknown) => logger.error("worker.revocation.no_row", { kind, value, error: String(error) }),
      )
      .finally(() => this.#writing.delete(writing));
    this.#writing.add(writing);
  }
}

function toldOf({ tenant, mark: { kind, value, atMs, sequence } }: NotedRevocation): ToldRevocation {
  return { sequence, tenant, revocation: { kind, value, atMs } };
}
