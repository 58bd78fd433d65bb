// Fields of envelopes: for each kind of value one text, so that an envelope has one encoding. Pure.
import { isTime } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { type Digest, isDigest } from "../../core/digest/digest.ts";
import { type BuildId, isBuildId } from "../../core/identity/build-id.ts";

export interface Field<T> {
  /** What JSON holds for a value. */
  write(value: T): unknown;
  /** The value of what JSON held; undefined for anything that `write` does not give. UNTRUSTED: a log, a worker. */
  read(json: unknown): T | undefined;
  /** A null value is left out. */
  readonly optional?: true;
}

/** The fields of a record, by their names in the program; in JSON they are written with underscores, in this order. */
export type Shape = Readonly<Record<string, Field<unknown>>>;

export type Values<S extends Shape> = {
  readonly [K in keyof S]: S[K] extends { read(json: unknown): infer T | undefined } ? T : never;
};

const TEXT_LENGTH_MAX = 4096;
const TEXTS_MAX = 256;
const LIST_MAX = 256;
/** Never digits alone, which JSON objects would put first. */
const TEXT_NAME = /^[a-z][A-Za-z0-9_.-]{0,63}$/;

function same<T>(read: (json: unknown) => T | undefined): Field<T> {
  return { write: (value) => value, read };
}

export const text: Field<string> = same((json) =>
  typeof json === "string" && json.length <= TEXT_LENGTH_MAX ? json : undefined,
);

export const count: Field<number> = same((json) =>
  Number.isSafeInteger(json) && (json as number) >= 0 ? (json as number) : undefined,
);

export const flag: Field<boolean> = same((json) => (typeof json === "boolean" ? json : undefined));

export const digest: Field<Digest> = same((json) => (typeof json === "string" && isDigest(json) ? json : undefined));

export const buildId: Field<BuildId> = same((json) => (typeof json === "string" && isBuildId(json) ? json : undefined));

/** Milliseconds since 1970 in the program, ISO 8601 in UTC in the log. */
export const time: Field<number> = {
  write(ms) {
    if (!isTime(ms)) throw new HpccError("argument.invalid", `${ms} ms since 1970 is no time that a row can hold`);
    return new Date(ms).toISOString();
  },
  read: (json) => {
    const ms = typeof json === "string" ? Date.parse(json) : Number.NaN;
    return Number.isFinite(ms) ? ms : undefined;
  },
};

export function oneOf<const T extends string>(values: readonly T[]): Field<T> {
  return same((json) => values.find((value) => value === json));
}

/** Texts by name, sorted by name. */
export const texts: Field<Readonly<Record<string, string>>> = {
  write: (value) => Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))),
  read: (json) => {
    if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined;
    const entries = Object.entries(json);
    const good = entries.length <= TEXTS_MAX && entries.every(([name, value]) => isNamedText(name, value));
    return good ? (Object.fromEntries(entries) as Record<string, string>) : undefined;
  },
};

function isNamedText(name: string, value: unknown): boolean {
  return TEXT_NAME.test(name) && text.read(value) !== undefined;
}

export function list<T>(element: Field<T>): Field<readonly T[]> {
  return {
    write: (values) => values.map((value) => element.write(value)),
    read: (json) => {
      if (!Array.isArray(json) || json.length > LIST_MAX) return undefined;
      const values = json.map((value) => element.read(value));
      return values.includes(undefined) ? undefined : (values as T[]);
    },
  };
}

export function object<S extends Shape>(shape: S): Field<Values<S>> {
  return {
    write: (values) => writeShape(shape, values),
    read: (json) => {
      if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined;
      try {
        return readShape(shape, json as Record<string, unknown>, "an object");
      } catch {
        return undefined;
      }
    },
  };
}

/** May be null, and is left out then. */
export function optional<T>(field: Field<T>): Field<T | null> & { readonly optional: true } {
  return {
    write: (value) => (value === null ? null : field.write(value)),
    read: (json) => field.read(json),
    optional: true,
  };
}

interface NamedField {
  readonly name: string;
  /** As JSON has it. */
  readonly key: string;
  readonly field: Field<unknown>;
}

const namedFields = new WeakMap<Shape, readonly NamedField[]>();

/** A shape's fields; worked out once, as each record of a log asks for them. */
function fieldsOf(shape: Shape): readonly NamedField[] {
  const known = namedFields.get(shape);
  if (known !== undefined) return known;
  const fields = Object.entries(shape).map(([name, field]) => ({ name, key: jsonName(name), field }));
  namedFields.set(shape, fields);
  return fields;
}

/** The fields as JSON has them, in the order of the shape. */
export function writeShape<S extends Shape>(shape: S, values: Values<S>): Record<string, unknown> {
  const json: Record<string, unknown> = {};
  for (const { name, key, field } of fieldsOf(shape)) {
    const value = values[name as keyof S];
    if (value === null && field.optional === true) continue;
    json[key] = field.write(value);
  }
  return json;
}

/** Throws `audit.corrupt` for a field that is missing or is not what the shape says. Others are not looked at. */
export function readShape<S extends Shape>(shape: S, json: Record<string, unknown>, what: string): Values<S> {
  const values: Record<string, unknown> = {};
  for (const { name, key, field } of fieldsOf(shape)) {
    const absent = !Object.hasOwn(json, key);
    const value: unknown = absent && field.optional === true ? null : field.read(json[key]);
    if (value === undefined || (absent && field.optional !== true))
      throw new HpccError("audit.corrupt", `${what} has no valid ${key}`);
    values[name] = value;
  }
  return values as Values<S>;
}

/** `resultDigest` is `result_digest`; `Ms` is the program's alone, since the log has times as text. */
function jsonName(name: string): string {
  return name.replace(/Ms$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
