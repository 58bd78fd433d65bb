// Which results of warm VMs wait for a second compile: bounded for the worker and for each tenant, the oldest first, one for each key
// that they are kept under, so that nobody's takes the place of another user's. Knows nothing of why they wait.
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";

export interface Queued {
  readonly tenant: TenantId;
  /** Of the principal's result. */
  readonly ownKey: Digest;
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
    const { tenant, ownKey } = entry;
    if (!this.#entries.has(ownKey)) {
      const own = this.#ofTenant.get(tenant) ?? 0;
      if (this.#entries.size >= this.#limits.entriesMax || own >= this.#limits.perTenantMax) return false;
      this.#ofTenant.set(tenant, own + 1);
    }
    this.#entries.set(ownKey, entry);
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
  remove(ownKey: Digest): boolean {
    const entry = this.#entries.get(ownKey);
    if (entry === undefined) return false;
    this.#entries.delete(ownKey);
    const left = (this.#ofTenant.get(entry.tenant) ?? 1) - 1;
    if (left === 0) this.#ofTenant.delete(entry.tenant);
    else this.#ofTenant.set(entry.tenant, left);
    return true;
  }
}
