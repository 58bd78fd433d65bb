// `hpcc audit prune` and `hpcc audit hold`: what retention removes of a worker's log, and what must stay.
import { userInfo } from "node:os";
import { basename, dirname } from "node:path";
import type { Command } from "commander";
import { HpccError } from "../base/errors.ts";
import type { RetentionLimits } from "../core/policy/retention-rules.ts";
import { json, type Output, printable, table } from "./output.ts";
import { size } from "./stats.ts";

/** What is asked of whoever has the state folder. */
export type RetentionAsk =
  | {
      readonly command: "prune";
      readonly tenants: Readonly<Record<string, RetentionLimits | null>>;
      readonly others: RetentionLimits | null;
      readonly policy: string | null;
      readonly askedBy: string;
      readonly reason: string | null;
      readonly dryRun: boolean;
    }
  | ({ readonly command: "hold-add" } & HoldAsk)
  | ({ readonly command: "hold-remove" } & Pick<HoldAsk, "name" | "askedBy" | "reason">)
  | { readonly command: "hold-list" };

interface HoldAsk {
  readonly name: string;
  readonly askedBy: string;
  readonly reason: string;
  readonly tenant: string | null;
  readonly principal: string | null;
  readonly image: string | null;
  readonly build: string | null;
  readonly hash: string | null;
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

interface HoldInForce extends HoldAsk {
  readonly row: number;
  readonly addedMs: number;
}

interface PruneOutcome {
  readonly size: number;
  readonly dryRun: boolean;
  readonly tenants: readonly {
    readonly tenant: string;
    readonly rows: number;
    readonly rowBytes: number;
    readonly held: number;
    readonly sources: { readonly blobs: number; readonly bytes: number; readonly recent: number } | null;
  }[];
}

export type RetentionOutcome = (PruneOutcome | { readonly holds: readonly HoldInForce[] }) & {
  /** Whether the running worker did it, or this command on the folder of one that does not run. */
  readonly by: "worker" | "folder";
};

export interface RetentionHost {
  readonly output: Output;
  askRetention(stateFolder: string, ask: RetentionAsk): Promise<RetentionOutcome>;
}

interface PruneFlags {
  readonly log: string;
  readonly policy?: string;
  readonly olderThan?: string;
  readonly maxSize?: string;
  readonly tenant?: string;
  readonly reason?: string;
  readonly dryRun?: true;
  readonly json?: true;
}

export function addRetention(audit: Command, host: RetentionHost): void {
  audit
    .command("prune")
    .description("remove rows of jobs and the sources that no kept row needs, and leave signed proof of what went")
    .requiredOption("--log <folder>", "the worker's state folder")
    .option("--policy <file>", "what a site's policy says of retention, tenant by tenant")
    .option("--older-than <age>", "rows older than this: 36h, 90d, 56w")
    .option("--max-size <size>", "of each tenant the oldest rows, beyond so much of rows and sources: 200GiB")
    .option("--tenant <name>", "of this tenant alone")
    .option("--reason <text>", "why, for the row and the stub")
    .option("--dry-run", "remove nothing, and say what would go")
    .option("--json", "print JSON")
    .action(async (flags: PruneFlags) => {
      const outcome = await host.askRetention(stateFolderOf(flags.log), await pruneAsk(flags));
      host.output.out(flags.json ? json(outcome) : printPruned(outcome as PruneOutcome & RetentionOutcome));
    });
  addHolds(audit, host);
}

/** The folder is a worker's state; who names its log means the same. */
function stateFolderOf(folder: string): string {
  return basename(folder) === "audit" ? dirname(folder) : folder;
}

async function pruneAsk(flags: PruneFlags): Promise<RetentionAsk> {
  const { policy, olderThan, maxSize, tenant, reason = null } = flags;
  const common = { command: "prune", askedBy: person(), reason, dryRun: flags.dryRun === true } as const;
  if (policy !== undefined) {
    if (olderThan !== undefined || maxSize !== undefined)
      throw new HpccError("argument.invalid", "name --policy FILE, or --older-than AGE and --max-size SIZE, not both");
    const { readPolicyFile } = await import("../config/policy-file.ts");
    const { retentionOf } = await import("../core/policy/retention-rules.ts");
    const file = readPolicyFile(policy);
    const { tenants, others } = retentionOf(file, "all");
    if (tenant !== undefined)
      return {
        ...common,
        policy: file.digest,
        tenants: { [tenant]: tenants.get(tenant) ?? (tenants.has(tenant) ? null : others) },
        others: null,
      };
    return { ...common, policy: file.digest, tenants: Object.fromEntries(tenants), others };
  }
  if (olderThan === undefined && maxSize === undefined)
    throw new HpccError("argument.invalid", "name what goes, with --policy FILE, --older-than AGE or --max-size SIZE");
  const { parseAge } = await import("./numbers.ts");
  const { bytesOfText } = await import("../config/value.ts");
  const bytes = maxSize === undefined ? null : bytesOfText(maxSize);
  if (maxSize !== undefined && bytes === null)
    throw new HpccError("argument.invalid", "--max-size wants a size, such as 200GiB");
  const limits = { ageMs: olderThan === undefined ? null : parseAge(olderThan), bytes };
  if (tenant === undefined) return { ...common, policy: null, tenants: {}, others: limits };
  return { ...common, policy: null, tenants: { [tenant]: limits }, others: null };
}

/** The user of this machine, as the operating system knows it. */
function person(): string {
  const { username, uid } = userInfo();
  return `${username} (uid ${uid})`;
}

export function printPruned({ tenants, dryRun, by }: PruneOutcome & Pick<RetentionOutcome, "by">): string {
  const gone = tenants.filter(({ rows, sources }) => rows > 0 || (sources?.blobs ?? 0) > 0);
  const lines = gone.map(({ tenant, rows, rowBytes, sources }) => [
    tenant,
    `${count(rows, "row")} (${size(rowBytes)})`,
    sources === null ? "" : `${count(sources.blobs, "blob")} that no row needs (${size(sources.bytes)})`,
  ]);
  const head = dryRun ? "would be removed:\n" : `removed${by === "folder" ? "; no worker runs there" : ""}:\n`;
  const parts = [
    gone.length === 0 ? "nothing to remove\n" : head + table(lines.map((line) => line.map((cell) => printable(cell)))),
  ];
  for (const { tenant, held } of tenants)
    if (held > 0)
      parts.push(
        `${count(held, "row")} of ${printable(tenant)} ${held === 1 ? "stays" : "stay"}: under a legal hold\n`,
      );
  const recent = tenants.reduce((sum, { sources }) => sum + (sources?.recent ?? 0), 0);
  if (recent > 0)
    parts.push(
      `${count(recent, "blob")} that no row needs ${recent === 1 ? "stays" : "stay"}: used in the last two hours\n`,
    );
  return parts.join("");
}

function count(amount: number, what: string): string {
  return `${amount} ${what}${amount === 1 ? "" : "s"}`;
}

interface HoldFlags {
  readonly log: string;
  readonly reason: string;
  readonly tenant?: string;
  readonly principal?: string;
  readonly image?: string;
  readonly build?: string;
  readonly hash?: string;
  readonly since?: string;
  readonly until?: string;
  readonly json?: true;
}

function addHolds(audit: Command, host: RetentionHost): void {
  const hold = audit
    .command("hold")
    .description("legal holds: rows that retention does not remove, whatever a policy says");
  const command = (name: string, description: string) =>
    hold
      .command(name)
      .description(description)
      .requiredOption("--log <folder>", "the worker's state folder")
      .option("--json", "print JSON");
  const ask = async (flags: Pick<HoldFlags, "log" | "json">, what: RetentionAsk, done: string) => {
    const outcome = await host.askRetention(stateFolderOf(flags.log), what);
    const holds = "holds" in outcome ? outcome.holds : [];
    host.output.out(flags.json ? json(holds) : printHolds(holds, done));
  };
  command("add", "hold all rows that fit what is named; without anything named, all rows")
    .argument("<name>", "by which it is removed, such as a case's number")
    .requiredOption("--reason <text>", "why")
    .option("--tenant <name>", "rows of this tenant")
    .option("--principal <id>", "of this client, by its SPIFFE id")
    .option("--image <digest>", "with this image")
    .option("--build <id>", "of this build, as HPCC_BUILD_ID named it")
    .option("--hash <digest>", "this row, or rows with this source, object, result or action key")
    .option("--since <time>", "that ended from then on")
    .option("--until <time>", "that ended before then")
    .action(async (name: string, flags: HoldFlags) => {
      const { parseSpan } = await import("./audit-search.ts");
      const { tenant = null, principal = null, image = null, build = null, hash = null, reason } = flags;
      const named = { tenant, principal, image, build, hash, ...parseSpan(flags) };
      await ask(flags, { command: "hold-add", name, askedBy: person(), reason, ...named }, "in force from now on");
    });
  command("remove", "end a hold")
    .argument("<name>", "its name")
    .requiredOption("--reason <text>", "why")
    .action(async (name: string, flags: HoldFlags) =>
      ask(flags, { command: "hold-remove", name, askedBy: person(), reason: flags.reason }, "removed"),
    );
  command("list", "print the holds that are in force").action(async (flags: HoldFlags) =>
    ask(flags, { command: "hold-list" }, "in force"),
  );
}

export function printHolds(holds: readonly HoldInForce[], state: string): string {
  if (holds.length === 0) return "no hold is in force\n";
  const lines = holds.map((hold) => [
    hold.name,
    state,
    whatIsHeld(hold),
    `row ${hold.row}, ${new Date(hold.addedMs).toISOString()}`,
    hold.askedBy,
    hold.reason,
  ]);
  return table(lines.map((line) => line.map((cell) => printable(cell))));
}

function whatIsHeld({ tenant, principal, image, build, hash, sinceMs, untilMs }: HoldAsk): string {
  const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());
  const parts = { tenant, principal, image, build, hash, since: time(sinceMs), until: time(untilMs) };
  const said = Object.entries(parts).flatMap(([name, value]) => (value === null ? [] : [`${name} ${value}`]));
  return said.length === 0 ? "all rows" : said.join(", ");
}
