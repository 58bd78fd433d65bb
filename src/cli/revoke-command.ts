// `hpcc worker revoke`: takes results back from a worker's cache, and tells who had been served with them.
import { userInfo } from "node:os";
import type { Command } from "commander";
import { HpccError } from "../base/errors.ts";
import type { Environment } from "../config/directories.ts";
import { json, type Output, printable, table } from "./output.ts";

export type RevokeKind = "vm" | "image" | "principal" | "key";

export interface RevokeAsk {
  readonly kind: RevokeKind;
  readonly value: string;
  readonly tenant: string | null;
  readonly askedBy: string;
}

/** What became of it. */
export interface RevokeOutcome {
  readonly revocation: { readonly kind: RevokeKind; readonly value: string; readonly atMs: number };
  readonly tenant: string | null;
  /** Null: revoked, and not removed from the disk yet. */
  readonly entries: number | null;
  readonly served: {
    readonly total: number;
    readonly rows: readonly {
      readonly row: string;
      readonly kind: string;
      readonly principal: string;
      readonly startMs: number;
      readonly vm: string;
    }[];
  };
  /** Whether the running worker did it, or this command on the folder of one that does not run. */
  readonly by: "worker" | "folder";
}

export interface RevokeHost {
  readonly env: Environment;
  readonly output: Output;
  revokeResults(stateFolder: string, ask: RevokeAsk): Promise<RevokeOutcome>;
}

interface RevokeFlags {
  readonly config?: string;
  readonly stateDir?: string;
  readonly vm?: string;
  readonly image?: string;
  readonly principal?: string;
  readonly key?: string;
  readonly tenant?: string;
  readonly json?: true;
}

const KINDS = ["vm", "image", "principal", "key"] as const;
const ROWS_PRINTED = 50;

export function addRevoke(worker: Command, host: RevokeHost): void {
  worker
    .command("revoke")
    .description("take results out of a worker's cache, at once and for good, and list who had been served with them")
    .option("--config <file>", "the worker's configuration")
    .option("--state-dir <dir>", "the worker's state folder, instead")
    .option("--vm <id>", "all that this microVM ever compiled or confirmed")
    .option("--image <digest>", "all that was compiled with this image up to now")
    .option("--principal <spiffe-id>", "all that was compiled for this user up to now")
    .option("--key <digest>", "what is kept under this action key up to now")
    .option("--tenant <name>", "of this tenant alone")
    .option("--json", "print JSON")
    .action(async (_: object, command: Command) => {
      // `hpcc worker` has a --config of its own, which takes it wherever it stands.
      const flags = command.optsWithGlobals<RevokeFlags>();
      const outcome = await host.revokeResults(await stateFolderOf(flags, host), askOf(flags));
      host.output.out(flags.json ? json(outcome) : printRevoked(outcome));
    });
}

async function stateFolderOf({ config, stateDir }: RevokeFlags, host: RevokeHost): Promise<string> {
  if ((config === undefined) === (stateDir === undefined))
    throw new HpccError("argument.invalid", "name the worker by --config FILE or by --state-dir DIR");
  if (stateDir !== undefined) return stateDir;
  const { loadWorkerConfig } = await import("../config/worker.ts");
  return loadWorkerConfig(host.env, config!).config.stateDir;
}

function askOf(flags: RevokeFlags): RevokeAsk {
  const named = KINDS.filter((kind) => flags[kind] !== undefined);
  const [kind] = named;
  if (kind === undefined || named.length > 1)
    throw new HpccError("argument.invalid", "name one of --vm ID, --image DIGEST, --principal SPIFFE-ID, --key DIGEST");
  return { kind, value: flags[kind]!, tenant: flags.tenant ?? null, askedBy: person() };
}

/** The user of this machine, as the operating system knows it. */
function person(): string {
  const { username, uid } = userInfo();
  return `${username} (uid ${uid})`;
}

export function printRevoked({ revocation, tenant, entries, served, by }: RevokeOutcome): string {
  const { kind, value, atMs } = revocation;
  const until = kind === "vm" ? "" : `, up to ${new Date(atMs).toISOString()}`;
  const where = tenant === null ? "of all tenants" : `of tenant ${tenant}`;
  const removed =
    entries === null
      ? "Results could not be removed from the disk yet; they answer nobody, and the worker tries again."
      : `${entries} ${entries === 1 ? "result" : "results"} removed${by === "folder" ? "; no worker runs there" : ""}.`;
  const lines = [`revoked ${kind} ${value} ${where}${until}`, removed];
  if (served.total === 0) lines.push("Nobody had been served with them.");
  else lines.push(`${served.total} ${served.total === 1 ? "job" : "jobs"} had been answered with them:`);
  const shown = served.rows.slice(-ROWS_PRINTED);
  const rows = shown.map((row) => [new Date(row.startMs).toISOString(), row.kind, row.principal, row.vm, row.row]);
  const more = served.total - shown.length;
  const end = more > 0 ? `... and ${more} older ones; --json lists up to 1000, hpcc audit rows all\n` : "";
  return `${lines.map((line) => printable(line)).join("\n")}\n${table(rows.map((row) => row.map((cell) => printable(cell))))}${end}`;
}
