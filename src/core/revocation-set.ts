// Revocations in memory, asked for every result that is found or kept. Pure and bounded.
import { CLOCK_SKEW_MS_MAX, type Made, type Revocation } from "./revocation.ts";

/** More than these are replaced by a horizon, the older half first. */
export const REVOCATIONS_MAX = 4096;

/** A revocation that another worker made has its moment by that worker's clock; this one heard of it later, by its own. */
export interface HeardRevocation extends Revocation {
  readonly heardMs?: number;
}

export class RevocationSet<T extends HeardRevocation = HeardRevocation> {
  readonly #worker: string | null;
  /** By kind and value, in the order in which they came. */
  readonly #revocations = new Map<string, T>();
  #horizonMs: number;
  #newestMs = 0;

  /**
   * `worker` is the one whose clock the times are; results of others may be dated later than they were made. What had begun
   * before `horizonMs` is revoked, whatever it is.
   */
  constructor(worker: string | null, horizonMs = 0) {
    this.#worker = worker;
    this.#horizonMs = horizonMs;
  }

  get horizonMs(): number {
    return this.#horizonMs;
  }

  get size(): number {
    return this.#revocations.size;
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#revocations.values();
  }

  /** False when nothing is revoked by it that was not before. */
  add(revocation: T): boolean {
    const name = nameOf(revocation);
    const before = this.#revocations.get(name);
    this.#newestMs = Math.max(this.#newestMs, endOf(revocation));
    if (before !== undefined && (revocation.kind === "vm" || before.atMs >= revocation.atMs)) return false;
    this.#revocations.delete(name);
    this.#revocations.set(name, revocation);
    if (this.#revocations.size > REVOCATIONS_MAX) this.#forgetOlderHalf();
    return true;
  }

  /** Whether a result is revoked that is kept, or was to be, under this key. */
  has(key: string, made: Made): boolean {
    return this.covering(key, made) !== null;
  }

  /** What revokes the result; "horizon" when that is forgotten. */
  covering(key: string, made: Made): T | "horizon" | null {
    const { vm, confirmedBy, image, principal } = made;
    const ofVm = this.#find("vm", vm) ?? (confirmedBy === null ? undefined : this.#find("vm", confirmedBy));
    if (ofVm !== undefined) return ofVm;
    const own = this.#worker === null || made.worker === this.#worker;
    const skewMs = own ? 0 : CLOCK_SKEW_MS_MAX;
    for (const dated of [this.#find("image", image), this.#find("principal", principal), this.#find("key", key)])
      if (dated !== undefined && made.madeMs <= (own ? endOf(dated) : dated.atMs + skewMs)) return dated;
    return this.#horizonMs > 0 && made.madeMs <= this.#horizonMs + skewMs ? "horizon" : null;
  }

  /** The time of what begins now: later than every revocation, so that none of them reaches it, also when the clock was set back. */
  stamp(nowMs: number): number {
    return Math.max(nowMs, this.#newestMs + 1, this.#horizonMs + 1);
  }

  #find(kind: Revocation["kind"], value: string): T | undefined {
    return this.#revocations.get(`${kind} ${value}`);
  }

  /** All that the forgotten ones named had begun before the horizon. */
  #forgetOlderHalf(): void {
    const all = [...this.#revocations.values()].sort((a, b) => endOf(a) - endOf(b));
    for (const revocation of all.slice(0, REVOCATIONS_MAX / 2)) {
      this.#revocations.delete(nameOf(revocation));
      this.#horizonMs = Math.max(this.#horizonMs, endOf(revocation));
    }
  }
}

/** Up to when what this worker began is revoked. */
function endOf({ atMs, heardMs }: HeardRevocation): number {
  return Math.max(atMs, heardMs ?? 0);
}

function nameOf({ kind, value }: Revocation): string {
  return `${kind} ${value}`;
}
