// Numbers of command lines.
import { InvalidArgumentError } from "commander";

/** A whole number of up to four digits. */
export function parseCount(text: string): number {
  if (!/^[0-9]{1,4}$/.test(text)) throw new InvalidArgumentError("it must be a whole number.");
  return Number(text);
}
