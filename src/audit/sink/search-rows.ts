// The questions of `hpcc audit search`, asked of PostgreSQL: the rows that fit, log by log and in each in its order, as they come.
import { HpccError } from "../../base/errors.ts";
import { type AuditRecord, decodeRecord } from "../segment.ts";
import type { Database } from "./database.ts";
import { checkSchema } from "./schema.ts";
import { storedText } from "./stored-text.ts";

/** What is wanted; null for anything. */
export interface RowQuestion {
  /** Of the log of this name. */
  readonly log: string | null;
  readonly tenant: string | null;
  readonly principal: string | null;
  readonly kind: string | null;
  readonly build: string | null;
  readonly vm: string | null;
  /** A digest, or the start of its digits; so the next two. */
  readonly image: string | null;
  readonly source: string | null;
  readonly output: string | null;
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

export interface Sql {
  readonly text: string;
  readonly values: readonly unknown[];
}

/** The statement that finds them; null where nothing can fit. Pure. */
export function questionSql(question: RowQuestion): Sql | null {
  const values: unknown[] = [];
  const conditions: string[] = [];
  const add = (condition: (value: string) => string, value: unknown) => {
    values.push(value);
    conditions.push(condition(`$${values.length}`));
  };
  for (const column of ["log", "tenant", "principal", "kind", "build", "vm"] as const)
    if (question[column] !== null) add((value) => `${column} = ${value}`, storedText(question[column]));
  for (const column of ["image", "source", "output"] as const) {
    const start = question[column]?.replace(/^sha256:/, "");
    if (start === undefined) continue;
    if (!/^[0-9a-f]{0,64}$/.test(start)) return null;
    add((value) => `${column} >= decode(${value}, 'hex')`, start.padEnd(64, "0"));
    add((value) => `${column} <= decode(${value}, 'hex')`, start.padEnd(64, "f"));
  }
  const time = (value: string) => `timestamptz 'epoch' + ${value}::bigint * interval '1 millisecond'`;
  if (question.sinceMs !== null) add((value) => `ended >= ${time(value)}`, question.sinceMs);
  if (question.untilMs !== null) add((value) => `ended < ${time(value)}`, question.untilMs);
  const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")} `;
  const columns = "log, sequence, encode(leaf, 'hex') AS leaf, line, envelope";
  return { text: `SELECT ${columns} FROM hpcc_audit.record ${where}ORDER BY log, sequence`, values };
}

interface Found {
  readonly log: string;
  readonly sequence: string;
  readonly leaf: string;
  readonly line: string;
  readonly envelope: string;
}

/** Rows that are held at once. */
const FETCH_ROWS = 200;

/** The rows that the database's role may see and that fit; each is what its hash says, or `audit.corrupt` is thrown. */
export async function* searchRows(database: Database, question: RowQuestion): AsyncGenerator<AuditRecord> {
  await checkSchema(database);
  const sql = questionSql(question);
  if (sql === null) return;
  await database.run("BEGIN READ ONLY");
  try {
    // All rows are wanted, not the first ones soon.
    await database.run("SET LOCAL cursor_tuple_fraction = 1");
    await database.run(`DECLARE found NO SCROLL CURSOR FOR ${sql.text}`, sql.values);
    for (;;) {
      const rows = await database.rows<Found & Record<string, unknown>>(`FETCH ${FETCH_ROWS} FROM found`);
      for (const row of rows) yield recordOf(row, database);
      if (rows.length < FETCH_ROWS) break;
    }
  } finally {
    await database.run("ROLLBACK").catch(() => {});
  }
}

/** UNTRUSTED: a database. */
function recordOf({ log, sequence, leaf, line, envelope }: Found, database: Database): AuditRecord {
  const record = decodeRecord(Buffer.from(`${line}\n${envelope}\n`, "latin1"));
  if (record.leaf !== `sha256:${leaf}` || String(record.envelope.sequence) !== sequence)
    throw new HpccError("audit.corrupt", `row ${sequence} of ${log} was altered in the database ${database.name}`, {
      hint: "Hold the whole of the database against the log: `hpcc audit sink --again --once`.",
    });
  return record;
}
