// Which workers stand for a key among those of a site: rendezvous hashing, so that all who know the same workers name the same
// ones, and a worker that comes or goes moves only the keys that it stands for. Pure; knows no connection and no clock.
import type { Digest } from "../digest/digest.ts";
import { hash32, mix32 } from "./hash.ts";

export interface KeyHome {
  /** Unique and stable over restarts. */
  readonly id: string;
}

/** How many workers stand for a key: when one comes or goes, another is still known to all. */
export const HOMES_PER_KEY = 2;

/** The workers that keys are placed on. */
export class KeyPlacement<H extends KeyHome> {
  readonly #members: readonly { readonly point: number; readonly home: H }[];

  constructor(homes: readonly H[]) {
    this.#members = homes.map((home) => ({ point: mix32(hash32(home.id)), home }));
  }

  /** The workers that stand for a key, best first: `HOMES_PER_KEY`, or as many as there are. */
  homes(key: Digest): H[] {
    const place = hash32(key);
    const scored = this.#members.map(({ point, home }) => ({ score: mix32(place ^ point), home }));
    scored.sort((a, b) => b.score - a.score || (a.home.id < b.home.id ? -1 : 1));
    return scored.slice(0, HOMES_PER_KEY).map(({ home }) => home);
  }
}
