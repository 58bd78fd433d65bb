// Counts what test runners printed, and says it in one line: how many tests passed, failed and did not run, and why these did not.
// A test that did not run never counts among the passed ones, whatever its runner says.

export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Of the skipped ones, how many by reason. */
  readonly reasons: Readonly<Record<string, number>>;
}

export const NOTHING: Tally = { passed: 0, failed: 0, skipped: 0, reasons: {} };

export function addUp(tallies: readonly Tally[]): Tally {
  const total = { ...NOTHING, reasons: {} as Record<string, number> };
  for (const { passed, failed, skipped, reasons } of tallies) {
    total.passed += passed;
    total.failed += failed;
    total.skipped += skipped;
    for (const [reason, count] of Object.entries(reasons)) total.reasons[reason] = (total.reasons[reason] ?? 0) + count;
  }
  return total;
}

/** The closing lines of a run: each reason with its number, then the figures alone on the last line. */
export function closingLines(total: Tally): string[] {
  const reasons = Object.entries(total.reasons).sort(([a, m], [b, n]) => n - m || a.localeCompare(b));
  return [
    ...reasons.map(([reason, count]) => `did not run: ${count} test${count === 1 ? "" : "s"}: ${reason}`),
    `${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`,
  ];
}

function sum(output: string, pattern: RegExp): number {
  let total = 0;
  for (const match of output.matchAll(pattern)) total += Number(match[1]);
  return total;
}

function counted(reasons: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const reason of reasons) counts[reason] = (counts[reason] ?? 0) + 1;
  return counts;
}

/**
 * Of node's test runner with its `spec` reporter. The runner counts a suite that is skipped as a whole as no test, however many are in
 * it. Here that is a failure: the tests of such a suite must be skipped one by one, or its file's group as a whole.
 */
export function nodeTally(output: string): Tally {
  const skipped = sum(output, /^ℹ (?:skipped|todo) (\d+)$/gm);
  const lines = [...output.matchAll(/^\s*﹣ .* \([\d.]+ms\)(?: # (.*))?$/gm)].map((match) => reasonOf(match[1]));
  const hidden = Math.max(0, lines.length - skipped);
  const said = lines.slice(0, skipped);
  const unsaid = Array(skipped - said.length).fill(reasonOf(undefined)) as string[];
  return {
    passed: sum(output, /^ℹ pass (\d+)$/gm),
    failed: sum(output, /^ℹ (?:fail|cancelled) (\d+)$/gm) + hidden,
    skipped,
    reasons: counted([...said, ...unsaid]),
  };
}

function reasonOf(said: string | undefined): string {
  return said === undefined || said === "SKIP" || said === "TODO" ? "no reason given" : said.replace(/^skipped: /, "");
}

/**
 * Of `cargo test -- --show-output`. A test that finds out that it cannot do its work here prints a line "SKIPPED what: why" and counts
 * as passed in its runner: here it counts as skipped, once, however often it prints.
 */
export function cargoTally(output: string): Tally {
  const reasons: string[] = [];
  let test: string | null = null;
  let failing = false;
  let told = false;
  for (const line of output.split("\n")) {
    const section = /^---- (.*) stdout ----$/.exec(line)?.[1];
    if (section !== undefined) [test, told] = [section, false];
    else if (line === "successes:" || line === "failures:") [test, failing] = [null, line === "failures:"];
    else if (line.startsWith("test result: ")) [test, failing] = [null, false];
    const why = /^SKIPPED (.*)$/.exec(line)?.[1];
    if (why === undefined || failing || (test !== null && told)) continue;
    told = true;
    reasons.push(why);
  }
  const ignored = sum(output, /^test result: .*? (\d+) ignored;/gm);
  return {
    passed: sum(output, /^test result: .*? (\d+) passed;/gm) - reasons.length,
    failed: sum(output, /^test result: .*? (\d+) failed;/gm),
    skipped: ignored + reasons.length,
    reasons: counted([...reasons, ...(Array(ignored).fill("ignored in the source") as string[])]),
  };
}

/** Of scripts/check.ts. */
export function gateTally(output: string): Tally {
  return {
    ...NOTHING,
    passed: sum(output, /^(\d+) gates passed/gm),
    failed: sum(output, /^\d+ gates passed, (\d+) failed/gm),
  };
}

/** Of what a test said when it failed, in one line of the end of a log. */
const SAID_CHARS_MAX = 300;

/**
 * The tests that failed, with the beginning of what they said, for the end of a log, which may be all that is kept of it: of node's test
 * runner with its `spec` reporter, and of cargo.
 */
export function failedTests(output: string): string[] {
  const node = [...output.matchAll(/^test at (.*):\d+:\d+\n✖ (.*) \([\d.]+ms\)$/gm)];
  const cargo = [...output.matchAll(/^failures:\n((?: {4}\S+\n)+)/gm)];
  return [
    ...node.map(({ 0: head, 1: file, 2: name, index }) => {
      const said = saidFrom(output.slice(index + head.length + 1, index + head.length + 1 + 8 * SAID_CHARS_MAX));
      return said === "" ? `${file}: ${name}` : `${file}: ${name}: ${said}`;
    }),
    ...cargo.flatMap(([, names = ""]) => names.trim().split(/\s+/)),
  ];
}

/** What stands indented below a failed test's name, without places in code. */
function saidFrom(text: string): string {
  const lines = text.split("\n");
  const end = lines.findIndex((line) => /^\S|^\s+at /.test(line));
  const said = (end < 0 ? lines : lines.slice(0, end)).map((line) => line.trim()).filter((line) => line !== "");
  return said.join(" ").slice(0, SAID_CHARS_MAX);
}

/** Of a run that went as it should have: one that failed without saying so, or ran no test, has failed. */
export function judged(tally: Tally, exitCode: number | null): Tally {
  return tally.failed > 0 || (exitCode === 0 && tally.passed > 0) ? tally : { ...tally, failed: 1 };
}

/** Of a run in which test/support/skip-all.ts let no test run: their number. One that ran all the same, or none, is a failure. */
export function listedTally(tally: Tally, exitCode: number | null): Tally {
  const failed = tally.failed + tally.passed + (exitCode === 0 && tally.skipped > 0 ? 0 : 1);
  return { ...tally, passed: 0, failed };
}
