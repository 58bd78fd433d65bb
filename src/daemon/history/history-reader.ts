// Reads the history, for commands: also while no daemon runs, and while one writes. Things that calls share are read once and are the same
// object each time. UNTRUSTED: the database's file; what does not decode is `store.corrupt`.
import { type ByteString, byteStringOf } from "../../base/byte-string.ts";
import { isDigest } from "../../core/digest/digest.ts";
import {
  type CallHistory,
  type CallRow,
  RECORDED_OUTCOMES,
  type ReasonCount,
  type RecordedCall,
  type RecordedCompiler,
  type RecordedFile,
  type RecordedOutcome,
} from "../../core/explain/recorded-call.ts";
import { HistoryDatabase, readingFrom } from "./history-database.ts";
import { pathKey } from "./history-writer.ts";
import { damaged, decodeFile, decodeList, digestOfBytes } from "./item-codec.ts";

const EXAMPLES_MAX = 3;
/** Calls of the same source that are looked through for one with the same words. */
const SOURCE_CALLS_MAX = 50;

type Row = Readonly<Record<string, unknown>>;

/** Opens the history of a state folder; null when there is none. */
export function openHistory(stateFolder: string): CallHistory | null {
  const database = HistoryDatabase.forReading(stateFolder);
  return database === null ? null : new HistoryReader(database);
}

class HistoryReader implements CallHistory {
  readonly #database: HistoryDatabase;
  readonly #items = new Map<number, Uint8Array>();
  readonly #paths = new Map<number, ByteString>();
  readonly #files = new Map<number, RecordedFile>();
  readonly #lists = new Map<number, readonly number[]>();
  readonly #fileLists = new Map<number, readonly RecordedFile[]>();
  readonly #compilers = new Map<number, RecordedCompiler>();

  constructor(database: HistoryDatabase) {
    this.#database = database;
  }

  callsOf(path: ByteString, callsMax: number): readonly RecordedCall[] {
    const key = pathKey(path);
    return this.#calls(
      `SELECT * FROM call WHERE id IN (
        SELECT id FROM (SELECT id FROM call WHERE output_key = ? ORDER BY id DESC LIMIT ?)
        UNION SELECT id FROM (SELECT id FROM call WHERE source_key = ? ORDER BY id DESC LIMIT ?)
      ) ORDER BY started_ms DESC, id DESC LIMIT ?`,
      [key, callsMax, key, callsMax, callsMax],
    );
  }

  callBefore(call: RecordedCall): RecordedCall | null {
    if (call.output !== null) {
      const sql = "SELECT * FROM call WHERE output_key = ? AND id < ? ORDER BY id DESC LIMIT 1";
      const [before] = this.#calls(sql, [pathKey(call.output), call.id]);
      if (before !== undefined) return before;
    }
    if (call.source === null) return null;
    const words = call.words.join("\0");
    return (
      this.#calls("SELECT * FROM call WHERE source_key = ? AND id < ? ORDER BY id DESC LIMIT ?", [
        pathKey(call.source),
        call.id,
        SOURCE_CALLS_MAX,
      ]).find((other) => other.words.join("\0") === words) ?? null
    );
  }

  keptBefore(call: RecordedCall): RecordedCall | null {
    const sql = `SELECT * FROM call WHERE content_key = (SELECT content_key FROM call WHERE id = ?) AND id < ? AND kept = 1
      ORDER BY id DESC LIMIT 1`;
    return this.#calls(sql, [call.id, call.id])[0] ?? null;
  }

  call(id: number): RecordedCall | null {
    return this.#calls("SELECT * FROM call WHERE id = ?", [id])[0] ?? null;
  }

  newest(project: ByteString | null, rowsMax: number): readonly CallRow[] {
    const rows = this.#rows(
      `SELECT id, outcome, hex(output_key) AS output_key, started_ms, duration_ms FROM call
        WHERE ?1 IS NULL OR project_key = ?1 ORDER BY started_ms DESC, id DESC LIMIT ?2`,
      [projectKey(project), rowsMax],
    );
    return rows.map((row) => ({
      id: number(row, "id"),
      outcome: outcomeOf(row),
      outputKey: text(row, "output_key") || null,
      startedMs: number(row, "started_ms"),
      durationMs: number(row, "duration_ms"),
    }));
  }

  outcomes(project: ByteString | null): ReadonlyMap<RecordedOutcome, number> {
    const sql = "SELECT outcome, sum(calls) AS calls FROM call WHERE ?1 IS NULL OR project_key = ?1 GROUP BY outcome";
    return new Map(this.#rows(sql, [projectKey(project)]).map((row) => [outcomeOf(row), number(row, "calls")]));
  }

  reasons(project: ByteString | null, sinceMs: number): readonly ReasonCount[] {
    const where = "started_ms >= ?2 AND (?1 IS NULL OR project_key = ?1)";
    const rows = this.#rows(
      `SELECT reason, count(*) AS calls FROM call WHERE reason IS NOT NULL AND ${where} GROUP BY reason ORDER BY calls DESC, reason`,
      [projectKey(project), sinceMs],
    );
    return rows.map((row) => {
      const examples = this.#rows(
        `SELECT max(id) AS id, source, detail FROM call WHERE reason = ?3 AND ${where} GROUP BY source, detail ORDER BY id DESC LIMIT ${EXAMPLES_MAX}`,
        [projectKey(project), sinceMs, row["reason"]],
      );
      return {
        reason: text(row, "reason"),
        calls: number(row, "calls"),
        examples: examples.map((example) => ({
          source: this.#pathOrNull(example["source"]),
          detail: textOrNull(example["detail"]),
        })),
      };
    });
  }

  oldestMs(): number | null {
    const [row] = this.#rows("SELECT started_ms FROM call ORDER BY id LIMIT 1", []);
    return row === undefined ? null : number(row, "started_ms");
  }

  close(): void {
    this.#database.close();
  }

  #rows(sql: string, values: readonly unknown[]): Row[] {
    return readingFrom(this.#database.path, () => this.#database.prepare(sql).all(...(values as [])) as Row[]);
  }

  #calls(sql: string, values: readonly unknown[]): RecordedCall[] {
    return readingFrom(this.#database.path, () =>
      this.#database.transaction("DEFERRED", () => this.#rows(sql, values).map((row) => this.#callOf(row))),
    );
  }

  #callOf(row: Row): RecordedCall {
    const source = row["source_file"];
    const [inputs, absent] = [number(row, "inputs"), number(row, "absent")];
    const inputsOf = once(() => {
      const files = this.#fileList(inputs);
      return typeof source === "number" ? [this.#file(source), ...files] : files;
    });
    const absentOf = once(() => this.#list(absent).map((item) => this.#path(item)));
    const digest = row["call_digest"];
    return {
      id: number(row, "id"),
      outcome: outcomeOf(row),
      reason: row["reason"] === null ? null : text(row, "reason"),
      detail: textOrNull(row["detail"]),
      project: this.#pathOrNull(row["project"]),
      compiler: row["compiler"] === null ? null : this.#compiler(number(row, "compiler")),
      source: this.#pathOrNull(row["source"]),
      output: this.#pathOrNull(row["output"]),
      cwd: this.#path(number(row, "cwd")),
      words: this.#words(number(row, "words")),
      environment: this.#environment(number(row, "environment")),
      callDigest: digest instanceof Uint8Array ? digestOfBytes(digest) : null,
      // Decoded when they are asked for, which is seldom for most calls of a build.
      get inputs() {
        return inputsOf();
      },
      get absent() {
        return absentOf();
      },
      configuration: this.#fileList(number(row, "configuration")),
      kept: row["kept"] === 1,
      startedMs: number(row, "started_ms"),
      durationMs: number(row, "duration_ms"),
    };
  }

  #compiler(item: number): RecordedCompiler {
    return remembered(this.#compilers, item, () => {
      const value = this.#json(item);
      const { identity, image, files } = value;
      if (typeof identity !== "string" || !isDigest(identity)) throw damaged("a compiler");
      if (image !== null && !(typeof image === "string" && isDigest(image))) throw damaged("a compiler");
      if (!Number.isSafeInteger(files)) throw damaged("a compiler");
      return { identity, image, files: this.#fileList(files as number) };
    });
  }

  #words(item: number): readonly ByteString[] {
    const value: unknown = this.#json(item);
    if (!Array.isArray(value) || !value.every((word) => typeof word === "string")) throw damaged("a command line");
    return value as ByteString[];
  }

  #environment(item: number): Readonly<Record<string, ByteString>> {
    const value = this.#json(item);
    if (!Object.values(value).every((text) => typeof text === "string")) throw damaged("an environment");
    return value as Record<string, ByteString>;
  }

  #json(item: number): Readonly<Record<string, unknown>> {
    let value: unknown;
    try {
      value = JSON.parse(Buffer.from(this.#item(item)).toString("utf8"));
    } catch {
      throw damaged("an item");
    }
    if (typeof value !== "object" || value === null) throw damaged("an item");
    return value as Record<string, unknown>;
  }

  #fileList(item: number): readonly RecordedFile[] {
    return remembered(this.#fileLists, item, () => this.#list(item).map((file) => this.#file(file)));
  }

  #file(item: number): RecordedFile {
    return remembered(this.#files, item, () => {
      const { pathItem, digest } = decodeFile(this.#item(item));
      return { path: this.#path(pathItem), digest };
    });
  }

  #list(item: number): readonly number[] {
    return remembered(this.#lists, item, () => decodeList(this.#item(item)));
  }

  #pathOrNull(item: unknown): ByteString | null {
    return typeof item === "number" ? this.#path(item) : null;
  }

  #path(item: number): ByteString {
    return remembered(this.#paths, item, () => byteStringOf(this.#item(item)));
  }

  #item(item: number): Uint8Array {
    return remembered(this.#items, item, () => {
      const bytes = this.#database.prepare("SELECT bytes FROM item WHERE id = ?").get(item)?.["bytes"];
      if (!(bytes instanceof Uint8Array)) throw damaged("an item");
      return bytes;
    });
  }
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

function remembered<T>(known: Map<number, T>, key: number, make: () => T): T {
  const before = known.get(key);
  if (before !== undefined) return before;
  const made = make();
  known.set(key, made);
  return made;
}

function projectKey(project: ByteString | null): Uint8Array | null {
  return project === null ? null : pathKey(project);
}

function number(row: Row, name: string): number {
  const value = row[name];
  if (typeof value !== "number") throw damaged(name);
  return value;
}

function text(row: Row, name: string): string {
  const value = row[name];
  if (typeof value !== "string") throw damaged(name);
  return value;
}

function textOrNull(value: unknown): ByteString | null {
  return value instanceof Uint8Array ? byteStringOf(value) : null;
}

function outcomeOf(row: Row): RecordedOutcome {
  const outcome = RECORDED_OUTCOMES.nameOf(number(row, "outcome"));
  if (outcome === undefined) throw damaged("an outcome");
  return outcome;
}
