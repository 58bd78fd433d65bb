// Rows of a worker's log, drawn at random and made again in sandboxes of the image.
import { drawnRows } from "../../src/cli/reproduce-command.ts";
import type { Evidence } from "../../src/reproduce/evidence.ts";
import { reproduce } from "../../src/reproduce/reproduce.ts";
import { SandboxRunner } from "../../src/reproduce/sandbox-runner.ts";
import { openState } from "../../src/worker/inspect/inspection.ts";

export interface ReproductionCounts {
  readonly rows: number;
  /** In all but what a compiler says of its own time and memory. */
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
    const rows = await drawnRows(state.rows(), count, seed);
    const others: string[] = [];
    for (const row of rows) {
      const outcome = await reproduce(evidence, row, { runner, signal });
      if (outcome.verdict === "different" && !isExcepted(row.line, outcome.differences))
        others.push(`seed ${seed}: ${row.line}: ${outcome.differences.map(({ what }) => what).join(", ")}`);
      if (outcome.verdict === "gone") others.push(`seed ${seed}: ${row.line}: ${outcome.problem}`);
    }
    return { rows: rows.length, equal: rows.length - others.length, others };
  } finally {
    await state.close();
  }
}

/** A kind of call that says another thing each time it runs, and in what. The list is closed: docs/operations/reproduce.md explains each. */
interface Exception {
  readonly command: RegExp;
  /** Which outputs or streams differ; all else must be equal. */
  readonly what: RegExp;
}

const EXCEPTIONS: readonly Exception[] = [
  // How long the compiler took, or how much memory it had.
  { command: /(?<=[\s"])(?:-ftime-report|-fmem-report|-print-stats|-fproc-stat-report)/, what: /^std(?:out|err)$/ },
  { command: /(?<=[\s"])-ftime-trace/, what: /\.json$/ },
];

/** Whether a row may differ in all that it differs in. */
export function isExcepted(command: string, differences: readonly { readonly what: string }[]): boolean {
  const found = EXCEPTIONS.filter((exception) => exception.command.test(command));
  return differences.every(({ what }) => found.some((exception) => exception.what.test(what)));
}
