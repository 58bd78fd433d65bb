// Who may run how many executions at a time: all places go to who wants them, tenants alike, within a tenant its users alike, and
// within a user his keys alike (max-min fair). Pure: it knows claims, and neither VMs nor time.
import type { PoolKey } from "./pool-key.ts";

export interface Claim {
  readonly key: PoolKey;
  /** Executions that run or wait. */
  readonly wanted: number;
}

/** Places of each key, by its text; one claim for each key. A place is nobody's only when nobody wants more. */
export function fairShares(claims: readonly Claim[], places: number): ReadonlyMap<string, number> {
  const shares = new Map<string, number>();
  divide(claims, places, 0, shares);
  return shares;
}

function divide(claims: readonly Claim[], places: number, level: number, shares: Map<string, number>): void {
  const groups = [...Map.groupBy(claims, ({ key }) => key.parties[level] ?? key.text).values()].map((members) => ({
    members,
    wanted: members.reduce((sum, { wanted }) => sum + wanted, 0),
  }));
  groups.sort((a, b) => a.wanted - b.wanted);
  let left = places;
  for (const [index, { members, wanted }] of groups.entries()) {
    const share = Math.min(wanted, Math.floor(left / (groups.length - index)));
    left -= share;
    const [only] = members;
    if (only !== undefined && members.length === 1) shares.set(only.key.text, share);
    else divide(members, share, level + 1, shares);
  }
}

/**
 * Orders two keys by what they have, at the first of the parties where they differ: tenants before users, users before their keys.
 * Negative when `a` has less.
 */
export function compareByParty(a: PoolKey, b: PoolKey, held: (party: string) => number): number {
  for (const [level, party] of a.parties.entries()) {
    const other = b.parties[level]!;
    if (party !== other) return held(party) - held(other);
  }
  return 0;
}

/** Counts something of each party. */
export class PartyCounts {
  readonly #counts = new Map<string, number>();
  readonly #keys = new Map<string, PoolKey>();
  #total = 0;

  /** Those of which there is any. */
  get keys(): Iterable<PoolKey> {
    return this.#keys.values();
  }

  get total(): number {
    return this.#total;
  }

  of(party: string): number {
    return this.#counts.get(party) ?? 0;
  }

  add(key: PoolKey, count: number): void {
    this.#total += count;
    for (const party of key.parties) {
      const sum = this.of(party) + count;
      if (sum === 0) this.#counts.delete(party);
      else this.#counts.set(party, sum);
    }
    if (this.of(key.text) === 0) this.#keys.delete(key.text);
    else this.#keys.set(key.text, key);
  }
}
