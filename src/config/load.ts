// Reads configuration: flag > HPCC_* > project > user > system > default, each value with its origin. The only reader
// of configuration files.
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { parse, TomlError } from "smol-toml";
import { HpccError } from "../base/errors.ts";
import { readCheckoutFile } from "./checkout-file.ts";
import type { Environment } from "./directories.ts";
import { nearest } from "./nearest.ts";
import { isTable, type ValueKind } from "./value.ts";

/** One key of a schema. */
export interface Key<T> {
  readonly kind: ValueKind<T>;
  readonly fallback: T;
  /** The variable that sets it, "HPCC_...". */
  readonly variable?: string;
  /** True when a file of a checkout may set it: it tunes, or the program checks it against the user's rules. */
  readonly project?: boolean;
}

/** Keys by their dotted names, "limits.deadline_ms". */
export type Schema = Readonly<Record<string, Key<unknown>>>;

export type Values<S extends Schema> = { readonly [K in keyof S]: S[K] extends Key<infer T> ? T : never };

/** Where a value came from. */
export interface Origin {
  readonly source: "flag" | "environment" | "project" | "user" | "system" | "default";
  /** Flag, variable or file; empty for a default. */
  readonly where: string;
}

export interface Loaded<S extends Schema> {
  readonly values: Values<S>;
  readonly origins: { readonly [K in keyof S]: Origin };
}

/** A file that may set values; absent files are no error. */
export interface ConfigFile {
  readonly source: "project" | "user" | "system";
  /** A path or, when it need not be UTF-8, its bytes. */
  readonly path: string | Buffer;
  /** True when its absence is an error (a file named by the caller). */
  readonly required?: boolean;
}

export interface Sources {
  /** Values of flags by key; they win. */
  readonly flags?: Readonly<Record<string, string>>;
  readonly env: Environment;
  /** Strongest first. */
  readonly files: readonly ConfigFile[];
}

const FILE_SIZE_BYTES_MAX = 1024 * 1024;

interface Layer {
  readonly origin: (key: string) => Origin;
  readonly folder: string | null;
  readonly values: ReadonlyMap<string, unknown>;
}

/** Reads all values of a schema. */
export function loadConfig<const S extends Schema>(schema: S, sources: Sources): Loaded<S> {
  const layers = [flagLayer(schema, sources.flags ?? {}), environmentLayer(schema, sources.env)];
  for (const file of sources.files) {
    const layer = fileLayer(schema, file);
    if (layer) layers.push(layer);
  }
  const values: Record<string, unknown> = {};
  const origins: Record<string, Origin> = {};
  for (const [name, key] of Object.entries(schema)) {
    // Every layer is checked, also where a stronger one wins: an error that hides until then would be found too late.
    const found = layers.flatMap((layer) => read(name, key, layer));
    values[name] = found[0]?.value ?? key.fallback;
    origins[name] = found[0]?.origin ?? { source: "default", where: "" };
  }
  return { values: values as Values<S>, origins: origins as Loaded<S>["origins"] };
}

function read(name: string, key: Key<unknown>, layer: Layer): { value: unknown; origin: Origin }[] {
  if (!layer.values.has(name)) return [];
  const origin = layer.origin(name);
  const value = key.kind.parse(layer.values.get(name), layer.folder);
  if (value === undefined) {
    const said = key.kind.complaint?.(layer.values.get(name));
    const { at, problem } = said ?? { at: "", problem: `must be ${key.kind.expected}` };
    throw new HpccError("config.invalid", `${describeOrigin(origin)}: ${(name + at).slice(0, 80)} ${problem}`);
  }
  return [{ value, origin }];
}

/** For people: "flag --x", "HPCC_X", or the file's path. */
export function describeOrigin(origin: Origin): string {
  return origin.source === "default" ? "default" : origin.where;
}

function flagLayer(schema: Schema, flags: Readonly<Record<string, string>>): Layer {
  const values = new Map<string, unknown>();
  for (const [name, text] of Object.entries(flags)) {
    const key = schema[name];
    if (!key) throw unknownKey("--set", name, Object.keys(schema));
    values.set(name, key.kind.fromText(text));
  }
  return { origin: (name) => ({ source: "flag", where: `--set ${name}` }), folder: process.cwd(), values };
}

function environmentLayer(schema: Schema, env: Environment): Layer {
  const values = new Map<string, unknown>();
  for (const [name, { variable, kind }] of Object.entries(schema)) {
    const text = variable === undefined ? undefined : env[variable];
    if (text !== undefined && text !== "") values.set(name, kind.fromText(text));
  }
  return { origin: (name) => ({ source: "environment", where: schema[name]?.variable ?? "" }), folder: null, values };
}

function fileLayer(schema: Schema, file: ConfigFile): Layer | null {
  const shown = Buffer.from(file.path as string).toString("utf8");
  const content = readText(file, shown);
  if (content === null) return null;
  const values = new Map<string, unknown>();
  flatten(schema, parseToml(content, shown), "", shown, values);
  if (file.source === "project")
    for (const name of values.keys())
      if (!schema[name]?.project)
        throw new HpccError(
          "config.invalid",
          `${shown}: a project's file may not set ${name}; set it in the user's configuration`,
        );
  return { origin: () => ({ source: file.source, where: shown }), folder: dirname(shown), values };
}

function readText(file: ConfigFile, shown: string): string | null {
  try {
    const bytes = file.source === "project" ? readCheckoutFile(file.path) : readFileSync(file.path);
    if (bytes.length > FILE_SIZE_BYTES_MAX)
      throw new HpccError("config.invalid", `${shown} is larger than ${FILE_SIZE_BYTES_MAX} bytes`);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    if (error instanceof HpccError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if ((code === "ENOENT" || code === "ENOTDIR") && !file.required) return null;
    throw new HpccError("config.invalid", `cannot read ${shown}: ${(error as Error).message}`, { cause: error });
  }
}

/** UNTRUSTED: whoever wrote the checkout, for a project's file. */
export function parseToml(content: string, shown: string): Record<string, unknown> {
  try {
    return parse(content, { maxDepth: 16 });
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const [reason] = error.message.split("\n");
    throw new HpccError("config.invalid", `${shown}:${error.line}:${error.column}: ${reason}`, { cause: error });
  }
}

function flatten(
  schema: Schema,
  table: Readonly<Record<string, unknown>>,
  prefix: string,
  shown: string,
  into: Map<string, unknown>,
): void {
  for (const [word, value] of Object.entries(table)) {
    const name = prefix + word;
    if (Object.hasOwn(schema, name)) into.set(name, value);
    else if (isTable(value) && Object.keys(schema).some((key) => key.startsWith(`${name}.`)))
      flatten(schema, value, `${name}.`, shown, into);
    else throw unknownKey(shown, isTable(value) ? firstLeaf(name, value) : name, Object.keys(schema));
  }
}

/** The name of a table's first value: it finds a misspelled table's right name better than the table's own. */
function firstLeaf(name: string, table: Readonly<Record<string, unknown>>): string {
  const [entry] = Object.entries(table);
  if (!entry) return name;
  const [word, value] = entry;
  return isTable(value) ? firstLeaf(`${name}.${word}`, value) : `${name}.${word}`;
}

function unknownKey(where: string, name: string, known: readonly string[]): HpccError {
  const [table = name] = name.split(".");
  const near = nearest(name, known) ?? nearest(table, known);
  const advice = near === null ? "" : `; did you mean ${near}?`;
  return new HpccError("config.invalid", `${where}: unknown key ${name.slice(0, 80)}${advice}`);
}
