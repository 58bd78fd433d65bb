// Retention of a worker's log: prunes and legal holds, one after another, on the log and the store that are open here.

import type { AuditLog } from "../../audit/audit-log.ts";
import type { HeldRows, Hold, Holds } from "../../audit/prune/holds.ts";
import { type PrunePlan, planPrune, type RetentionRule } from "../../audit/prune/plan.ts";
import { finishPrunes, type PruneParts, pruneLog } from "../../audit/prune/prune-log.ts";
import { type ScanOptions, scanHolds } from "../../audit/prune/scan-log.ts";
import { PRUNE_DISK, type PruneDisk } from "../../audit/prune/stub-files.ts";
import { stubText } from "../../audit/pruned-stub.ts";
import { emptyRow } from "../../audit/row.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import type { SweptKept } from "../../store/disk/disk-blob-store.ts";
import type { DiskStore } from "../../store/disk/disk-store.ts";
import { neededBlobs, weighKept } from "./needed-blobs.ts";

/** Which rules hold for whose rows; null for rows that all stay. */
export interface RetentionRules {
  readonly tenants: ReadonlyMap<string, RetentionRule | null>;
  /** For all others. */
  readonly others: RetentionRule | null;
}

export interface PruneRequest {
  readonly rules: RetentionRules;
  readonly cause: "operator" | "policy";
  /** Of the policy file that asks for it. */
  readonly policy: Digest | null;
  readonly askedBy: string;
  /** Beside the rule; null for none. */
  readonly reason: string | null;
  readonly dryRun: boolean;
}

export interface PrunedTenant {
  readonly tenant: string;
  readonly rows: number;
  readonly rowBytes: number;
  /** Rows that would go, and that a legal hold keeps. */
  readonly held: number;
  /** What no row needs any more; null where nothing was looked for. */
  readonly sources: SweptKept | null;
}

export interface PruneReport {
  /** Rows of the log that were looked at. */
  readonly size: number;
  readonly dryRun: boolean;
  readonly tenants: readonly PrunedTenant[];
}

export interface HoldRequest extends HeldRows {
  readonly name: string;
  readonly askedBy: string;
  readonly reason: string;
}

export interface LogRetentionOptions {
  readonly log: AuditLog;
  readonly folder: string;
  readonly stateFolder: string;
  readonly worker: string;
  readonly store: DiskStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What jobs used so lately may be needed by rows that are still to be written; 0 where no job runs. */
  readonly graceMs: number;
  /** Called when rows were removed from where an index has them. */
  readonly pruned?: () => Promise<void> | void;
  readonly disk?: PruneDisk;
}

const HOLDS_MAX = 1000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export class LogRetention {
  readonly #options: LogRetentionOptions;
  readonly #closing = new AbortController();
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: LogRetentionOptions) {
    this.#options = options;
  }

  /** Finishes what was cut off; to be called at each start. */
  async finish(): Promise<void> {
    await this.#alone(async () => this.#finish());
  }

  /** Removes the rows that the rules do not keep, and what they alone needed. */
  async prune(request: PruneRequest): Promise<PruneReport> {
    return this.#alone(async () => this.#prune(request));
  }

  async holds(): Promise<Hold[]> {
    return this.#alone(async () => (await this.#readHolds()).inForce);
  }

  /** Throws `argument.invalid` for a name that is in force. */
  async addHold(request: HoldRequest): Promise<Hold> {
    return this.#alone(async () => {
      const before = await this.#readHolds();
      const { name, askedBy, reason, tenant, image, ...held } = request;
      if (before.get(name) !== null) throw new HpccError("argument.invalid", `a hold ${name} is in force already`);
      if (before.inForce.length >= HOLDS_MAX) throw new HpccError("limit.exceeded", `${HOLDS_MAX} holds are in force`);
      const nowMs = this.#options.clock.wallMs();
      const said = { name, askedBy: stubText(askedBy), reason: stubText(reason) };
      const { sequence } = await this.#options.log.append(
        { ...emptyRow(this.#options.worker), ...(tenant !== null && { tenant }), imageDigest: image },
        { kind: "hold", event: "added", startMs: nowMs, endMs: nowMs, ...said, ...held },
      );
      return { ...request, ...said, row: sequence, addedMs: nowMs };
    });
  }

  /** Throws `argument.invalid` for a name that is not in force. */
  async removeHold({ name, askedBy, reason }: Pick<HoldRequest, "name" | "askedBy" | "reason">): Promise<Hold> {
    return this.#alone(async () => {
      const hold = (await this.#readHolds()).get(name);
      if (hold === null) throw new HpccError("argument.invalid", `no hold ${name} is in force`);
      const nowMs = this.#options.clock.wallMs();
      const said = { name, askedBy: stubText(askedBy), reason: stubText(reason) };
      const times = { startMs: nowMs, endMs: nowMs };
      await this.#options.log.append(emptyRow(this.#options.worker), {
        kind: "hold",
        event: "removed",
        ...times,
        ...said,
      });
      return hold;
    });
  }

  /** Leaves what is under way to the next start. */
  async close(): Promise<void> {
    this.#closing.abort(new HpccError("job.cancelled", "the worker ends; its next start finishes what was begun"));
    await this.#last;
  }

  #scan(size: number) {
    return { size, signal: this.#closing.signal };
  }

  async #alone<T>(run: () => Promise<T>): Promise<T> {
    const next = this.#last.then(run);
    this.#last = next.catch(() => undefined);
    return next;
  }

  async #readHolds(): Promise<Holds> {
    const { folder, log } = this.#options;
    return scanHolds(folder, this.#scan(log.sequence));
  }

  async #prune(request: PruneRequest): Promise<PruneReport> {
    const { folder, log, clock, store, logger } = this.#options;
    const { rules, cause, policy, askedBy } = request;
    if (request.dryRun)
      return dryPrune({ folder, store, scan: this.#scan(log.sequence), nowMs: clock.wallMs() }, rules);
    const swept = new Map<string, SweptKept>();
    await this.#finish(swept);
    const ruleOf = ruleFor(rules);
    const nowMs = clock.wallMs();
    const plan = await planPrune({ folder, ...this.#scan(log.sequence), nowMs, ruleOf, weigh: weighFor(rules, store) });
    const why = (tenant: string) => whyOf(ruleOf(tenant), request.reason);
    await pruneLog(plan, { cause, askedBy, why, policy, nowMs }, this.#parts(swept));
    // What was used too lately at an earlier run goes with this one, though no row goes.
    const rest = store.tenantsOnDisk().then((all) => all.filter((one) => ruleOf(one) !== null && !swept.has(one)));
    await this.#sweep(await rest, swept);
    const report = reportOf(plan, false, swept);
    for (const one of report.tenants) logger.info("audit.log.pruned", { ...one, ...one.sources, sources: undefined });
    return report;
  }

  async #finish(swept = new Map<string, SweptKept>()): Promise<void> {
    const tenants = await finishPrunes(this.#parts(swept));
    if (tenants.length === 0) return;
    this.#options.logger.warn("audit.prune.finished", { tenants: tenants.join(", ") });
  }

  #parts(swept: Map<string, SweptKept>): PruneParts {
    const { folder, log, worker, stateFolder, disk = PRUNE_DISK } = this.#options;
    // Not the one in the folder, which may be another since the log was opened: that one signs from the next start on.
    const { signer } = log;
    if (signer === null)
      throw new HpccError(
        "argument.invalid",
        `${stateFolder} has no key of the log, which signs what is left of rows`,
        {
          hint: "Only the log of a worker can be pruned, where the worker's state is; a copy cannot.",
        },
      );
    const { signal } = this.#closing;
    const afterRows = async (tenants: readonly string[]) => {
      await this.#options.pruned?.();
      await this.#sweep(tenants, swept);
    };
    return { folder, log, worker, signer, disk, signal, sweep: afterRows };
  }

  async #sweep(tenants: readonly string[], swept: Map<string, SweptKept>): Promise<void> {
    const { folder, log, store, clock, graceMs, worker } = this.#options;
    const ids = tenants.map(parseTenantId);
    if (ids.length === 0) return;
    const usedBeforeMs = graceMs === 0 ? Number.POSITIVE_INFINITY : clock.wallMs() - graceMs;
    const needed = await neededBlobs(folder, this.#scan(log.sequence), ids, store);
    for (const tenant of ids) {
      const own = needed.get(tenant)!;
      const isNeeded = (digest: Digest) => {
        this.#closing.signal.throwIfAborted();
        return own.has(digest);
      };
      const gone = await store.kept(tenant).sweepKept({ isNeeded, usedBeforeMs });
      swept.set(tenant, gone);
      const { blobs, bytes } = gone;
      if (blobs === 0) continue;
      const nowMs = clock.wallMs();
      await log.append(
        { ...emptyRow(worker), tenant },
        { kind: "prune", event: "sources", startMs: nowMs, endMs: nowMs, blobs, bytes },
      );
    }
  }
}

function ruleFor({ tenants, others }: RetentionRules): (tenant: string) => RetentionRule | null {
  return (tenant) => tenants.get(tenant) ?? (tenants.has(tenant) ? null : others);
}

function weighFor({ tenants, others }: RetentionRules, store: DiskStore) {
  const isWeighed = [others, ...tenants.values()].some((rule) => (rule?.bytes ?? null) !== null);
  return isWeighed ? weighKept.bind(null, store) : null;
}

export interface DryPruneOptions {
  readonly folder: string;
  readonly store: DiskStore;
  readonly scan: ScanOptions;
  readonly nowMs: number;
}

/** What rules would remove; changes nothing. */
export async function dryPrune(options: DryPruneOptions, rules: RetentionRules): Promise<PruneReport> {
  const { folder, store, scan, nowMs } = options;
  const plan = await planPrune({ folder, ...scan, nowMs, ruleOf: ruleFor(rules), weigh: weighFor(rules, store) });
  return reportOf(plan, true, new Map());
}

function reportOf({ size, tenants }: PrunePlan, dryRun: boolean, swept: ReadonlyMap<string, SweptKept>): PruneReport {
  const names = new Set([...tenants.map(({ tenant }) => tenant), ...swept.keys()]);
  return {
    size,
    dryRun,
    tenants: [...names].sort().map((tenant) => {
      const plan = tenants.find((one) => one.tenant === tenant);
      const { rows = 0, bytes = 0, held = 0 } = plan ?? {};
      return { tenant, rows, rowBytes: bytes, held, sources: swept.get(tenant) ?? null };
    }),
  };
}

const UNITS_MS = [
  ["day", DAY_MS],
  ["hour", HOUR_MS],
  ["minute", 60_000],
  ["second", 1000],
] as const;

/** An age as a row says it for good: in the largest unit that tells it exactly, to the second. */
export function ageText(ageMs: number): string {
  const [unit, unitMs] = UNITS_MS.find(([, ms]) => ageMs % ms === 0 && ageMs > 0) ?? UNITS_MS[3];
  const amount = Math.round(ageMs / unitMs);
  return `${amount} ${unit}${amount === 1 ? "" : "s"}`;
}

function whyOf(rule: RetentionRule | null, reason: string | null): string {
  const parts = [
    ...(rule?.ageMs == null ? [] : [`older than ${ageText(rule.ageMs)}`]),
    ...(rule?.bytes == null ? [] : [`beyond ${rule.bytes} bytes`]),
  ];
  return reason === null ? parts.join(" or ") : `${parts.join(" or ")}: ${reason}`;
}
