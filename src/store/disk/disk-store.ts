// The disk tier: one folder per tenant, with what is kept as long as audit rows are, and what may be evicted.
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { NAME, parseTenantId, type TenantId } from "../../core/identity/spiffe.ts";
import type { TenantStore } from "../action-cache.ts";
import { DiskActionCache } from "./disk-action-cache.ts";
import { DiskBlobStore, type StoreObserver } from "./disk-blob-store.ts";
import { DiskFiles, isMissing, storeError, type WriteAt } from "./disk-files.ts";
import { DiskRevocations, type NotedRevocation, type Swept } from "./disk-revocations.ts";
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
  /** The worker whose store it is: what others made is dated by their clocks. Null where it is only read. */
  readonly worker?: string | null;
  /** What was revoked is removed. */
  readonly takenBack?: (swept: Swept) => void;
  /** What was revoked could not be removed; it answers nobody, and is tried again. */
  readonly sweepFailed?: () => void;
  /** A revocation is durable. */
  readonly revoked?: (noted: NotedRevocation) => void;
}

export interface DiskStoreCounters {
  readonly quarantined: number;
  readonly evicted: number;
}

/** No tenant can have this name. */
const ALL_TENANTS = "_all";
/** Looks for what to evict after this share of the limit has been written. */
const SWEEP_SHARE = 0.05;

export class DiskStore {
  readonly #options: DiskStoreOptions;
  readonly #tenants = new Map<
    TenantId,
    TenantStore & { readonly actions: DiskActionCache; readonly blobs: DiskBlobStore }
  >();
  /** What is revoked, of all tenants. */
  readonly revocations: DiskRevocations;
  #quarantined = 0;
  #evicted = 0;
  #grownBytes = Number.POSITIVE_INFINITY;
  #sweep: Promise<void> | null = null;

  private constructor(options: DiskStoreOptions) {
    this.#options = options;
    const { clock, logger, worker, revoked } = options;
    this.revocations = new DiskRevocations({
      clock,
      worker: worker ?? null,
      files: (tenant) => this.#files(tenant ?? ALL_TENANTS),
      tenants: () => this.tenantsOnDisk(),
      sweep: (tenant, removed) => this.#open(tenant).actions.sweep(removed),
      noted: (noted) => revoked?.(noted),
      swept: (swept) => this.#noteTakenBack(swept),
      sweepFailed: (error) => {
        logger.error("store.revocation.sweep_failed", { error: String(error) });
        options.sweepFailed?.();
      },
      damaged: (tenant, problem) => this.#noteQuarantine(tenant ?? ALL_TENANTS, "revocations", "of a tenant", problem),
    });
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
    return this.#open(id);
  }

  /** What retention asks of a tenant's store. */
  kept(id: TenantId): Pick<DiskBlobStore, "keptBytes" | "sweepKept"> {
    return this.#open(id).blobs;
  }

  /** Whether there is anything of a tenant. */
  async has(id: TenantId): Promise<boolean> {
    if (this.#tenants.has(id)) return true;
    try {
      return (await stat(join(this.#options.root, id))).isDirectory();
    } catch (error) {
      if (isMissing(error)) return false;
      throw storeError(error, `cannot look for ${id}`);
    }
  }

  get counters(): DiskStoreCounters {
    return { quarantined: this.#quarantined, evicted: this.#evicted };
  }

  /** Resolves when nothing is being evicted or taken back. */
  async settled(): Promise<void> {
    while (this.#sweep !== null) await this.#sweep;
    await this.revocations.settled();
  }

  #open(id: TenantId) {
    let store = this.#tenants.get(id);
    if (store === undefined) {
      store = this.#openTenant(id);
      this.#tenants.set(id, store);
    }
    return store;
  }

  #openTenant(id: TenantId) {
    const { clock, durable } = this.#options;
    const files = this.#files(id);
    const observer: StoreObserver = {
      quarantined: (kind, digest, problem) => this.#noteQuarantine(id, kind, digest, problem),
      cacheGrew: (bytes) => this.#noteGrowth(bytes),
    };
    files.removeLeftovers(clock.wallMs()).catch(() => {});
    return {
      blobs: new DiskBlobStore({ files, observer, clock, durable: durable ?? true }),
      actions: new DiskActionCache(files, observer, this.revocations.of(id)),
    };
  }

  #files(folder: string): DiskFiles {
    const { root, write } = this.#options;
    return new DiskFiles(join(root, folder), write === undefined ? {} : { write });
  }

  async tenantsOnDisk(): Promise<TenantId[]> {
    try {
      const found = await readdir(this.#options.root, { withFileTypes: true });
      return found
        .filter((entry) => entry.isDirectory() && NAME.test(entry.name))
        .map(({ name }) => parseTenantId(name));
    } catch (error) {
      if (isMissing(error)) return [];
      throw storeError(error, `cannot read the store ${this.#options.root}`);
    }
  }

  #noteQuarantine(tenant: string, kind: "blob" | "action" | "revocations", digest: string, problem: string): void {
    this.#quarantined++;
    this.#options.logger.error(`store.${kind}.quarantined`, { tenant, digest, problem });
  }

  #noteTakenBack(swept: Swept): void {
    const { tenant, entries, mark } = swept;
    this.#options.logger.warn("store.actions.taken_back", { tenant, kind: mark.kind, value: mark.value, entries });
    this.#options.takenBack?.(swept);
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
