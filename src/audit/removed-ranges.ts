// Numbers of the rows that a prune removes, as ranges: one a line, "7" or "9-12", ascending. Pure.
import { HpccError } from "../base/errors.ts";

/** First and last number. */
export type RowRange = readonly [first: number, last: number];

const LINE = /^([1-9][0-9]{0,15})(?:-([1-9][0-9]{0,15}))?$/;

export function encodeRanges(ranges: readonly RowRange[]): string {
  return ranges.map(([first, last]) => (first === last ? `${first}\n` : `${first}-${last}\n`)).join("");
}

/** Throws `audit.corrupt` for anything that `encodeRanges` does not write. UNTRUSTED: a log. */
export function parseRanges(text: string): RowRange[] {
  const lines = text.split("\n");
  let end = lines.pop() === "" ? 0 : Number.NaN;
  const ranges = lines.map((line): RowRange => {
    const [, from, to] = LINE.exec(line) ?? [];
    const first = Number(from ?? Number.NaN);
    const last = Number(to ?? first);
    if (!(first > end && last >= first && Number.isSafeInteger(last)))
      throw new HpccError("audit.corrupt", "a list of rows to remove is not in its form");
    end = last;
    return [first, last];
  });
  if (Number.isNaN(end)) throw new HpccError("audit.corrupt", "a list of rows to remove is cut off");
  return ranges;
}

/** Collects ascending numbers. */
export class RangeBuilder {
  readonly ranges: [number, number][] = [];

  add(row: number): void {
    const last = this.ranges.at(-1);
    if (last?.[1] === row - 1) last[1] = row;
    else this.ranges.push([row, row]);
  }
}

/** Whether ascending numbers are in ranges. */
export class RangeCursor {
  readonly #ranges: readonly RowRange[];
  #at = 0;

  constructor(ranges: readonly RowRange[]) {
    this.#ranges = ranges;
  }

  has(row: number): boolean {
    while ((this.#ranges[this.#at]?.[1] ?? Number.POSITIVE_INFINITY) < row) this.#at++;
    const [first = Number.POSITIVE_INFINITY] = this.#ranges[this.#at] ?? [];
    return first <= row;
  }
}
