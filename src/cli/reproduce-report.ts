// The report of `hpcc reproduce`, as data, text and a page.

import { decodeFlags } from "../audit/flags.ts";
import { displayText } from "../base/byte-string.ts";
import { isDigest } from "../core/digest/digest.ts";
import type { Reproduction } from "../reproduce/reproduce.ts";
import { html, page } from "./html.ts";
import { printable, table } from "./output.ts";
import { REPORT_STYLE } from "./report-style.ts";

export interface ReproducedRow {
  readonly row: string;
  readonly verdict: Reproduction["verdict"];
  readonly kind: string;
  readonly image: string;
  readonly worker: string;
  readonly command: string;
  /** Where it ran again; null where it could not. */
  readonly where: string | null;
  /** Why it cannot be made again; null otherwise. */
  readonly problem: string | null;
  /** What was not compared, and why. */
  readonly unchecked: readonly string[];
  readonly differences: readonly { readonly what: string; readonly expected: string; readonly found: string }[];
}

export interface ReproductionReport {
  readonly equal: number;
  readonly different: number;
  readonly gone: number;
  /** With which a sample was drawn; null without one. */
  readonly seed: string | null;
  readonly rows: readonly ReproducedRow[];
}

export function reportOf(done: readonly Reproduction[], seed: string | null): ReproductionReport {
  const count = (verdict: Reproduction["verdict"]) => done.filter((one) => one.verdict === verdict).length;
  return {
    equal: count("equal"),
    different: count("different"),
    gone: count("gone"),
    seed,
    rows: done.map(reproducedRow),
  };
}

function reproducedRow(one: Reproduction): ReproducedRow {
  const { row, digest, envelope } = one.row;
  return {
    row: digest,
    verdict: one.verdict,
    kind: envelope.kind,
    image: row.imageDigest ?? "-",
    worker: row.worker,
    command: commandOf(row.flags),
    where: one.verdict === "gone" ? null : one.where,
    problem: one.verdict === "gone" ? one.problem : null,
    unchecked: one.verdict === "equal" ? one.unchecked : [],
    differences:
      one.verdict === "different"
        ? one.differences.map(({ what, expected, found }) => ({ what, expected, found }))
        : [],
  };
}

function commandOf(flags: string | null): string {
  if (flags === null) return "-";
  if (isDigest(flags)) return `in blob ${flags}`;
  return decodeFlags(flags).argv.map(displayText).join(" ");
}

/** UNTRUSTED: what rows say. */
export function printReport(report: ReproductionReport): string {
  const parts = report.rows.map((row) => {
    const lines: [string, string][] = [
      ["row", row.row],
      ["command", row.command],
      ["image", row.image],
      ["compiled by", row.worker],
    ];
    if (row.where !== null) lines.push(["compiled again", row.where]);
    if (row.problem !== null) lines.push(["cannot be made again", row.problem]);
    for (const { what, expected, found } of row.differences) lines.push([what, `${expected} then, ${found} now`]);
    if (row.unchecked.length > 0) lines.push(["not compared", row.unchecked.join("; ")]);
    lines.push(["verdict", row.verdict]);
    return table(lines.map(([name, value]) => [name, printable(value)]));
  });
  const { equal, different, gone, seed } = report;
  const sum = `${equal} equal, ${different} different, ${gone} that cannot be made again`;
  if (report.rows.length > 1 || seed !== null)
    parts.push(`${sum}${seed === null ? "" : `; drawn with --seed ${printable(seed)}`}\n`);
  return parts.join("\n");
}

/** One page without scripts or anything from elsewhere. UNTRUSTED: what rows say; `html` escapes it. */
export function reportPage(report: ReproductionReport): string {
  const tones = { equal: "good", different: "bad", gone: "warn" } as const;
  const rows = report.rows.map((row) => {
    const found =
      row.problem ??
      row.differences.map(({ what, expected, found: now }) => `${what}: ${expected} then, ${now} now`).join("; ");
    const cells = [row.image, row.worker, row.where ?? "-", found].map((cell) => html`<td class="name">${cell}</td>`);
    return html`<tr class="${row.verdict}"><th scope="row"><span class="tag ${tones[row.verdict]}">${row.verdict}</span></th>
<td class="name"><code>${row.row}</code></td><td class="name"><code>${row.command}</code></td>${cells}</tr>
`;
  });
  const heads = ["verdict", "row", "command", "image", "compiled by", "compiled again", "found"];
  const sum = `${report.equal} equal, ${report.different} different, ${report.gone} that cannot be made again`;
  const body = html`<main>
<h1>Rows compiled again</h1>
<p>${sum}${report.seed === null ? "" : `; drawn with seed ${report.seed}`}.</p>
<div class="scroll" tabindex="0" role="region" aria-label="Rows compiled again"><table><caption>Each row, and what came out</caption>
<thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
<tbody>
${rows}</tbody></table></div>
</main>`;
  return page({ title: "hpcc: rows compiled again", style: REPORT_STYLE, body });
}
