// Kinds of configuration values: how each is read from TOML, from an environment variable or flag, and shown.
import { isAbsolute, resolve } from "node:path";
import { HpccError } from "../base/errors.ts";
import { formatHostPort, type HostPort } from "../core/identity/host-port.ts";

/** How one kind of value is read. `fail` throws an error that names the key and its source. */
export interface ValueKind<T> {
  /** What is expected, for the error: "a whole number from 1 to 10". */
  readonly expected: string;
  /** Reads a TOML value; undefined when it does not fit. `folder` is that of the file, null without one. */
  parse(value: unknown, folder: string | null): T | undefined;
  /** Which part of a value does not fit and why, where that says more than what is expected. */
  complaint?(value: unknown): Complaint | null;
  /** Reads the text of a variable or flag into what `parse` takes. */
  fromText(text: string): unknown;
}

/** `at` is appended to the key's name (".acme.life"), `problem` goes on from there ("must be ..."). */
export interface Complaint {
  readonly at: string;
  readonly problem: string;
}

const asIs = (text: string): unknown => text;

export function integer(min: number, max: number): ValueKind<number> {
  return {
    expected: `a whole number from ${min} to ${max}`,
    parse: (value) =>
      Number.isSafeInteger(value) && within(value as number, min, max) ? (value as number) : undefined,
    fromText: (text) => (/^-?[0-9]+$/.test(text) ? Number(text) : text),
  };
}

function within(value: number, min: number, max: number): boolean {
  return value >= min && value <= max;
}

const UNIT_BYTES: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  K: 1024,
  KB: 1e3,
  KIB: 1024,
  M: 1024 ** 2,
  MB: 1e6,
  MIB: 1024 ** 2,
  G: 1024 ** 3,
  GB: 1e9,
  GIB: 1024 ** 3,
  T: 1024 ** 4,
  TB: 1e12,
  TIB: 1024 ** 4,
};

/** A size in bytes; as text with a unit too, "5GiB" or "1.5 GB". */
export function byteSize(min: number, max: number): ValueKind<number> {
  const bytes = integer(min, max);
  return {
    expected: `a size from ${min} to ${max} bytes, such as "5GiB"`,
    parse: (value, folder) => bytes.parse(typeof value === "string" ? bytesOfText(value) : value, folder),
    fromText: asIs,
  };
}

/** Null for what is no size. */
export function bytesOfText(text: string): number | null {
  const [, amount = "", unit = ""] = /^([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]{0,3})$/.exec(text.trim()) ?? [];
  const unitBytes = Object.hasOwn(UNIT_BYTES, unit.toUpperCase()) ? UNIT_BYTES[unit.toUpperCase()] : undefined;
  return amount === "" || unitBytes === undefined ? null : Math.round(Number(amount) * unitBytes);
}

export const BOOLEAN: ValueKind<boolean> = {
  expected: "true or false",
  parse: (value) => (typeof value === "boolean" ? value : undefined),
  fromText: (text) => (text === "true" || text === "1" ? true : text === "false" || text === "0" ? false : text),
};

/** One of a closed list of words. */
export function oneOf<const T extends string>(words: readonly T[]): ValueKind<T> {
  return {
    expected: words.map((word) => JSON.stringify(word)).join(", "),
    parse: (value) => words.find((word) => word === value),
    fromText: asIs,
  };
}

/** Text that a parser of the core turns into a value; what the parser says becomes the error's end. */
export function text<T>(expected: string, parser: (text: string) => T): ValueKind<T> {
  return {
    expected,
    parse(value) {
      if (typeof value !== "string") return undefined;
      try {
        return parser(value);
      } catch (error) {
        if (error instanceof HpccError) return undefined;
        throw error;
      }
    },
    fromText: asIs,
  };
}

/** A path; a relative one is relative to the file that names it. */
export const PATH: ValueKind<string> = {
  expected: "a path (absolute, or relative to the file that names it)",
  parse(value, folder) {
    if (typeof value !== "string" || value === "" || value.includes("\0")) return undefined;
    if (isAbsolute(value)) return value;
    return folder === null ? undefined : resolve(folder, value);
  },
  fromText: asIs,
};

const LIST_LENGTH_MAX = 1000;

/** A list; as text, separated by commas. */
export function listOf<T>(kind: ValueKind<T>): ValueKind<readonly T[]> {
  return {
    expected: `a list, each ${kind.expected}`,
    parse(value, folder) {
      if (!Array.isArray(value) || value.length > LIST_LENGTH_MAX) return undefined;
      const items = value.map((item) => kind.parse(item, folder));
      return items.includes(undefined) ? undefined : (items as T[]);
    },
    fromText: (text) => (text.trim() === "" ? [] : text.split(",").map((item) => kind.fromText(item.trim()))),
  };
}

/** What a name may be, and the same in words. */
export interface NameForm {
  readonly pattern: RegExp;
  readonly rule: string;
}

/** A table from names to values; as text, "name=value" separated by commas. */
export function tableOf<T>({ pattern, rule }: NameForm, kind: ValueKind<T>): ValueKind<ReadonlyMap<string, T>> {
  return {
    expected: `a table from names (${rule}) to values, each ${kind.expected}; as a variable, "name=value,name=value"`,
    parse(value, folder) {
      if (!isTable(value)) return undefined;
      const result = new Map<string, T>();
      for (const [name, item] of Object.entries(value)) {
        const parsed = kind.parse(item, folder);
        if (!pattern.test(name) || parsed === undefined || result.size >= LIST_LENGTH_MAX) return undefined;
        result.set(name, parsed);
      }
      return result;
    },
    complaint(value) {
      if (!isTable(value)) return null;
      for (const [name, item] of Object.entries(value)) {
        if (!pattern.test(name)) return { at: `.${name}`, problem: `is no name (${rule})` };
        const inner = kind.complaint?.(item);
        if (inner) return { at: `.${name}${inner.at}`, problem: inner.problem };
      }
      return null;
    },
    fromText(text) {
      if (text.trim() === "") return {};
      const pairs = text.split(",").map((pair) => pair.split("="));
      if (pairs.some((pair) => pair.length !== 2)) return text;
      return Object.fromEntries(pairs.map(([name, item]) => [name!.trim(), kind.fromText(item!.trim())]));
    },
  };
}

export function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** A kind that also knows "not set". */
export function optional<T>(kind: ValueKind<T>): ValueKind<T | null> {
  return kind;
}

function isHostPort(value: unknown): value is HostPort {
  return isTable(value) && typeof value["host"] === "string" && typeof value["port"] === "number";
}

/** How a value is shown by `hpcc config show`. */
export function displayValue(value: unknown): string {
  if (value === null) return "(not set)";
  if (value instanceof Map)
    return value.size === 0 ? "{}" : `{ ${[...value].map(([k, v]) => `${k} = ${displayValue(v)}`).join(", ")} }`;
  if (value instanceof Set) return displayValue([...value]);
  if (Array.isArray(value)) return `[${value.map(displayValue).join(", ")}]`;
  if (isHostPort(value)) return JSON.stringify(formatHostPort(value));
  return JSON.stringify(value);
}
