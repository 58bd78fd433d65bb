// A worker's audit rows as the tests read them: through `hpcc audit rows`, with the command decoded.
import { decodeEnvelope } from "../../src/audit/envelope.ts";
import { type Command, decodeFlags } from "../../src/audit/flags.ts";
import { type AuditRow, decodeRow } from "../../src/audit/row.ts";
import { type BodyOfKind, JOB_KINDS } from "../../src/audit/rows/bodies.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { HPCC, type RunningWorker, runCommand } from "./farm.ts";
import { readLoose } from "./loose-envelope.ts";

export interface JobRow extends AuditRow {
  readonly digest: string;
  readonly kind: string;
  readonly note: string;
  readonly isolation: string | null;
  /** The envelope's line of JSON. */
  readonly envelope: string;
  /** The command that was run in the VM. */
  readonly command: Command;
}

interface Line {
  readonly row: string;
  readonly digest: string;
  readonly kind: string;
  readonly note: string;
  readonly isolation: string | null;
  readonly envelope: string;
}

async function auditLines({ state }: Pick<RunningWorker, "state">): Promise<Line[]> {
  const result = await runCommand([HPCC, "audit", "rows", "--state", state, "--json"]);
  if (result.code !== 0) throw new Error(`hpcc audit rows: ${result.stderr}`);
  return JSON.parse(result.stdout) as Line[];
}

const isOfJob = (kind: string): boolean => (JOB_KINDS as ReadonlySet<string>).has(kind);

/** The rows of jobs (not of VMs), oldest first. */
export async function jobRows(worker: Pick<RunningWorker, "state">): Promise<JobRow[]> {
  return (await auditLines(worker))
    .filter(({ kind }) => isOfJob(kind))
    .map(({ row, ...line }) => {
      const columns = decodeRow(row);
      if (columns.flags === null) throw new Error(`a job's row without a command: ${row}`);
      return { ...columns, ...line, command: decodeFlags(columns.flags) };
    });
}

/** The rows of the worker's host, one for each start. */
export async function hostRows(worker: Pick<RunningWorker, "state">): Promise<Pick<Line, "note" | "envelope">[]> {
  return (await auditLines(worker)).filter(({ kind }) => kind === "host");
}

/** The rows of second compiles: how each ended. */
export async function confirmRows(
  worker: Pick<RunningWorker, "state">,
): Promise<Pick<Line, "kind" | "note" | "envelope">[]> {
  return (await auditLines(worker)).filter(({ kind }) => kind === "confirm");
}

/** The rows of what was taken back. */
export async function revokeRows(worker: Pick<RunningWorker, "state">): Promise<BodyOfKind<"revoke">[]> {
  const lines = (await auditLines(worker)).filter(({ kind }) => kind === "revoke");
  return lines.map(({ envelope }) => decodeEnvelope(envelope) as BodyOfKind<"revoke">);
}

/** What happened to VMs, oldest first. */
export async function vmNotes(worker: Pick<RunningWorker, "state">): Promise<string[]> {
  return (await auditLines(worker)).filter(({ kind }) => kind === "vm").map(({ note }) => note);
}

export interface VmRow {
  readonly vm: string;
  readonly tenant: string;
  readonly note: string;
  readonly life: string | null;
}

/** The rows of VMs' lives, oldest first. */
export async function vmLives(worker: Pick<RunningWorker, "state">): Promise<VmRow[]> {
  return (await auditLines(worker))
    .filter(({ kind }) => kind === "vm")
    .map(({ row, note, envelope }) => {
      const { vm, tenant } = decodeRow(row);
      return { vm: vm ?? "", tenant, note, life: readLoose(envelope).life };
    });
}

/** The first row whose job made these bytes. */
export function rowOfObject(rows: readonly JobRow[], object: Uint8Array): JobRow {
  const digest = sha256(object);
  const row = rows.find(({ outputDigest }) => outputDigest === digest);
  if (row === undefined) throw new Error("no job made this object");
  return row;
}

/** The value of `-frandom-seed` in a command. */
export function seedOf({ command }: JobRow): string {
  const option = "-frandom-seed=";
  const word = command.argv.find((argument) => argument.startsWith(option));
  if (word === undefined) throw new Error("the row has no random seed");
  return word.slice(option.length);
}
