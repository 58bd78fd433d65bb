// Who waits for a VM: a line per key. It says who was served longest ago, and bounds each tenant; who comes next is its caller's matter.
import { HpccError } from "../base/errors.ts";
import type { PoolKey } from "./pool-key.ts";

interface Waiter<T> {
  readonly item: T;
  readonly leave: () => void;
}

interface Line<T> {
  readonly key: PoolKey;
  /** The first comes first; never empty. */
  readonly waiters: Waiter<T>[];
}

/** One key's line, as its caller sees it. */
export interface WaitingLine<T> {
  readonly key: PoolKey;
  readonly length: number;
  readonly first: T;
}

/** Of parties who were served before, these are remembered. */
const PARTIES_REMEMBERED_MAX = 4096;

export class WaitQueue<T> {
  readonly #perTenantMax: number;
  readonly #lines = new Map<string, Line<T>>();
  /** Parties in the order in which they were served last, also those who wait for nothing now. */
  readonly #served = new Map<string, number>();
  #services = 0;

  constructor(perTenantMax: number) {
    this.#perTenantMax = perTenantMax;
  }

  /** Joins the key's line; `left` is called when the signal aborts before the item was taken. */
  join(key: PoolKey, item: T, signal: AbortSignal, left: () => void): void {
    if (this.#waitingOf(key.tenant) >= this.#perTenantMax)
      throw new HpccError("limit.exceeded", `${this.#perTenantMax} compiles of the tenant wait already`, {
        details: { limit: "queue" },
      });
    const abort = (): void => {
      this.#remove(key, waiter);
      left();
    };
    const waiter: Waiter<T> = { item, leave: () => signal.removeEventListener("abort", abort) };
    signal.addEventListener("abort", abort, { once: true });
    const line = this.#lines.get(key.text) ?? { key, waiters: [] };
    line.waiters.push(waiter);
    this.#lines.set(key.text, line);
  }

  /** All lines, the one that began to wait first before the others. */
  get lines(): readonly WaitingLine<T>[] {
    return [...this.#lines.values()].map(({ key, waiters }) => ({
      key,
      length: waiters.length,
      first: waiters[0]!.item,
    }));
  }

  /** Takes the first of a key's line; his parties come last from now on where all else is equal. */
  take(key: PoolKey): T {
    const waiter = this.#lines.get(key.text)?.waiters[0];
    if (waiter === undefined) throw new Error("bug: nobody waits in the line that is served");
    this.#remove(key, waiter);
    for (const party of key.parties) this.#remember(party);
    return waiter.item;
  }

  /** Takes all out whose key matches, which is asked for each of them. */
  takeAll(matches: (key: PoolKey) => boolean): T[] {
    const taken: T[] = [];
    for (const { key, waiters } of this.#lines.values())
      for (const waiter of waiters.filter(() => matches(key))) {
        this.#remove(key, waiter);
        taken.push(waiter.item);
      }
    return taken;
  }

  /** Grows with each service; 0 for a party that was not served, or too long ago. */
  servedAt(party: string): number {
    return this.#served.get(party) ?? 0;
  }

  #waitingOf(tenant: string): number {
    let waiting = 0;
    for (const { key, waiters } of this.#lines.values()) if (key.tenant === tenant) waiting += waiters.length;
    return waiting;
  }

  #remember(party: string): void {
    this.#services += 1;
    this.#served.delete(party);
    this.#served.set(party, this.#services);
    const [oldest] = this.#served.keys();
    if (this.#served.size > PARTIES_REMEMBERED_MAX && oldest !== undefined) this.#served.delete(oldest);
  }

  #remove(key: PoolKey, waiter: Waiter<T>): void {
    waiter.leave();
    const waiters = this.#lines.get(key.text)?.waiters;
    if (!waiters) return;
    const index = waiters.indexOf(waiter);
    if (index >= 0) waiters.splice(index, 1);
    if (waiters.length === 0) this.#lines.delete(key.text);
  }
}
