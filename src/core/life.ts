// The life of the VM that ran a job: what else may have run in it before.
import { NumberTable } from "../base/number-table.ts";

/** `session`: other jobs of the same principal. `clean`: nothing, and nothing after it; only such results may be shared. */
export type Life = "session" | "clean";

/** Their numbers wherever a life is stored, signed or sent. A number never changes and is never used again. */
export const LIFE_NUMBERS = new NumberTable<Life>({ session: 1, clean: 2 });

export const LIVES: readonly Life[] = LIFE_NUMBERS.names;

/** Whether a result of `life` is good enough where `wanted` is asked for. */
export function lifeSuffices(life: Life, wanted: Life): boolean {
  return life === "clean" || wanted === "session";
}
