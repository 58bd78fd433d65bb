// `hpcc config show`: each value and where it came from.
import { describeOrigin, type Loaded, type Schema } from "../config/load.ts";
import { displayValue } from "../config/value.ts";
import { printable, table } from "./output.ts";

export interface ShownValue {
  readonly key: string;
  readonly value: unknown;
  readonly source: string;
  readonly where: string;
}

/** Every value of a loaded configuration, by key. */
export function shownValues(loaded: Loaded<Schema>): ShownValue[] {
  return Object.entries(loaded.values).map(([key, value]) => {
    const origin = loaded.origins[key] ?? { source: "default", where: "" };
    return { key, value, source: origin.source, where: describeOrigin(origin) };
  });
}

export function printConfig(values: readonly ShownValue[]): string {
  return table(values.map(({ key, value, where }) => [key, printable(displayValue(value)), printable(where)]));
}
