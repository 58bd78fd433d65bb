// The control requests `prune`, `hold-add`, `hold-remove` and `hold-list`: to a running worker, or on the state folder of one that does
// not run.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { AuditLog } from "../../audit/audit-log.ts";
import { INDEX_FOLDER } from "../../audit/index/audit-index.ts";
import { readLogSigner } from "../../audit/log-key-file.ts";
import type { Hold } from "../../audit/prune/holds.ts";
import type { RetentionRule } from "../../audit/prune/plan.ts";
import { scanHolds } from "../../audit/prune/scan-log.ts";
import { verifyLog } from "../../audit/verify/verify-log.ts";
import { evidenceOfFolder } from "../../audit/verify-folder.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { type Digest, isDigest, parseDigest } from "../../core/digest/digest.ts";
import { parseSpiffeId, parseTenantId } from "../../core/identity/spiffe.ts";
import { DiskStore } from "../../store/disk/disk-store.ts";
import {
  dryPrune,
  type HoldRequest,
  LogRetention,
  type PruneReport,
  type PruneRequest,
} from "../retention/log-retention.ts";
import { checkStateFolder, stateFolders } from "../state-folders.ts";
import { askControl, type ControlHandler, ControlServer } from "./control-socket.ts";
import { workerOf } from "./revoke-request.ts";

/** A rule as a request has it. */
export interface AskedRule {
  readonly ageMs: number | null;
  readonly bytes: number | null;
}

export interface PruneAsk {
  readonly command: "prune";
  /** By tenant; null for one whose rows all stay. */
  readonly tenants: Readonly<Record<string, AskedRule | null>>;
  readonly others: AskedRule | null;
  readonly policy: string | null;
  readonly askedBy: string;
  readonly reason: string | null;
  readonly dryRun: boolean;
}

export interface HoldAsk {
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

export type RetentionAsk =
  | PruneAsk
  | ({ readonly command: "hold-add" } & HoldAsk)
  | ({ readonly command: "hold-remove" } & Pick<HoldAsk, "name" | "askedBy" | "reason">)
  | { readonly command: "hold-list" };

export type RetentionAnswer = PruneReport | { readonly holds: readonly Hold[] };

const COMMANDS: readonly unknown[] = ["prune", "hold-add", "hold-remove", "hold-list"];
const TEXT_LENGTH_MAX = 256;
const HOLD_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

/** Answers what is about retention, and leaves the rest to another handler. UNTRUSTED: the request, whoever may connect. */
export function retentionHandler(retention: LogRetention, otherwise: ControlHandler): ControlHandler {
  return async (request) => {
    const { command } = fieldsOf(request);
    return COMMANDS.includes(command) ? answer(retention, request) : otherwise(request);
  };
}

async function answer(retention: LogRetention, request: unknown): Promise<RetentionAnswer> {
  const fields = fieldsOf(request);
  switch (fields["command"]) {
    case "prune":
      return retention.prune(parsePrune(fields));
    case "hold-add":
      return { holds: [await retention.addHold(parseHold(fields))] };
    case "hold-remove":
      return { holds: [await retention.removeHold(parseName(fields))] };
    default:
      return { holds: await retention.holds() };
  }
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(request: unknown): Fields {
  return typeof request === "object" && request !== null ? (request as Fields) : {};
}

function parsePrune(fields: Fields): PruneRequest {
  const tenants = Object.entries(fieldsOf(fields["tenants"])).map(
    ([name, rule]) => [parseTenantId(name) as string, parseRule(rule)] as const,
  );
  const policy = textOrNull(fields, "policy");
  if (policy !== null && !isDigest(policy)) throw invalid("policy");
  return {
    rules: { tenants: new Map(tenants), others: parseRule(fields["others"]) },
    cause: "operator",
    policy,
    askedBy: textOf(fields, "askedBy"),
    reason: textOrNull(fields, "reason"),
    dryRun: fields["dryRun"] === true,
  };
}

function parseRule(value: unknown): RetentionRule | null {
  if (value === null || value === undefined) return null;
  const { ageMs, bytes } = fieldsOf(value);
  const rule = { ageMs: countOrNull(ageMs, "age"), bytes: countOrNull(bytes, "bytes") };
  return rule.ageMs === null && rule.bytes === null ? null : rule;
}

function parseHold(fields: Fields): HoldRequest {
  const [tenant, principal, image] = ["tenant", "principal", "image"].map((name) => textOrNull(fields, name));
  const [build, hash] = [textOrNull(fields, "build"), textOrNull(fields, "hash")];
  if (principal !== null) parseSpiffeId(principal!);
  const digest = (text: string | null, what: string): Digest | null => (text === null ? null : parseDigest(text, what));
  const [sinceMs, untilMs] = [countOrNull(fields["sinceMs"], "since"), countOrNull(fields["untilMs"], "until")];
  if (sinceMs !== null && untilMs !== null && sinceMs >= untilMs)
    throw new HpccError("argument.invalid", "a hold that ends before it begins holds nothing");
  return {
    ...parseName(fields),
    tenant: tenant === null ? null : parseTenantId(tenant!),
    principal: principal!,
    image: digest(image!, "the image"),
    build,
    hash: digest(hash, "the hash"),
    sinceMs,
    untilMs,
  };
}

function parseName(fields: Fields): Pick<HoldRequest, "name" | "askedBy" | "reason"> {
  const name = textOf(fields, "name");
  if (!HOLD_NAME.test(name))
    throw new HpccError("argument.invalid", "a hold's name is up to 64 letters, digits, dots, dashes and underscores");
  return { name, askedBy: textOf(fields, "askedBy"), reason: textOf(fields, "reason") };
}

function countOrNull(value: unknown, what: string): number | null {
  if (value === null || value === undefined) return null;
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw invalid(what);
  return value as number;
}

function textOrNull(fields: Fields, name: string): string | null {
  return fields[name] === null || fields[name] === undefined ? null : textOf(fields, name);
}

function textOf(fields: Fields, name: string): string {
  const text = fields[name];
  if (typeof text !== "string" || text.length > TEXT_LENGTH_MAX) throw invalid(name);
  return text;
}

function invalid(what: string): HpccError {
  return new HpccError("argument.invalid", `a request about retention has no good ${what}`);
}

interface On {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Asks the worker that runs on a state folder, or does it itself while none runs. */
export async function askRetention(
  stateFolder: string,
  ask: RetentionAsk,
  on: On,
): Promise<RetentionAnswer & { readonly by: "worker" | "folder" }> {
  const found = await askControl(stateFolder, ask);
  if (found !== null) return { ...(found as RetentionAnswer), by: "worker" };
  const isRead = ask.command === "hold-list" || (ask.command === "prune" && ask.dryRun);
  return { ...(await (isRead ? readFolder : inFolder)(stateFolder, ask, on)), by: "folder" };
}

/** Reads a state folder, or a copy of one, and changes nothing. Throws `audit.corrupt` for a log that is not what was signed. */
async function readFolder(stateFolder: string, ask: RetentionAsk, { clock, logger }: On): Promise<RetentionAnswer> {
  const { audit: folder, store: root } = stateFolders(stateFolder);
  await checkStateFolder(stateFolder);
  const { rows, problems } = await verifyLog(await evidenceOfFolder(folder, { keys: [] }));
  const [bad] = problems;
  if (bad !== undefined)
    throw new HpccError(
      "audit.corrupt",
      `the log in ${folder} is not what was signed: ${bad.row === null ? "" : `row ${bad.row} `}${bad.problem}`,
      { hint: "hpcc audit verify says more. Nothing was changed." },
    );
  await workerOf(stateFolder);
  const scan = { size: rows, signal: new AbortController().signal };
  if (ask.command !== "prune") return { holds: (await scanHolds(folder, scan)).inForce };
  const store = await DiskStore.open({ root, clock, logger });
  return dryPrune({ folder, store, scan, nowMs: clock.wallMs() }, parsePrune(fieldsOf(ask)).rules);
}

async function inFolder(stateFolder: string, ask: RetentionAsk, { clock, logger }: On): Promise<RetentionAnswer> {
  const folders = stateFolders(stateFolder);
  const worker = await workerOf(stateFolder);
  const busy = async () => {
    throw new HpccError("peer.unavailable", "a command works on this state folder; try again");
  };
  const control = await ControlServer.listen({ stateFolder, handle: busy, clock, logger });
  await using parts = new AsyncDisposableStack();
  parts.defer(() => control.close());
  const signer = await readLogSigner(stateFolder);
  const log = await AuditLog.open({ folder: folders.audit, worker, clock, logger, ...(signer !== null && { signer }) });
  parts.defer(() => log.close());
  const store = await DiskStore.open({ root: folders.store, clock, logger });
  // It names what is gone; the worker's next start makes it again.
  const pruned = async () => rm(join(folders.audit, INDEX_FOLDER), { recursive: true, force: true });
  const options = { log, folder: folders.audit, stateFolder, worker, store, clock, logger, graceMs: 0, pruned };
  return await answer(new LogRetention(options), ask);
}
