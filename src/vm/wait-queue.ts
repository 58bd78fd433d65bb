// Who waits for a VM: a line per tenant, tenants served in turn, or by a rank that the caller knows. It knows nothing of VMs.
import { HpccError } from "../base/errors.ts";

interface Waiter<T> {
  readonly item: T;
  readonly leave: () => void;
}

/** Of the others it is forgotten when they were served last. */
const TENANTS_REMEMBERED_MAX = 1024;

/** `served`: it has what it waited for. `begun`: something was begun for it, and it waits on. */
export type Service = "served" | "begun" | "not";

const isServed = (service: Service): boolean => service === "served";

export class WaitQueue<T> {
  readonly #perTenantMax: number;
  readonly #lines = new Map<string, Waiter<T>[]>();
  /** Tenants in the order in which they were served last, also those who wait for nothing now. */
  readonly #served = new Map<string, number>();
  #services = 0;

  constructor(perTenantMax: number) {
    this.#perTenantMax = perTenantMax;
  }

  /** Joins the tenant's line; `left` is called when the signal aborts before the item was served. */
  join(tenant: string, item: T, signal: AbortSignal, left: () => void): void {
    const line = this.#lines.get(tenant) ?? [];
    if (line.length >= this.#perTenantMax)
      throw new HpccError("limit.exceeded", `${this.#perTenantMax} compiles of the tenant wait already`, {
        details: { limit: "queue" },
      });
    const abort = (): void => {
      this.#remove(tenant, waiter);
      left();
    };
    const waiter: Waiter<T> = { item, leave: () => signal.removeEventListener("abort", abort) };
    signal.addEventListener("abort", abort, { once: true });
    line.push(waiter);
    this.#lines.set(tenant, line);
  }

  /**
   * Serves until nothing more can be: in a round each tenant gets one thing, served or begun for the first of his line whom
   * `tryServe` can help. The tenant of the lowest rank comes first; of equal ones, who was served longest ago.
   */
  serve(tryServe: (item: T) => Service, rank: (tenant: string) => number = () => 0): void {
    for (let progress = true; progress; ) {
      progress = false;
      const served = (tenant: string): number => this.#served.get(tenant) ?? 0;
      const round = [...this.#lines].sort(([a], [b]) => rank(a) - rank(b) || served(a) - served(b));
      for (const [tenant, line] of round) {
        let service: Service = "not";
        const waiter = line.find(({ item }) => {
          service = tryServe(item);
          return service !== "not";
        });
        if (!waiter) continue;
        progress = true;
        this.#remember(tenant);
        if (isServed(service)) this.#remove(tenant, waiter);
      }
    }
  }

  /** Takes all out that match. */
  takeAll(matches: (item: T) => boolean): T[] {
    const taken: T[] = [];
    const lines = [...this.#lines];
    for (const [tenant, line] of lines)
      for (const waiter of line.filter(({ item }) => matches(item))) {
        this.#remove(tenant, waiter);
        taken.push(waiter.item);
      }
    return taken;
  }

  #remember(tenant: string): void {
    this.#services += 1;
    this.#served.delete(tenant);
    this.#served.set(tenant, this.#services);
    const [oldest] = this.#served.keys();
    if (this.#served.size > TENANTS_REMEMBERED_MAX && oldest !== undefined) this.#served.delete(oldest);
  }

  #remove(tenant: string, waiter: Waiter<T>): void {
    waiter.leave();
    const line = this.#lines.get(tenant);
    if (!line) return;
    const index = line.indexOf(waiter);
    if (index >= 0) line.splice(index, 1);
    if (line.length === 0) this.#lines.delete(tenant);
  }
}
