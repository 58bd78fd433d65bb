// How long each tenant has held places lately: who has had less goes first when one becomes free. So a tenant whose VMs run one
// job each, and gives his place back after each, is not behind one whose VMs keep theirs.

/** What was used so long ago counts half. */
const HALF_LIFE_MS = 60_000;
/** Less than this is forgotten. */
const NEGLIGIBLE_MS = 1;

interface Share {
  /** Places that it holds now. */
  places: number;
  /** Milliseconds of one place. */
  usedMs: number;
}

export class PlaceTime {
  readonly #shares = new Map<string, Share>();
  #atMs: number;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** Accounts for the time until now. To be called before places change hands. */
  advance(nowMs: number): void {
    const elapsedMs = nowMs - this.#atMs;
    if (elapsedMs <= 0) return;
    this.#atMs = nowMs;
    const kept = 2 ** (-elapsedMs / HALF_LIFE_MS);
    for (const [tenant, share] of this.#shares) {
      share.usedMs = share.usedMs * kept + share.places * (1 - kept) * (HALF_LIFE_MS / Math.LN2);
      if (share.places === 0 && share.usedMs < NEGLIGIBLE_MS) this.#shares.delete(tenant);
    }
  }

  /** Says who holds places from now on: one entry for each place. */
  hold(tenants: Iterable<string>): void {
    for (const share of this.#shares.values()) share.places = 0;
    for (const tenant of tenants) {
      const share = this.#shares.get(tenant) ?? { places: 0, usedMs: 0 };
      share.places += 1;
      this.#shares.set(tenant, share);
    }
  }

  usedMs(tenant: string): number {
    return this.#shares.get(tenant)?.usedMs ?? 0;
  }
}
