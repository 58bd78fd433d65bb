// `hpcc audit sink`, `hpcc audit database` and `hpcc audit search --database`: a log's rows in PostgreSQL.

import { Database } from "../audit/sink/database.ts";
import { type DatabaseNames, type DatabaseTarget, databaseTarget } from "../audit/sink/database-target.ts";
import { type Grant, grant } from "../audit/sink/grants.ts";
import { migrate } from "../audit/sink/schema.ts";
import { searchRows } from "../audit/sink/search-rows.ts";
import { nameOfLog } from "../audit/sink/signed-rows.ts";
import { runSink, type SinkCount } from "../audit/sink/sink.ts";
import { logFolder } from "../audit/verify-folder.ts";
import type { BackoffRule } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { parseVerifier } from "../core/note/signed-note.ts";
import { type Format, formatRow, header, matches, type RowFilter } from "./audit-search.ts";

const CONNECT_MS = 10_000;
/** A batch takes milliseconds; an index over years of rows is made in one statement. */
const STATEMENT_MS = 60_000;
const MIGRATION_MS = 24 * 3_600_000;

function targetOf(names: DatabaseNames, what: string, statementMs = STATEMENT_MS): DatabaseTarget {
  return databaseTarget(names, { connectMs: CONNECT_MS, statementMs, application: `hpcc audit ${what}` });
}

export interface SinkRequest {
  readonly database: DatabaseNames;
  readonly folder: string;
  readonly name: string | null;
  readonly keys: readonly string[];
  readonly once: boolean;
  readonly again: boolean;
}

export interface SinkHost {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly backoff?: BackoffRule;
}

export interface Sunk extends SinkCount {
  readonly log: string;
}

export async function sink(request: SinkRequest, host: SinkHost): Promise<Sunk> {
  const { database, once, again } = request;
  const target = targetOf(database, "sink");
  const folder = await logFolder(request.folder);
  const log = request.name ?? (await nameOfLog(folder));
  const keys = request.keys.map(parseVerifier);
  const count = await runSink({ folder, log, target, keys, once, again, random: Math.random, ...host });
  return { log, ...count };
}

/** Gives the names of the steps that were made. */
export async function migrateDatabase(names: DatabaseNames): Promise<readonly string[]> {
  await using database = await Database.open(targetOf(names, "database migrate", MIGRATION_MS));
  return (await migrate(database)).map(({ name }) => name);
}

export async function grantRole(names: DatabaseNames, role: string, wanted: Grant): Promise<void> {
  await using database = await Database.open(targetOf(names, "database grant"));
  await grant(database, role, wanted);
}

export interface GrantFlags {
  readonly tenant?: string;
  readonly auditor?: true;
  readonly sink?: true;
  readonly log?: string;
  readonly prune?: true;
}

export function parseGrant({ tenant, auditor, sink: isSink, log, prune }: GrantFlags): Grant {
  const named = [tenant, auditor, isSink].filter((value) => value !== undefined).length;
  if (named !== 1 || ((log !== undefined || prune === true) && isSink !== true))
    throw new HpccError(
      "argument.invalid",
      "say one of --tenant NAME, --auditor and --sink, the last perhaps with --log and --prune",
    );
  if (tenant !== undefined) return { to: "tenant", tenant };
  return auditor === true ? { to: "auditor" } : { to: "sink", log: log ?? null, prunes: prune === true };
}

export interface DatabaseSearch {
  readonly filter: RowFilter;
  /** Of this log alone. */
  readonly log: string | null;
  readonly format: Format;
  readonly out: (text: string) => void;
}

/** Prints the rows that fit, as a search in the log's files does; gives how many there were. */
export async function searchDatabase(names: DatabaseNames, options: DatabaseSearch): Promise<number> {
  const { filter, log, format, out } = options;
  await using database = await Database.open(targetOf(names, "search"));
  out(header(format));
  let count = 0;
  for await (const record of searchRows(database, { ...filter, log })) {
    if (!matches(record, filter)) continue;
    count++;
    out(formatRow(record, format));
  }
  return count;
}
