// The control request `revoke`: to a running worker, or on the state folder of one that does not run.
import { AuditLog } from "../../audit/audit-log.ts";
import { readLogSigner } from "../../audit/log-key-file.ts";
import { readLog } from "../../audit/read-log.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { parseSpiffeId, parseTenantId, type TenantId } from "../../core/identity/spiffe.ts";
import { checkRevocationValue, REVOCATION_KINDS, type RevocationKind } from "../../core/revocation.ts";
import { DiskStore } from "../../store/disk/disk-store.ts";
import { type RevocationReport, WorkerRevocations } from "../revocations.ts";
import { checkStateFolder, stateFolders } from "../state-folders.ts";
import { askControl, type ControlHandler, ControlServer } from "./control-socket.ts";

export interface RevokeRequest {
  readonly kind: RevocationKind;
  readonly value: string;
  /** Null: all tenants. */
  readonly tenant: string | null;
  /** Who asks, for the row. */
  readonly askedBy: string;
}

const ASKED_BY_LENGTH_MAX = 128;

/** UNTRUSTED: `request`, whoever may connect. */
export function revokeHandler(revocations: WorkerRevocations, clock: Clock): ControlHandler {
  return async (request) => {
    const { kind, value, tenant, askedBy } = parseRevokeRequest(request);
    return revocations.revoke({ kind, value, atMs: clock.wallMs() }, { cause: "operator", askedBy }, tenant);
  };
}

function parseRevokeRequest(request: unknown): RevokeRequest & { readonly tenant: TenantId | null } {
  const fields = (typeof request === "object" ? request : null) as Record<string, unknown> | null;
  if (fields?.["command"] !== "revoke")
    throw new HpccError(
      "argument.invalid",
      "a worker's control socket knows revoke, prune, hold-add, hold-remove and hold-list",
    );
  const kind = REVOCATION_KINDS.find((name) => name === fields["kind"]);
  if (kind === undefined)
    throw new HpccError("argument.invalid", `a revocation is of a ${REVOCATION_KINDS.join(", ")}`);
  const value = textOf(fields, "value");
  checkRevocationValue(kind, value);
  const named = fields["tenant"] === null ? null : parseTenantId(textOf(fields, "tenant"));
  const askedBy = textOf(fields, "askedBy").slice(0, ASKED_BY_LENGTH_MAX);
  return { kind, value, tenant: tenantOf(kind, value, named), askedBy };
}

function textOf(fields: Readonly<Record<string, unknown>>, name: string): string {
  const text = fields[name];
  if (typeof text !== "string") throw new HpccError("argument.invalid", `a revocation has no ${name}`);
  return text;
}

/** A principal is one of a tenant. */
function tenantOf(kind: RevocationKind, value: string, named: TenantId | null): TenantId | null {
  if (kind !== "principal") return named;
  const identity = parseSpiffeId(value);
  const own = identity.kind === "user" ? identity.tenant : null;
  if (named !== null && named !== own)
    throw new HpccError("argument.invalid", `${value} is a user of tenant ${own}, not of ${named}`);
  return own;
}

/** Asks the worker that runs on a state folder, or does it itself while none runs. */
export async function revokeResults(
  stateFolder: string,
  request: RevokeRequest,
  on: { readonly clock: Clock; readonly logger: Logger },
): Promise<RevocationReport & { readonly by: "worker" | "folder" }> {
  const message = { command: "revoke", ...request };
  const { kind, value, tenant } = parseRevokeRequest(message);
  const answer = await askControl(stateFolder, message);
  if (answer !== null) return { ...reportOf(answer), by: "worker" };
  const report = await revokeInFolder(stateFolder, { kind, value, tenant, askedBy: request.askedBy }, on);
  return { ...report, by: "folder" };
}

/** The worker is of this machine and version: its report is what it should be, or none. */
function reportOf(answer: unknown): RevocationReport {
  const report = answer as Partial<RevocationReport> | null;
  if (!Array.isArray(report?.served?.rows) || report.revocation === undefined)
    throw new HpccError("peer.protocol", "the worker's answer is none");
  return report as RevocationReport;
}

async function revokeInFolder(
  stateFolder: string,
  request: RevokeRequest & { readonly tenant: TenantId | null },
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Promise<RevocationReport> {
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
  const revocations = new WorkerRevocations({ log, auditFolder: folders.audit, worker, clock, logger });
  const disk = await DiskStore.open({ root: folders.store, clock, logger, worker, ...revocations.observer });
  revocations.attach(disk.revocations);
  await disk.revocations.open();
  parts.defer(async () => {
    await disk.settled();
    await revocations.settled();
  });
  const { kind, value, tenant, askedBy } = request;
  return await revocations.revoke({ kind, value, atMs: clock.wallMs() }, { cause: "operator", askedBy }, tenant);
}

/** Whose state it is: the log's key says so, or its first row. */
export async function workerOf(stateFolder: string): Promise<string> {
  const folders = stateFolders(stateFolder);
  await checkStateFolder(stateFolder);
  for await (const { record } of readLog(folders.audit)) return record.row.worker;
  throw new HpccError("argument.invalid", `the worker of ${stateFolder} has no row yet`);
}
