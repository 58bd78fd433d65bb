// What every command prints to: text for people, JSON for programs, errors with code, message and hint.
import { ERROR_TRAITS, HpccError } from "../base/errors.ts";

/** Where a command's words go; the program binds it to the process. */
export interface Output {
  out(text: string): void;
  error(text: string): void;
}

/** An error as a person reads it: what happened, its code, what to do. */
export function printError(error: unknown): string {
  if (!(error instanceof HpccError)) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return `hpcc: bug: ${printable(detail, true)}\n`;
  }
  return `hpcc: ${printable(error.message)} [${error.code}]\n      ${printable(error.hint)}\n`;
}

/** The exit code of a command that ended with this error. */
export function exitCodeOf(error: unknown): number {
  return error instanceof HpccError ? ERROR_TRAITS[error.code].exitCode : 70;
}

/** Replaces what could move a terminal's cursor. */
export function printable(text: string, keepLines = false): string {
  const cleaned = text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/g, "\ufffd");
  return keepLines ? cleaned : cleaned.replaceAll("\n", " ");
}

/** Columns, each as wide as its widest cell; the last one is not padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows)
    for (const [column, cell] of row.entries()) widths[column] = Math.max(widths[column] ?? 0, cell.length);
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** JSON for programs, one value, with a line end. */
export function json(value: unknown): string {
  return `${JSON.stringify(value, (_key, item: unknown) => (item instanceof Map ? Object.fromEntries(item) : typeof item === "bigint" ? item.toString() : item), 2)}\n`;
}
