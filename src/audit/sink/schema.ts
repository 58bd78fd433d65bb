// The tables in PostgreSQL, as numbered steps that are never changed once they were shipped, and how a database gets there.
import { HpccError } from "../../base/errors.ts";
import type { Database } from "./database.ts";

export interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
}

/** Each digest of a row is 32 bytes, so that the start of one is a range whatever its length. */
const TABLES = `
CREATE TABLE hpcc_audit.log (
  -- Name of the log's key when it began.
  name text COLLATE "C" PRIMARY KEY,
  -- How far its rows are here: how many, the leaf hash of the last, what the tree of them needs to grow, and the key then in force.
  rows bigint NOT NULL DEFAULT 0 CHECK (rows >= 0),
  leaf bytea CHECK (octet_length(leaf) = 32),
  nodes bytea NOT NULL DEFAULT '',
  key text,
  CHECK ((leaf IS NULL) = (rows = 0))
);
CREATE TABLE hpcc_audit.record (
  log text COLLATE "C" NOT NULL,
  sequence bigint NOT NULL CHECK (sequence > 0),
  -- Hash of the record as a leaf of its log.
  leaf bytea NOT NULL CHECK (octet_length(leaf) = 32),
  tenant text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  principal text COLLATE "C",
  build text COLLATE "C",
  vm text COLLATE "C",
  image bytea CHECK (octet_length(image) = 32),
  source bytea CHECK (octet_length(source) = 32),
  output bytea CHECK (octet_length(output) = 32),
  ended timestamptz NOT NULL,
  -- The record's two lines, as they are in the log.
  line text NOT NULL,
  envelope text NOT NULL,
  PRIMARY KEY (log, sequence),
  -- Who may see a row does not hang on who wrote it down here.
  CONSTRAINT tenant_is_the_rows CHECK (tenant = split_part(line, E'\\t', 5))
)`;

/**
 * One for each question. Each has the tenant in it, so that what another tenant's rows say decides nothing about which rows are
 * read for a tenant: else EXPLAIN would tell him how many of them fit.
 */
const INDEXES = `
CREATE INDEX record_of_tenant ON hpcc_audit.record (tenant, ended);
CREATE INDEX record_by_time ON hpcc_audit.record (ended, tenant);
CREATE INDEX record_of_kind ON hpcc_audit.record (kind, tenant, ended);
CREATE INDEX record_of_principal ON hpcc_audit.record (principal, tenant);
CREATE INDEX record_of_build ON hpcc_audit.record (build, tenant);
CREATE INDEX record_of_vm ON hpcc_audit.record (vm, tenant);
CREATE INDEX record_with_image ON hpcc_audit.record (image, tenant);
CREATE INDEX record_with_source ON hpcc_audit.record (source, tenant);
CREATE INDEX record_with_output ON hpcc_audit.record (output, tenant)`;

/**
 * Nobody sees or writes a row but by a policy (grants.ts), the tables' owner included. No statistics are kept of what other tenants'
 * rows hold, since EXPLAIN shows to a tenant what the planner makes of them.
 */
const ROW_SECURITY = `
ALTER TABLE hpcc_audit.record ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE hpcc_audit.log ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE hpcc_audit.record
  ALTER COLUMN log SET STATISTICS 0, ALTER COLUMN leaf SET STATISTICS 0, ALTER COLUMN tenant SET STATISTICS 0,
  ALTER COLUMN principal SET STATISTICS 0, ALTER COLUMN build SET STATISTICS 0, ALTER COLUMN vm SET STATISTICS 0,
  ALTER COLUMN image SET STATISTICS 0, ALTER COLUMN source SET STATISTICS 0, ALTER COLUMN output SET STATISTICS 0,
  ALTER COLUMN line SET STATISTICS 0, ALTER COLUMN envelope SET STATISTICS 0`;

/**
 * Removals of rows: what the log's row of kind `prune` says, and the signed stub once the rows are gone from here as well. A row is removed by
 * nobody but where such a removal covers it, and only one of a kind that retention removes.
 */
const REMOVALS = `
CREATE TABLE hpcc_audit.removal (
  log text COLLATE "C" NOT NULL,
  -- Number of the row that says it.
  sequence bigint NOT NULL CHECK (sequence > 0),
  tenant text COLLATE "C" NOT NULL,
  -- Rows that the log had when it was decided; with the tenant, the name of the stub.
  size bigint NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  rows bigint NOT NULL,
  -- Root over the numbers and hashes of the removed rows, and the stub's digest.
  removed bytea NOT NULL CHECK (octet_length(removed) = 32),
  stub bytea NOT NULL CHECK (octet_length(stub) = 32),
  note text,
  PRIMARY KEY (log, sequence)
);
ALTER TABLE hpcc_audit.removal ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY`;

export const MIGRATIONS: readonly Migration[] = [
  { number: 1, name: "tables", sql: TABLES },
  { number: 2, name: "row security", sql: ROW_SECURITY },
  { number: 3, name: "indexes", sql: INDEXES },
  { number: 4, name: "removals", sql: REMOVALS },
];

const BEGINNING = `
CREATE SCHEMA IF NOT EXISTS hpcc_audit;
CREATE TABLE IF NOT EXISTS hpcc_audit.migration (
  number integer PRIMARY KEY,
  name text NOT NULL,
  applied timestamptz NOT NULL DEFAULT now()
)`;

/** Any number that nobody else in the database takes: "hpcc" in ASCII. */
const MIGRATION_LOCK = 0x68706363;

/** Brings the database to the newest form; gives what it lacked. One at a time, and all steps or none. */
export async function migrate(
  database: Database,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<readonly Migration[]> {
  return database.transaction(async () => {
    await database.rows("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
    const [encoding] = await database.rows<{ server_encoding: string }>("SHOW server_encoding");
    if (encoding?.server_encoding !== "UTF8")
      throw new HpccError("database.refused", `the database ${database.name} is not encoded in UTF8`, {
        hint: "Make another one: CREATE DATABASE hpcc TEMPLATE template0 ENCODING 'UTF8'.",
      });
    await database.run(BEGINNING);
    const found = await numberOf(database);
    checkNotNewer(database, found, migrations);
    const missing = migrations.filter(({ number }) => number > found);
    for (const { number, name, sql } of missing) {
      await database.run(sql);
      await database.run("INSERT INTO hpcc_audit.migration (number, name) VALUES ($1, $2)", [number, name]);
    }
    return missing;
  });
}

/** Throws `database.refused` unless the database has the form that this program knows. */
export async function checkSchema(database: Database, migrations: readonly Migration[] = MIGRATIONS): Promise<void> {
  const [known] = await database.rows<{ there: boolean }>(
    "SELECT to_regclass('hpcc_audit.migration') IS NOT NULL AS there",
  );
  const found = known?.there === true ? await numberOf(database) : 0;
  checkNotNewer(database, found, migrations);
  if (found < newest(migrations))
    throw new HpccError("database.refused", `the database ${database.name} lacks tables of hpcc, or has older ones`, {
      hint: "Whoever owns it runs `hpcc audit database migrate`.",
    });
}

async function numberOf(database: Database): Promise<number> {
  const [row] = await database.rows<{ number: number | null }>(
    "SELECT max(number) AS number FROM hpcc_audit.migration",
  );
  return row?.number ?? 0;
}

function newest(migrations: readonly Migration[]): number {
  return migrations.at(-1)!.number;
}

function checkNotNewer(database: Database, found: number, migrations: readonly Migration[]): void {
  if (found <= newest(migrations)) return;
  throw new HpccError(
    "database.refused",
    `the tables in ${database.name} are of form ${found}, and this version of hpcc knows form ${newest(migrations)}`,
    { hint: "Use the version of hpcc that made them, or a newer one." },
  );
}
