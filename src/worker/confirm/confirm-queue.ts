// Which results of warm VMs wait for a second compile: bounded for the worker and for each tenant, the oldest first, one for each key
// that they would be shared under. Knows nothing of why they wait.
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";

export interface Queued {
  readonly tenant: TenantId;
  /** Of the tenant's result. */
  readonly sharedKey: Digest;
}

export interface QueueLimits {
  readonly entriesMax: number;
  readonly perTenantMax: number;
}

export class ConfirmQueue<T extends Queued> {
  readonly #limits: QueueLimits;
  readonly #entries = new Map<Digest, T>();
  readonly #ofTenant = new Map<TenantId, number>();

  constructor(limits: QueueLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Takes an entry's place at the end; one of the same key keeps its place and is replaced. False when there is no room. */
  add(entry: T): boolean {
    const { tenant, sharedKey } = entry;
    if (!this.#entries.has(sharedKey)) {
      const own = this.#ofTenant.get(tenant) ?? 0;
      if (this.#entries.size >= this.#limits.entriesMax || own >= this.#limits.perTenantMax) return false;
      this.#ofTenant.set(tenant, own + 1);
    }
    this.#entries.set(sharedKey, entry);
    return true;
  }

  /** The oldest, which is in the queue no more. */
  take(): T | null {
    for (const [key, entry] of this.#entries) {
      this.remove(key);
      return entry;
    }
    return null;
  }

  /** False when it was not there. */
  remove(sharedKey: Digest): boolean {
    const entry = this.#entries.get(sharedKey);
    if (entry === undefined) return false;
    this.#entries.delete(sharedKey);
    const left = (this.#ofTenant.get(entry.tenant) ?? 1) - 1;
    if (left === 0) this.#ofTenant.delete(entry.tenant);
    else this.#ofTenant.set(entry.tenant, left);
    return true;
  }
}
