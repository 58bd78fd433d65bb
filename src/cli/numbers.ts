// Numbers of command lines.
import { InvalidArgumentError } from "commander";
import { HpccError } from "../base/errors.ts";

const COUNT_MAX = 9_999;

export function parseCount(text: string): number {
  const count = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN;
  if (!(count <= COUNT_MAX)) throw new InvalidArgumentError(`it must be a whole number from 0 to ${COUNT_MAX}.`);
  return count;
}

const UNIT_MS: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
};
const AGE_MAX = 999_999;

/** Milliseconds of `--older-than`: "36h", "7d". */
export function parseAge(text: string): number {
  const [, amount = "", unit = ""] = /^([0-9]+)([smhdw])$/.exec(text) ?? [];
  const unitMs = UNIT_MS[unit];
  if (unitMs === undefined)
    throw new HpccError("argument.invalid", `--older-than wants a number and s, m, h, d or w, such as 7d, not ${text}`);
  if (!(Number(amount) <= AGE_MAX))
    throw new HpccError("argument.invalid", `--older-than ${text} is too much; the number may be ${AGE_MAX} at most`);
  return Number(amount) * unitMs;
}
