// Who may do what with the rows in PostgreSQL. A role gets its rights by policies that name it: whom a policy is for follows from
// the role and its memberships, which no setting of a session changes.
import { createHash } from "node:crypto";
import { escapeIdentifier, escapeLiteral, type QueryResultRow } from "pg";
import { HpccError } from "../../base/errors.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import { PRUNED_KINDS } from "../prune/plan.ts";
import type { Database } from "./database.ts";
import { checkSchema } from "./schema.ts";

/** What a role is for. */
export type Grant =
  /** Adds rows and reads none, of one log or of any; may also remove those that retention has removed from the log. */
  | { readonly to: "sink"; readonly log: string | null; readonly prunes: boolean }
  /** Reads all rows. */
  | { readonly to: "auditor" }
  /** Reads the rows of one tenant. */
  | { readonly to: "tenant"; readonly tenant: string };

const ALL = "hpcc_audit.record";
const LOGS = "hpcc_audit.log";
const REMOVALS = "hpcc_audit.removal";

/** Gives a role that is there what it may do; run by the owner of the tables. */
export async function grant(database: Database, role: string, wanted: Grant): Promise<void> {
  if (wanted.to === "tenant") parseTenantId(wanted.tenant);
  await database.transaction(async () => {
    await checkSchema(database);
    await checkRole(database, role, wanted);
    const name = escapeIdentifier(role);
    await database.run(`GRANT USAGE ON SCHEMA hpcc_audit TO ${name}`);
    await database.run(`GRANT SELECT ON hpcc_audit.migration TO ${name}`);
    for (const right of rightsOf(wanted)) await database.run(`GRANT ${right} TO ${name}`);
    for (const policy of policiesOf(wanted)) await makePolicy(database, role, policy);
  });
}

interface Policy {
  readonly table: string;
  readonly command: "SELECT" | "INSERT" | "UPDATE" | "DELETE";
  /** Which rows; "true" for all. */
  readonly rows: string;
  readonly kind: Grant["to"];
}

function rightsOf(wanted: Grant): string[] {
  switch (wanted.to) {
    case "sink":
      return [
        // It holds the hash of a row that is there against its own.
        `INSERT, SELECT (log, sequence, leaf) ON ${ALL}`,
        `SELECT, INSERT, UPDATE ON ${LOGS}`,
        `SELECT, INSERT, UPDATE (note) ON ${REMOVALS}`,
        ...(wanted.prunes ? [`DELETE ON ${ALL}`] : []),
      ];
    case "auditor":
      return [ALL, LOGS, REMOVALS].map((table) => `SELECT ON ${table}`);
    case "tenant":
      return [ALL, REMOVALS].map((table) => `SELECT ON ${table}`);
  }
}

/** A row goes where a removal that stays covers it, and if it is of a kind that retention removes: whoever removes leaves a trace. */
const COVERED = `kind IN (${[...PRUNED_KINDS].map((kind) => escapeLiteral(kind)).join(", ")}) AND EXISTS (
  SELECT FROM ${REMOVALS} r WHERE r.log = record.log AND r.tenant = record.tenant
    AND record.sequence BETWEEN r.first AND r.last)`;

function policiesOf(wanted: Grant): Policy[] {
  const kind = wanted.to;
  switch (wanted.to) {
    case "sink": {
      const of = (column: string) => (wanted.log === null ? "true" : `${column} = ${escapeLiteral(wanted.log)}`);
      const on = (table: string, column: string) => (command: Policy["command"]) => ({
        table,
        command,
        rows: of(column),
        kind,
      });
      return [
        ...(["INSERT", "SELECT"] as const).map(on(ALL, "log")),
        ...(["INSERT", "SELECT", "UPDATE"] as const).map(on(LOGS, "name")),
        ...(["INSERT", "SELECT", "UPDATE"] as const).map(on(REMOVALS, "log")),
        ...(wanted.prunes
          ? [{ table: ALL, command: "DELETE", rows: `${of("log")} AND ${COVERED}`, kind } as const]
          : []),
      ];
    }
    case "auditor":
      return [ALL, LOGS, REMOVALS].map((table) => ({ table, command: "SELECT", rows: "true", kind }));
    case "tenant":
      return [ALL, REMOVALS].map((table) => ({
        table,
        command: "SELECT",
        rows: `tenant = ${escapeLiteral(wanted.tenant)}`,
        kind,
      }));
  }
}

async function makePolicy(database: Database, role: string, { table, command, rows, kind }: Policy): Promise<void> {
  const id = createHash("sha256")
    .update(JSON.stringify([role, command, rows]))
    .digest("hex")
    .slice(0, 24);
  const name = escapeIdentifier(`${kind} ${id}`);
  const which = command === "INSERT" ? `WITH CHECK (${rows})` : `USING (${rows})`;
  await database.run(`DROP POLICY IF EXISTS ${name} ON ${table}`);
  await database.run(`CREATE POLICY ${name} ON ${table} FOR ${command} TO ${escapeIdentifier(role)} ${which}`);
}

interface RoleFacts {
  /** It passes over row security, or can make itself a member of any role. */
  readonly mighty: boolean;
  readonly owner: boolean;
  /** Kinds of the grants that it has, through others as well. */
  readonly kinds: readonly string[];
}

const FACTS = `
SELECT r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR EXISTS (
    SELECT FROM pg_roles o WHERE (o.rolsuper OR o.rolbypassrls OR o.rolcreaterole) AND pg_has_role(r.oid, o.oid, 'MEMBER')
  ) AS mighty,
  EXISTS (
    SELECT FROM pg_class c WHERE c.relnamespace = 'hpcc_audit'::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER')
  ) AS owner,
  ARRAY(
    SELECT DISTINCT split_part(p.polname, ' ', 1) FROM pg_policy p, unnest(p.polroles) AS o
    WHERE p.polrelid IN ('hpcc_audit.record'::regclass, 'hpcc_audit.log'::regclass, 'hpcc_audit.removal'::regclass)
      AND (o = 0 OR pg_has_role(r.oid, o, 'MEMBER'))
  ) AS kinds
FROM pg_roles r WHERE r.rolname = $1`;

/** Throws `database.refused` for a role that would see or do more than is granted. */
async function checkRole(database: Database, role: string, wanted: Grant): Promise<void> {
  const [facts] = await database.rows<RoleFacts & QueryResultRow>(FACTS, [role]);
  const refuse = (problem: string, hint: string) => {
    throw new HpccError("database.refused", `the role ${role} ${problem}`, { hint });
  };
  const another = "Make a role for this alone, with CREATE ROLE ... LOGIN and nothing else.";
  if (facts === undefined) return refuse("does not exist", "Make it first, with CREATE ROLE ... LOGIN.");
  if (facts.mighty) refuse("is a superuser, or has or can get BYPASSRLS or CREATEROLE", another);
  if (facts.owner) refuse("owns the tables, or is a member of the role that does", another);
  const others = facts.kinds.filter((kind) => kind !== wanted.to);
  if (others.length > 0) refuse(`has the rights of a ${others.join(" and a ")} already`, another);
}
