// Single flight: equal work that is wanted at the same time is done once. It goes on as long as anybody waits for it, and is
// cancelled when nobody does.
import { HpccError } from "../../base/errors.ts";

export interface Landing<T> {
  readonly value: T;
  /** True for one of those who waited: the one who accounts for the work. */
  readonly first: boolean;
  /** The first one calls it when others will find the work elsewhere; until then they still join. */
  readonly done: () => void;
}

export interface Work<T> {
  /** Who has it begun, if it is to be begun. */
  readonly owner: string;
  readonly start: (signal: AbortSignal) => Promise<T>;
}

interface Flight<T> {
  readonly owner: string;
  readonly result: Promise<T>;
  readonly cancel: AbortController;
  waiting: number;
  landed: { readonly value: T } | null;
  claimed: boolean;
}

export class Flights<T> {
  readonly #flights = new Map<string, Flight<T>>();
  readonly #unclaimed: (value: T) => void;

  /** `unclaimed` gets what was made although nobody waits for it any more. */
  constructor(unclaimed: (value: T) => void) {
    this.#unclaimed = unclaimed;
  }

  /** How many are under way, or are not done. */
  get size(): number {
    return this.#flights.size;
  }

  /** Who had this work begun, which is under way or not done; null when nobody did. */
  ownerOf(key: string): string | null {
    return this.#flights.get(key)?.owner ?? null;
  }

  /** Waits for the work of a key, starting it when nobody does it. Rejects with the signal's reason when that aborts. */
  async join(key: string, signal: AbortSignal, work: Work<T>): Promise<Landing<T>> {
    signal.throwIfAborted();
    const flight = this.#flights.get(key) ?? this.#start(key, work);
    flight.waiting++;
    const { promise: left, reject: leave } = Promise.withResolvers<never>();
    const onAbort = () => leave(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const value = await Promise.race([flight.result, left]);
      const first = !flight.claimed;
      flight.claimed = true;
      return { value, first, done: () => this.#remove(key, flight) };
    } finally {
      signal.removeEventListener("abort", onAbort);
      flight.waiting--;
      if (flight.waiting === 0 && !flight.claimed) this.#abandon(key, flight);
    }
  }

  #start(key: string, { owner, start }: Work<T>): Flight<T> {
    const cancel = new AbortController();
    const result = start(cancel.signal);
    const flight: Flight<T> = { owner, result, cancel, waiting: 0, landed: null, claimed: false };
    this.#flights.set(key, flight);
    result.then(
      (value) => {
        if (flight.waiting > 0) flight.landed = { value };
        else this.#unclaimed(value);
      },
      () => this.#remove(key, flight),
    );
    return flight;
  }

  #abandon(key: string, flight: Flight<T>): void {
    this.#remove(key, flight);
    flight.cancel.abort(new HpccError("job.cancelled", "nobody waits for it any more"));
    if (flight.landed !== null) this.#unclaimed(flight.landed.value);
  }

  #remove(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}
