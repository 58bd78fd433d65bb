// Whose image a worker fetches next. Tenants take turns, and none has so many fetches at once, or waiting, that another one's do not begin: a
// tenant may name what comes slowly, or never.
import { HpccError } from "../base/errors.ts";

/** Images that come at the same time; the others wait. */
export const AT_ONCE_MAX = 2;
/** Of one tenant. */
const TENANT_AT_ONCE_MAX = 1;
const TENANT_WAITING_MAX = 8;
const WAITING_MAX = 256;

/** Whoever runs the worker, in place of a tenant: has every turn that nobody else wants. */
export const OPERATOR = "";

/** One fetch that waits, or runs. */
export class FetchTurn {
  /** Those who wait for it: it begins when one of them has a turn. */
  readonly tenants: Set<string>;
  readonly begun = Promise.withResolvers<void>();

  constructor(tenant: string) {
    this.tenants = new Set([tenant]);
  }
}

export class FetchTurns {
  readonly #waiting = new Set<FetchTurn>();
  /** Running fetches, with the tenant whose turn it was. */
  readonly #running = new Map<FetchTurn, string>();
  /** Tenants that had a turn, the latest last, as long as they have something here. */
  readonly #served = new Set<string>();

  /** Waits behind what the tenant has waiting, beside what others have. Throws `image.fetching` where he has too much already. */
  wait(tenant: string): FetchTurn {
    const own = [...this.#waiting].filter(({ tenants }) => tenants.has(tenant)).length;
    if (own >= TENANT_WAITING_MAX || this.#waiting.size >= WAITING_MAX)
      throw new HpccError("image.fetching", `this worker fetches ${own} other images for the tenant first`);
    const turn = new FetchTurn(tenant);
    this.#waiting.add(turn);
    this.#begin();
    return turn;
  }

  /** Another tenant waits for the same; it comes at whoever's turn is first. */
  join(turn: FetchTurn, tenant: string): void {
    turn.tenants.add(tenant);
    this.#begin();
  }

  end(turn: FetchTurn): void {
    this.#waiting.delete(turn);
    this.#running.delete(turn);
    this.#begin();
  }

  /** Lets all begin that wait: their owner ends them. */
  close(): void {
    for (const turn of this.#waiting) turn.begun.resolve();
  }

  #begin(): void {
    while (this.#running.size < AT_ONCE_MAX) {
      const [tenant, turn] = this.#next() ?? [];
      if (tenant === undefined || turn === undefined) return;
      this.#waiting.delete(turn);
      this.#running.set(turn, tenant);
      this.#served.delete(tenant);
      this.#served.add(tenant);
      turn.begun.resolve();
    }
  }

  /** The first fetch of whoever had a turn the longest ago, of those who may have one. */
  #next(): [string, FetchTurn] | null {
    const wanting = new Set([...this.#waiting].flatMap(({ tenants }) => [...tenants]));
    const running = [...this.#running.values()];
    for (const tenant of this.#served)
      if (!wanting.has(tenant) && !running.includes(tenant)) this.#served.delete(tenant);
    const order = [...this.#served];
    const free = [...wanting].filter(
      (tenant) => tenant === OPERATOR || running.filter((other) => other === tenant).length < TENANT_AT_ONCE_MAX,
    );
    const [tenant] = free.toSorted((a, b) => order.indexOf(a) - order.indexOf(b));
    if (tenant === undefined) return null;
    return [tenant, [...this.#waiting].find(({ tenants }) => tenants.has(tenant))!];
  }
}
