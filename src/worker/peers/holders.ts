// Who said that he has which result: what this worker knows of keys that placement puts on it. In memory, since it is only a
// hint; bounded, and no worker can push out what others said as long as he has said more himself.
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";

/** Keys that are remembered, over all workers. */
export const HINTS_MAX = 65_536;

export class Holders {
  readonly #hintsMax: number;
  /** By worker, its keys, the one said longest ago first. */
  readonly #keys = new Map<string, Set<string>>();
  #size = 0;

  constructor(hintsMax = HINTS_MAX) {
    this.#hintsMax = hintsMax;
  }

  get size(): number {
    return this.#size;
  }

  note(worker: string, tenant: TenantId, key: Digest): void {
    const keys = this.#keys.get(worker) ?? new Set();
    this.#keys.set(worker, keys);
    const hint = hintOf(tenant, key);
    if (keys.delete(hint)) this.#size -= 1;
    keys.add(hint);
    this.#size += 1;
    if (this.#size > this.#hintsMax) this.#forgetOne();
  }

  /** Workers that said that they have it, at most `count`. */
  of(tenant: TenantId, key: Digest, count: number): string[] {
    const hint = hintOf(tenant, key);
    const found: string[] = [];
    for (const [worker, keys] of this.#keys) {
      if (found.length === count) break;
      if (keys.has(hint)) found.push(worker);
    }
    return found;
  }

  /** The oldest of the worker that said most. */
  #forgetOne(): void {
    let most: Set<string> = new Set();
    for (const keys of this.#keys.values()) if (keys.size > most.size) most = keys;
    const [oldest] = most;
    if (oldest !== undefined && most.delete(oldest)) this.#size -= 1;
    for (const [worker, keys] of this.#keys) if (keys.size === 0) this.#keys.delete(worker);
  }
}

function hintOf(tenant: TenantId, key: Digest): string {
  return `${tenant} ${key}`;
}
