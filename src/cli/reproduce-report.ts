// The report of `hpcc reproduce`, as data, text and a page.

import { decodeFlags } from "../audit/flags.ts";
import { displayText } from "../base/byte-string.ts";
import { isDigest } from "../core/digest/digest.ts";
import type { Reproduction } from "../reproduce/reproduce.ts";
import { printable, table } from "./output.ts";

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
  /** What was not compared. */
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
    if (row.unchecked.length > 0) lines.push(["not compared", `${row.unchecked.join(", ")}: it was a terminal`]);
    lines.push(["verdict", row.verdict]);
    return table(lines.map(([name, value]) => [name, printable(value)]));
  });
  const { equal, different, gone, seed } = report;
  const sum = `${equal} equal, ${different} different, ${gone} that cannot be made again`;
  if (report.rows.length > 1 || seed !== null)
    parts.push(`${sum}${seed === null ? "" : `; drawn with --seed ${printable(seed)}`}\n`);
  return parts.join("\n");
}

/** One page without scripts or anything from elsewhere. */
export function reportPage(report: ReproductionReport): string {
  const rows = report.rows.map((row) => {
    const found =
      row.problem ??
      row.differences.map(({ what, expected, found: now }) => `${what}: ${expected} then, ${now} now`).join("; ");
    const cells = [row.verdict, row.row, row.command, row.image, row.worker, row.where ?? "-", found];
    return `<tr class="${row.verdict}">${cells.map((cell) => `<td>${escaped(cell)}</td>`).join("")}</tr>`;
  });
  const heads = ["verdict", "row", "command", "image", "compiled by", "compiled again", "found"];
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>hpcc: rows compiled again</title>
<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}td,th{border:1px solid #999;padding:.3em;text-align:left;vertical-align:top;overflow-wrap:anywhere}
.different td:first-child,.gone td:first-child{font-weight:bold}</style>
<h1>Rows compiled again</h1>
<p>${report.equal} equal, ${report.different} different, ${report.gone} that cannot be made again${report.seed === null ? "" : `; drawn with seed ${escaped(report.seed)}`}.</p>
<table><tr>${heads.map((head) => `<th>${head}</th>`).join("")}</tr>
${rows.join("\n")}
</table></html>
`;
}

function escaped(text: string): string {
  return printable(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
