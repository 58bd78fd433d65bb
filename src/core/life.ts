// The life of the VM that ran a job: what else may have run in it before.

/** `session`: other jobs of the same principal. `clean`: nothing, and nothing after it; only such results may be shared. */
export const LIVES = ["session", "clean"] as const;
export type Life = (typeof LIVES)[number];

/** Whether a result of `life` is good enough where `wanted` is asked for. */
export function lifeSuffices(life: Life, wanted: Life): boolean {
  return life === "clean" || wanted === "session";
}
