// Rows of a worker's log, drawn at random and made again in sandboxes of the image.
import { drawnRows } from "../../src/cli/reproduce-command.ts";
import type { Evidence } from "../../src/reproduce/evidence.ts";
import { reproduce } from "../../src/reproduce/reproduce.ts";
import { SandboxRunner } from "../../src/reproduce/sandbox-runner.ts";
import { openState } from "../../src/worker/inspect/inspection.ts";

export interface ReproductionCounts {
  readonly rows: number;
  readonly equal: number;
  /** What the others came to, with their rows. */
  readonly others: readonly string[];
}

export async function reproduceRows(
  stateFolder: string,
  rootfsOf: (image: string) => string,
  count: number,
): Promise<ReproductionCounts> {
  const seed = process.env["HPCC_TEST_SEED"] ?? "20261128";
  const state = await openState(stateFolder);
  try {
    const evidence: Evidence = {
      find: (hash) => state.inspector.find(hash, null),
      blob: async ({ row }, digest, sizeMax) => state.blob(row.tenant, digest, sizeMax),
    };
    const runner = new SandboxRunner(async (image) => rootfsOf(image));
    const { signal } = new AbortController();
    const rows = await drawnRows(timeless(state.rows()), count, seed);
    const others: string[] = [];
    for (const row of rows) {
      const outcome = await reproduce(evidence, row, { runner, signal });
      if (outcome.verdict === "different")
        others.push(`seed ${seed}: ${row.line}: ${outcome.differences.map(({ what }) => what).join(", ")}`);
      if (outcome.verdict === "gone") others.push(`seed ${seed}: ${row.line}: ${outcome.problem}`);
    }
    return { rows: rows.length, equal: rows.length - others.length, others };
  } finally {
    await state.close();
  }
}

/** Compilers that are asked for how long they took say another thing each time (docs/operations/reproduce.md). */
const TIMED = /"-ftime-|"-fmem-report|"-print-stats|"-fproc-stat-report/;

async function* timeless(rows: AsyncIterable<{ readonly line: string; readonly envelope: string }>) {
  for await (const row of rows) if (!TIMED.test(row.line)) yield row;
}
