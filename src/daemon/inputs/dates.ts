// Whether a compile may show the date of a day: by a text that it reads, or by a macro of its command line.
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { SourceScan } from "../../core/compile/view/source-scan.ts";

type Dates = Pick<SourceScan, "timestamp" | "dates">;

/** Time stamps always; dates where the compiler cannot be given one that it refuses. */
export function showsDate({ timestamp, dates }: Dates, { family }: Pick<GnuInvocation, "family">): boolean {
  return timestamp || (dates && !grammarOf({ family }).habits.datesByEnvironment);
}
