// The disk tier: one folder per tenant, with what is kept as long as audit rows are, and what may be evicted.
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import type { TenantStore } from "../action-cache.ts";
import { DiskActionCache } from "./disk-action-cache.ts";
import { DiskBlobStore, type StoreObserver } from "./disk-blob-store.ts";
import { DiskFiles, storeError, type WriteAt } from "./disk-files.ts";
import { evict } from "./eviction.ts";

export interface DiskStoreOptions {
  readonly root: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Largest size of what may be evicted (results and cached actions), all tenants together; null for no limit. */
  readonly cacheBytesMax?: number | null;
  /** False only in tests and where rows are not kept. */
  readonly durable?: boolean;
  /** A test's place to run out of space. */
  readonly write?: WriteAt;
  /** What a VM that broke its contract had in the cache of its tenant is removed. */
  readonly takenBack?: (tenant: TenantId, vm: string, entries: number) => void;
}

export interface DiskStoreCounters {
  readonly quarantined: number;
  readonly evicted: number;
}

/** Looks for what to evict after this share of the limit has been written. */
const SWEEP_SHARE = 0.05;

export class DiskStore {
  readonly #options: DiskStoreOptions;
  readonly #tenants = new Map<TenantId, TenantStore & { readonly actions: DiskActionCache }>();
  #quarantined = 0;
  #evicted = 0;
  #grownBytes = Number.POSITIVE_INFINITY;
  #sweep: Promise<void> | null = null;

  private constructor(options: DiskStoreOptions) {
    this.#options = options;
  }

  static async open(options: DiskStoreOptions): Promise<DiskStore> {
    try {
      await mkdir(options.root, { recursive: true, mode: 0o700 });
    } catch (error) {
      throw storeError(error, `cannot make the store ${options.root}`);
    }
    return new DiskStore(options);
  }

  /** The store of one tenant. */
  tenant(id: TenantId): TenantStore {
    let store = this.#tenants.get(id);
    if (store === undefined) {
      store = this.#openTenant(id);
      this.#tenants.set(id, store);
    }
    return store;
  }

  get counters(): DiskStoreCounters {
    return { quarantined: this.#quarantined, evicted: this.#evicted };
  }

  /** Resolves when nothing is being evicted or taken back. */
  async settled(): Promise<void> {
    while (this.#sweep !== null) await this.#sweep;
    for (const { actions } of this.#tenants.values()) await actions.settled();
  }

  #openTenant(id: TenantId) {
    const { root, clock, durable, write } = this.#options;
    const files = new DiskFiles(join(root, id), write === undefined ? {} : { write });
    const observer: StoreObserver = {
      quarantined: (kind, digest, problem) => this.#noteQuarantine(id, kind, digest, problem),
      cacheGrew: (bytes) => this.#noteGrowth(bytes),
      takenBack: (vm, entries) => this.#noteTakenBack(id, vm, entries),
      sweepFailed: (error) =>
        this.#options.logger.error("store.revocation.sweep_failed", { tenant: id, error: String(error) }),
    };
    files.removeLeftovers(clock.wallMs()).catch(() => {});
    return {
      blobs: new DiskBlobStore({ files, observer, clock, durable: durable ?? true }),
      actions: new DiskActionCache(files, observer),
    };
  }

  #noteQuarantine(tenant: TenantId, kind: "blob" | "action", digest: Digest, problem: string): void {
    this.#quarantined++;
    this.#options.logger.error(`store.${kind}.quarantined`, { tenant, digest, problem });
  }

  #noteTakenBack(tenant: TenantId, vm: string, entries: number): void {
    this.#options.logger.warn("store.actions.taken_back", { tenant, vm, entries });
    this.#options.takenBack?.(tenant, vm, entries);
  }

  #noteGrowth(bytes: number): void {
    const bytesMax = this.#options.cacheBytesMax ?? null;
    if (bytesMax === null) return;
    this.#grownBytes += bytes;
    if (this.#sweep !== null || this.#grownBytes < bytesMax * SWEEP_SHARE) return;
    this.#grownBytes = 0;
    this.#sweep = evict(this.#options.root, bytesMax)
      .then((removed) => {
        this.#evicted += removed;
        if (removed > 0) this.#options.logger.info("store.cache.evicted", { entries: removed });
      })
      .catch((error: unknown) => this.#options.logger.warn("store.cache.eviction_failed", { error: String(error) }))
      .finally(() => {
        this.#sweep = null;
      });
  }
}
