// What principals, tiers and tenants have under way and have used today (UTC), held against their quotas. Pure; whoever
// has it saves it.
import { HpccError } from "../../base/errors.ts";
import type { Principal } from "../identity/spiffe.ts";
import type { JobPolicy, Quotas } from "../tenant-policy.ts";

/** One that a job counts for. */
export interface QuotaParty {
  /** For people: "the tenant acme". */
  readonly name: string;
  readonly key: string;
  readonly quotas: Quotas;
}

export interface Usage {
  readonly bytes: number;
  readonly cpuUs: number;
}

export interface SavedUsage {
  /** "2026-11-28". */
  readonly day: string;
  readonly used: ReadonlyMap<string, Usage>;
}

/** All that a job counts for, the widest first. Names have no slash, so no two share a key. */
export function partiesOf({ tenant, user }: Principal, { tier, quotas }: JobPolicy): QuotaParty[] {
  const parties = [
    { name: `the tenant ${tenant}`, key: tenant, quotas: quotas.tenant },
    { name: `the user ${user} of ${tenant}`, key: `${tenant}/user/${user}`, quotas: quotas.principal },
  ];
  if (tier !== null)
    parties.splice(1, 0, { name: `tier ${tier} of ${tenant}`, key: `${tenant}/tier/${tier}`, quotas: quotas.tier });
  return parties;
}

export class QuotaLedger {
  #day = "";
  readonly #used = new Map<string, Usage>();
  readonly #jobs = new Map<string, number>();

  constructor(saved: SavedUsage | null = null) {
    if (saved === null) return;
    this.#day = saved.day;
    for (const [key, usage] of saved.used) this.#used.set(key, usage);
  }

  /** Counts a job that begins; throws `limit.exceeded` where one more is too many, and counts nothing then. */
  begin(parties: readonly QuotaParty[]): void {
    for (const { name, key, quotas } of parties)
      if (quotas.jobsMax !== null && this.jobs(key) >= quotas.jobsMax)
        throw new HpccError(
          "limit.exceeded",
          `${name} has ${this.jobs(key)} jobs under way on this worker, and its quota (jobs) is ${quotas.jobsMax}; ` +
            "the next one has room when one of them ends",
        );
    for (const { key } of parties) this.#jobs.set(key, this.jobs(key) + 1);
  }

  /** A job that `begin` counted has ended. */
  end(parties: readonly QuotaParty[]): void {
    for (const { key } of parties) {
      const left = this.jobs(key) - 1;
      if (left > 0) this.#jobs.set(key, left);
      else this.#jobs.delete(key);
    }
  }

  jobs(key: string): number {
    return this.#jobs.get(key) ?? 0;
  }

  /** Throws `limit.exceeded` where today's quota is used up. */
  check(parties: readonly QuotaParty[], nowMs: number): void {
    this.#turn(nowMs);
    for (const { name, key, quotas } of parties) {
      const { bytes, cpuUs } = this.used(key);
      if (quotas.bytesPerDayMax !== null && bytes >= quotas.bytesPerDayMax)
        throw usedUp(name, `source_bytes_per_day) of ${quotas.bytesPerDayMax} bytes`, nowMs);
      if (quotas.cpuUsPerDayMax !== null && cpuUs >= quotas.cpuUsPerDayMax)
        throw usedUp(name, `cpu_seconds_per_day) of ${quotas.cpuUsPerDayMax / 1e6} seconds`, nowMs);
    }
  }

  /** Counts what a job used, for those who have a quota for a day. True when there is something new to be saved. */
  charge(parties: readonly QuotaParty[], usage: Usage, nowMs: number): boolean {
    this.#turn(nowMs);
    let charged = false;
    for (const { key, quotas } of parties) {
      if (quotas.bytesPerDayMax === null && quotas.cpuUsPerDayMax === null) continue;
      const { bytes, cpuUs } = this.used(key);
      this.#used.set(key, { bytes: bytes + usage.bytes, cpuUs: cpuUs + usage.cpuUs });
      charged = true;
    }
    return charged;
  }

  used(key: string): Usage {
    return this.#used.get(key) ?? { bytes: 0, cpuUs: 0 };
  }

  saved(): SavedUsage {
    return { day: this.#day, used: new Map(this.#used) };
  }

  #turn(nowMs: number): void {
    const day = dayOf(nowMs);
    if (day === this.#day) return;
    this.#day = day;
    this.#used.clear();
  }
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

const DAY_MS = 86_400_000;

function usedUp(name: string, quota: string, nowMs: number): HpccError {
  const next = `${dayOf(nowMs + DAY_MS)}T00:00:00Z`;
  return new HpccError(
    "limit.exceeded",
    `${name} has used up its quota (${quota} on this worker for ${dayOf(nowMs)}; the next one begins at ${next}`,
  );
}
