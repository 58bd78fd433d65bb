// What a site's policy asks of retention, tenant by tenant. Pure.
import type { Retention, SitePolicy } from "./site-policy.ts";

/** How long rows stay; null: without a limit. */
export interface RetentionLimits {
  readonly ageMs: number | null;
  readonly bytes: number | null;
}

export interface PolicyRetention {
  /** By tenant; null for one whose rows all stay. */
  readonly tenants: ReadonlyMap<string, RetentionLimits | null>;
  /** Of tenants that are not listed, also where they are not served any more. */
  readonly others: RetentionLimits | null;
}

const DAY_MS = 86_400_000;

/** What the policy says, or what of it workers do by themselves. */
export function retentionOf({ tenants, defaults }: SitePolicy, which: "all" | "automatic"): PolicyRetention {
  const limits = ({ days, bytes, automatic }: Retention): RetentionLimits | null =>
    (days === null && bytes === null) || (which === "automatic" && !automatic)
      ? null
      : { ageMs: days === null ? null : days * DAY_MS, bytes };
  const listed = [...tenants].map(([name, { retention }]) => [name, limits(retention)] as const);
  return { tenants: new Map(listed), others: limits(defaults.retention) };
}

/** Whether it removes anything of anybody. */
export function removesAny({ tenants, others }: PolicyRetention): boolean {
  return others !== null || [...tenants.values()].some((limits) => limits !== null);
}
