// What is revoked in a disk store: one list for all tenants and one for each, and the sweeps that remove what they name. A
// revocation is durable before anything is removed; a process that is killed between goes on when its store is opened again.
import type { Clock } from "../../base/clock.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import type { Revocation, RevokedBy } from "../../core/revocation.ts";
import type { TenantRevocations } from "./disk-action-cache.ts";
import type { DiskFiles } from "./disk-files.ts";
import { RevocationList, type RevocationMark } from "./revocation-list.ts";

/** What a sweep removed. */
export interface Swept {
  /** Null: it was asked for all tenants. */
  readonly tenant: TenantId | null;
  readonly mark: RevocationMark;
  readonly entries: number;
  /** Action keys of some of them. */
  readonly keys: readonly Digest[];
}

export interface NotedRevocation {
  /** Null: all tenants. */
  readonly tenant: TenantId | null;
  readonly mark: RevocationMark;
}

export interface DiskRevocationsOptions {
  readonly clock: Clock;
  readonly worker: string | null;
  /** Files of a tenant's folder; of the folder for all for null. */
  readonly files: (tenant: TenantId | null) => DiskFiles;
  /** Tenants that have a folder. */
  readonly tenants: () => Promise<TenantId[]>;
  /** Removes what is revoked of a tenant's entries. */
  readonly sweep: (tenant: TenantId, removed: (key: Digest, mark: RevocationMark | "horizon") => void) => Promise<void>;
  /** A revocation is durable. */
  readonly noted: (noted: NotedRevocation) => void;
  readonly swept: (swept: Swept) => void;
  readonly sweepFailed: (error: unknown) => void;
  readonly damaged: (tenant: TenantId | null, problem: string) => void;
}

/** Keys that are told of one revocation. */
const SWEPT_KEYS_MAX = 1000;
/** After a sweep that failed, which may also owe the note of a revocation. */
const SWEEP_AGAIN_MS = 60_000;

export class DiskRevocations {
  readonly #options: DiskRevocationsOptions;
  readonly #lists = new Map<TenantId | null, RevocationList>();
  /** Whose lists have been read. */
  readonly #read = new Set<TenantId | null>();
  #sequence = 0;
  #sweeping: Promise<void> | null = null;
  #again = false;

  constructor(options: DiskRevocationsOptions) {
    this.#options = options;
  }

  /** Reads all lists, and sweeps what an earlier process left. */
  async open(): Promise<void> {
    for (const tenant of [null, ...(await this.#options.tenants())]) await this.#loaded(tenant);
    this.#sweep();
  }

  /** What one tenant's action cache asks and tells. */
  of(tenant: TenantId): TenantRevocations {
    const both = async () => Promise.all([this.#loaded(tenant), this.#loaded(null)]);
    return {
      covering: async (key, made) => {
        const [own, all] = await both();
        return own.covering(key, made) ?? all.covering(key, made);
      },
      stamp: async (nowMs) => Math.max(...(await both()).map((list) => list.stamp(nowMs))),
      revoke: async (revocation, by) => void (await this.revoke(revocation, by, tenant)),
    };
  }

  /** Revokes for a tenant, or all, under a sequence that `numbered` is told first; in force from this call on, resolves when that is durable. Null: it was in force already. */
  async revoke(
    revocation: Revocation,
    by: RevokedBy,
    tenant: TenantId | null,
    numbered: (sequence: number) => void = () => undefined,
  ): Promise<NotedRevocation | null> {
    const list = this.#list(tenant);
    // Results are dated later than the clock says where it was set back, or a peer's is ahead; what is revoked now is revoked with them.
    const heardMs = Math.max(...[...this.#lists.values()].map((one) => one.stamp(this.#options.clock.wallMs())));
    const atMs = by.cause === "peer" ? revocation.atMs : Math.max(revocation.atMs, heardMs);
    const mark: RevocationMark = { ...revocation, atMs, by, heardMs, sequence: this.#nextSequence() };
    numbered(mark.sequence);
    try {
      return (await list.add(mark)) ? { tenant, mark } : null;
    } finally {
      this.#sweep();
    }
  }

  /** All that came after a sequence, oldest first. */
  async since(sequence: number): Promise<NotedRevocation[]> {
    const noted: NotedRevocation[] = [];
    for (const tenant of [null, ...(await this.#options.tenants())])
      for (const mark of (await this.#loaded(tenant)).marks())
        if (mark.sequence > sequence) noted.push({ tenant, mark });
    return noted.sort((a, b) => a.mark.sequence - b.mark.sequence);
  }

  /** Resolves when nothing is being removed. */
  async settled(): Promise<void> {
    while (this.#sweeping !== null) await this.#sweeping;
  }

  #list(tenant: TenantId | null): RevocationList {
    let list = this.#lists.get(tenant);
    if (list === undefined) {
      const { clock, worker, files, damaged, noted } = this.#options;
      list = new RevocationList({
        files: files(tenant),
        worker,
        nowMs: () => clock.wallMs(),
        damaged: (problem) => damaged(tenant, problem),
        durable: (mark) => noted({ tenant, mark }),
      });
      this.#lists.set(tenant, list);
    }
    return list;
  }

  async #loaded(tenant: TenantId | null): Promise<RevocationList> {
    const list = this.#list(tenant);
    await list.load();
    if (this.#read.has(tenant)) return list;
    this.#read.add(tenant);
    for (const { sequence } of list.marks()) this.#sequence = Math.max(this.#sequence, sequence);
    if (list.unswept.length > 0) this.#sweep();
    return list;
  }

  /** Times, so that they grow over restarts; told apart where the clock does not. */
  #nextSequence(): number {
    this.#sequence = Math.max(this.#sequence + 1, this.#options.clock.wallMs());
    return this.#sequence;
  }

  #sweep(): void {
    this.#again = true;
    this.#sweeping ??= this.#sweepAll()
      .catch((error: unknown) => {
        this.#options.sweepFailed(error);
        this.#options.clock.after(SWEEP_AGAIN_MS, () => this.#sweep());
      })
      .finally(() => {
        this.#sweeping = null;
        // Asked for between its last look and this.
        if (this.#again) this.#sweep();
      });
  }

  /** One list whose results cannot be removed holds up no other; throws why, when all are done. */
  async #sweepAll(): Promise<void> {
    const failures: unknown[] = [];
    while (this.#again) {
      this.#again = false;
      for (const [tenant, list] of this.#lists)
        await this.#sweepList(tenant, list).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  async #sweepList(tenant: TenantId | null, list: RevocationList): Promise<void> {
    const marks = list.unswept;
    if (marks.length === 0) return list.writeOwed();
    const found = new Map(marks.map((mark) => [mark.sequence, { entries: 0, keys: [] as Digest[] }]));
    const note = (key: Digest, mark: RevocationMark | "horizon") => {
      const counted = mark === "horizon" ? undefined : found.get(mark.sequence);
      if (counted === undefined) return;
      counted.entries++;
      if (counted.keys.length < SWEPT_KEYS_MAX) counted.keys.push(key);
    };
    for (const swept of tenant === null ? await this.#options.tenants() : [tenant])
      await this.#options.sweep(swept, note);
    for (const mark of marks) this.#options.swept({ tenant, mark, ...found.get(mark.sequence)! });
    await list.swept(marks);
  }
}
