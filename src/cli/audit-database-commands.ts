// The commands of a log's rows in PostgreSQL: `hpcc audit sink` and `hpcc audit database`.
import { type Command, Option } from "commander";
import type { DatabaseNames } from "../audit/sink/database-target.ts";
import { HpccError } from "../base/errors.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { createJsonLogger } from "../base/system/json-logger.ts";
import { keepAlive } from "../base/system/keep-alive.ts";
import type { GrantFlags, Sunk } from "./audit-database.ts";
import { json, type Output } from "./output.ts";

export interface DatabaseFlags {
  readonly database?: string;
  readonly databaseFile?: string;
}

export function addDatabaseOptions(command: Command): Command {
  return command
    .option("--database <url>", "the PostgreSQL database: postgresql://user@host/name, without a password")
    .option("--database-file <file>", "a file of yours with that URL, in which a password may stand");
}

export function databaseNames({ database, databaseFile }: DatabaseFlags): DatabaseNames {
  return { url: database ?? null, file: databaseFile ?? null };
}

interface SinkFlags extends DatabaseFlags {
  readonly log?: string;
  readonly name?: string;
  readonly key?: string[];
  readonly once?: true;
  readonly again?: true;
  readonly json?: true;
}

export function addDatabase(audit: Command, output: Output): void {
  addSink(audit, output);
  const database = audit.command("database").description("the PostgreSQL database that holds many logs' rows");
  addDatabaseOptions(database.command("migrate").description("make or renew hpcc's tables, as their owner"))
    .option("--json", "print JSON")
    .action(async (flags: DatabaseFlags & { json?: true }) => {
      const { migrateDatabase } = await import("./audit-database.ts");
      const steps = await migrateDatabase(databaseNames(flags));
      const text = steps.length === 0 ? "the tables were the newest\n" : `made: ${steps.join(", ")}\n`;
      output.out(flags.json ? json({ steps }) : text);
    });
  addDatabaseOptions(
    database.command("grant").description("give a role of the database its rights, as the tables' owner"),
  )
    .argument("<role>", "a role that is there")
    .option("--tenant <name>", "it sees this tenant's rows, and no others")
    .option("--auditor", "it sees all rows")
    .option("--sink", "it adds rows and reads none")
    .option("--log <name>", "with --sink: of this log alone")
    .option("--prune", "with --sink: it also removes the rows that retention has removed from the log")
    .action(async (role: string, flags: DatabaseFlags & GrantFlags) => {
      const { grantRole, parseGrant } = await import("./audit-database.ts");
      await grantRole(databaseNames(flags), role, parseGrant(flags));
      output.out(`granted to ${role}\n`);
    });
}

function addSink(audit: Command, output: Output): void {
  addDatabaseOptions(
    audit.command("sink").description("put a log's rows into a PostgreSQL database, and go on as they come"),
  )
    .option("--log <folder>", "the log's folder, or the worker's state folder")
    .option("--name <name>", "what the log is called in the database (default: the name of its first key)")
    .option("--key <key>", "a key of the log that you know, as `hpcc ca log-key` prints it; any number", collect)
    .option("--once", "end when all rows are there that are signed now")
    .option("--again", "begin with the first row, and hold those that are there against the log")
    .addOption(new Option("--json", "with --once: print JSON"))
    .action(async (flags: SinkFlags) => {
      if (flags.log === undefined) throw new HpccError("argument.invalid", "name the log's folder with --log");
      const { sink } = await import("./audit-database.ts");
      const logger = createJsonLogger({
        write: (line) => output.error(line),
        level: "info",
        clock: SYSTEM_CLOCK,
        fields: { program: "audit sink", pid: process.pid },
      });
      using _ = keepAlive();
      // A signal ends the process at once, whatever it does: the database has each batch whole or not at all.
      const { signal } = new AbortController();
      const { name = null, key: keys = [], once = false, again = false } = flags;
      const request = { database: databaseNames(flags), folder: flags.log, name, keys, once, again };
      const sunk = await sink(request, { clock: SYSTEM_CLOCK, logger, signal });
      output.out(flags.json ? json(sunk) : printSunk(sunk));
    });
}

function printSunk({ log, added, removed, pruned, rows }: Sunk): string {
  const gone = removed === 0 ? "" : `; ${removed} rows had been removed from the log`;
  const here = pruned === 0 ? "" : `; ${pruned} rows were removed from the database as well`;
  return `${added} rows added; ${log} is there up to row ${rows}${gone}${here}\n`;
}

function collect(value: string, values: string[] = []): string[] {
  return [...values, value];
}
