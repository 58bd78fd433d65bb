// How long to wait before trying again: doubling, capped, and spread so that a fleet does not return in step.

export interface BackoffRule {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** The pause after `failures` failures in a row (1 or more); `random` is in [0, 1). */
export function backoffMs(rule: BackoffRule, failures: number, random: number): number {
  const full = Math.min(rule.maxMs, rule.firstMs * 2 ** Math.min(failures - 1, 30));
  return full / 2 + (full / 2) * random;
}
