// One connection to PostgreSQL, whose failures are of hpcc's closed list: the database is away, or it refuses. UNTRUSTED: the server.
import { type Client, DatabaseError, type QueryResult, type QueryResultRow } from "pg";
import { HpccError } from "../../base/errors.ts";
import type { DatabaseTarget } from "./database-target.ts";

/** SQLSTATE classes and codes after which the same may succeed later: the server is away, ends, is full, or gave way to another. */
const PASSING = /^(08|53|57P0|57014|58|40|55P03|25006|XX000)/;
/** The server will have none of it, whoever asks how often. */
const CLOSING_MS = 2000;

export class Database implements AsyncDisposable {
  readonly #client: Client;
  /** Without user and password. */
  readonly name: string;

  private constructor(client: Client) {
    this.#client = client;
    this.name = nameOf(client);
  }

  static async open(target: DatabaseTarget): Promise<Database> {
    const client = await target();
    // What breaks between two questions is told by the next one.
    client.on("error", () => {});
    const database = new Database(client);
    try {
      await client.connect();
    } catch (error) {
      await database[Symbol.asyncDispose]();
      throw database.#failure(error);
    }
    return database;
  }

  async rows<R extends QueryResultRow>(sql: string, values: readonly unknown[] = []): Promise<R[]> {
    return (await this.#ask<R>(sql, values)).rows;
  }

  /** How many rows a statement touched. */
  async run(sql: string, values: readonly unknown[] = []): Promise<number> {
    return (await this.#ask(sql, values)).rowCount ?? 0;
  }

  /** All of it or nothing. Where the connection breaks at the end nobody knows which: ask the database. */
  async transaction<T>(work: () => Promise<T>): Promise<T> {
    await this.run("BEGIN");
    try {
      const result = await work();
      await this.run("COMMIT");
      return result;
    } catch (error) {
      await this.run("ROLLBACK").catch(() => {});
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = this.#client.end().catch(() => {});
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, CLOSING_MS);
    await Promise.race([ended, late]);
    clearTimeout(timer);
  }

  async #ask<R extends QueryResultRow>(sql: string, values: readonly unknown[]): Promise<QueryResult<R>> {
    try {
      // Without values, several statements may stand in one text.
      return await (values.length === 0 ? this.#client.query<R>(sql) : this.#client.query<R>(sql, [...values]));
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): HpccError {
    const said = error instanceof Error ? error.message : String(error);
    const state = error instanceof DatabaseError ? error.code : undefined;
    const passing = state === undefined || PASSING.test(state);
    const code = passing ? "database.unavailable" : "database.refused";
    const what = passing ? "does not answer" : "refuses";
    const details = state === undefined ? {} : { sqlstate: state };
    return new HpccError(code, `the database ${this.name} ${what}: ${said || errnoOf(error)}`, { details });
  }
}

function nameOf({ host, port, database }: Client): string {
  const at = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  return `${database ?? ""} at ${at}`;
}

/** Several addresses were tried: an error without words of its own. */
function errnoOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? "it cannot be reached";
}
