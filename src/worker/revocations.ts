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
  readonly #followers = new Set<() => void>();
  readonly #writing = new Set<Promise<void>>();
  /** Readings of the log that nobody waits for, one after the other. */
  #reading: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();
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
    for (const wake of this.#followers) wake();
  };

  /** What it names is removed: leaves the row. */
  readonly #swept = (swept: Swept): void => {
    this.#entries += swept.entries;
    const waiting = this.#waiting.get(swept.mark.sequence);
    if (waiting !== undefined) waiting(swept);
    else this.#writeWithServed(swept);
  };

  /** Its row waits for the log to be read, or for the worker's end. */
  #writeWithServed(swept: Swept): void {
    const writing = this.#reading
      .then(() => this.#servedBy(swept.mark, swept.tenant, this.#closing.signal))
      .catch((error: unknown) => {
        const { kind, value } = swept.mark;
        this.#options.logger.warn("worker.revocation.served_unknown", { kind, value, error: String(error) });
        return null;
      })
      .then((served) => this.#write(swept, served));
    this.#reading = writing;
    this.#track(writing);
  }

  /** Throws `limit.exceeded` when it takes too long. */
  async #servedBy(revocation: Revocation, tenant: TenantId | null, stop: AbortSignal): Promise<Served> {
    const late = new AbortController();
    const timer = this.#options.clock.after(SERVED_MS_MAX, () =>
      late.abort(new HpccError("limit.exceeded", "it is revoked, but reading the audit log took too long")),
    );
    try {
      return await servedRows(this.#options.auditFolder, revocation, tenant, AbortSignal.any([late.signal, stop]));
    } finally {
      timer.cancel();
    }
  }

  readonly #sweepFailed = (): void => {
    for (const waiting of this.#waiting.values()) waiting(null);
  };

  /** Revokes, and tells what went and who had been answered with it. Throws `store.io` when it could not be written down. */
  async revoke(revocation: Revocation, by: RevokedBy, tenant: TenantId | null): Promise<RevocationReport> {
    checkRevocationValue(revocation.kind, revocation.value);
    const swept = await this.#sweepOf(revocation, by, tenant);
    const served = await this.#servedBy(revocation, tenant, this.#closing.signal);
    if (swept !== null && swept !== "already") this.#write(swept, served);
    await this.settled();
    const entries = swept === "already" ? 0 : (swept?.entries ?? null);
    return { revocation, tenant, entries, served };
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
    let woken = Promise.withResolvers<void>();
    const wake = () => woken.resolve();
    this.#followers.add(wake);
    signal.addEventListener("abort", wake);
    try {
      for (let last = sequence; !signal.aborted; await woken.promise) {
        woken = Promise.withResolvers();
        for (const noted of await this.#store.since(last)) {
          if (signal.aborted) return;
          yield toldOf(noted);
          last = noted.mark.sequence;
        }
      }
    } finally {
      this.#followers.delete(wake);
      signal.removeEventListener("abort", wake);
    }
  }

  /** Resolves when the rows of all that is removed are durable. */
  async settled(): Promise<void> {
    while (this.#writing.size > 0) await Promise.all(this.#writing);
  }

  /** What reads the log for a row ends, and the row is written without it. */
  async close(): Promise<void> {
    this.#closing.abort(new HpccError("job.cancelled", "the worker stops"));
    await this.settled();
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
    this.#track(
      log.append(...row).then(
        () => undefined,
        (error: unknown) => logger.error("worker.revocation.no_row", { kind, value, error: String(error) }),
      ),
    );
  }

  #track(work: Promise<void>): void {
    const writing: Promise<void> = work.finally(() => this.#writing.delete(writing));
    this.#writing.add(writing);
  }
}

function toldOf({ tenant, mark: { kind, value, atMs, sequence } }: NotedRevocation): ToldRevocation {
  return { sequence, tenant, revocation: { kind, value, atMs } };
}
