// Reads a tree of TOML tables key by key. What nobody asked for is an unknown key; each error says where it is.
import { nearest } from "./nearest.ts";
import { isTable, type NameForm, type ValueKind } from "./value.ts";

export type TablePath = readonly (string | number)[];
/** Makes the error for what is at a path; "acme.life" and "must be ..." are told apart so that a line can be found. */
export type Complain = (path: TablePath, problem: string) => Error;

const TABLES_MAX = 1_000;

export class TableReader {
  readonly path: TablePath;
  readonly #table: Readonly<Record<string, unknown>>;
  readonly #complain: Complain;
  readonly #asked = new Set<string>();

  constructor(table: Readonly<Record<string, unknown>>, complain: Complain, path: TablePath = []) {
    this.#table = table;
    this.#complain = complain;
    this.path = path;
  }

  /** An error about a key of this table. */
  wrong(key: string, problem: string): Error {
    return this.#complain([...this.path, key], problem);
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#table, key);
  }

  /** Undefined when it is not set. */
  value<T>(key: string, kind: ValueKind<T>): T | undefined {
    this.#asked.add(key);
    if (!this.has(key)) return undefined;
    const parsed = kind.parse(this.#table[key], null);
    if (parsed === undefined) throw this.wrong(key, `must be ${kind.expected}`);
    return parsed;
  }

  required<T>(key: string, kind: ValueKind<T>, why: string): T {
    const value = this.value(key, kind);
    if (value === undefined) throw this.wrong(key, `is required: ${why}`);
    return value;
  }

  /** The table of that name; an empty one when it is not set. */
  table(key: string): TableReader {
    this.#asked.add(key);
    const value = this.has(key) ? this.#table[key] : {};
    if (!isTable(value)) throw this.wrong(key, "must be a table");
    return new TableReader(value, this.#complain, [...this.path, key]);
  }

  /** All tables of this one, by their names. */
  named({ pattern, rule }: NameForm, what: string): [string, TableReader][] {
    const names = Object.keys(this.#table);
    if (names.length > TABLES_MAX)
      throw this.#complain(this.path, `has ${names.length} tables; at most ${TABLES_MAX} are read`);
    return names.map((name) => {
      if (!pattern.test(name)) throw this.wrong(name.slice(0, 80), `is no name of ${what}: ${rule}`);
      return [name, this.table(name)];
    });
  }

  /** An array of tables; empty when it is not set. */
  tables(key: string, max: number): TableReader[] {
    this.#asked.add(key);
    const value = this.has(key) ? this.#table[key] : [];
    if (!Array.isArray(value) || value.length > max || !value.every(isTable))
      throw this.wrong(key, `must be an array of at most ${max} tables`);
    return value.map((item, index) => new TableReader(item, this.#complain, [...this.path, key, index]));
  }

  /** Throws for a key that nobody asked for. Call it when all are read. */
  end(): void {
    for (const key of Object.keys(this.#table))
      if (!this.#asked.has(key)) {
        const near = nearest(key, this.#asked);
        throw this.wrong(key.slice(0, 80), `is no known key${near === null ? "" : `; did you mean ${near}?`}`);
      }
  }
}
