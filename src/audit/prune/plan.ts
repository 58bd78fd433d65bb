// Which rows of a log go: those of a job or a VM that are older than their tenant's rows may be, or beyond the bytes that it may have,
// and that no legal hold and no other row needs. What the log says of itself, of its host, of policies, holds and revocations stays.
import { HpccError } from "../../base/errors.ts";
import { digestHex } from "../../core/digest/digest.ts";
import { TileTree } from "../../core/merkle/tile-tree.ts";
import { encodeEnvelope } from "../envelope.ts";
import { RemovedRows } from "../pruned-stub.ts";
import { RangeBuilder, type RowRange } from "../removed-ranges.ts";
import type { AuditKind } from "../rows/bodies.ts";
import { type AuditRecord, encodeRecord } from "../segment.ts";
import type { Holds } from "./holds.ts";
import { scanHolds, scanLog } from "./scan-log.ts";
import { TenantWeights, type Weigh } from "./weigh.ts";

/** How long a tenant's rows stay; null: without a limit. */
export interface RetentionRule {
  readonly ageMs: number | null;
  /** Of its rows, and of the sources and results that they need, as they lie on the disk. */
  readonly bytes: number | null;
}

/** Null for a tenant whose rows all stay. */
export type RuleOf = (tenant: string) => RetentionRule | null;

/** What goes of one tenant. */
export interface TenantPlan {
  readonly tenant: string;
  readonly ranges: readonly RowRange[];
  readonly rows: number;
  readonly bytes: number;
  readonly removed: Buffer;
  /** Rows that would go, if no hold held them. */
  readonly held: number;
}

export interface PrunePlan {
  /** Rows of the log when it was made, and its root then. */
  readonly size: number;
  readonly root: Buffer;
  /** Of each tenant that has a rule and a row that would go. */
  readonly tenants: readonly TenantPlan[];
}

export interface PlanOptions {
  readonly folder: string;
  /** Rows of the log that are looked at; the rest is too new. */
  readonly size: number;
  readonly nowMs: number;
  readonly ruleOf: RuleOf;
  /** Null where no rule is about bytes. */
  readonly weigh: Weigh | null;
  readonly signal: AbortSignal;
}

/** Kinds of rows that retention may remove. */
export const PRUNED_KINDS: ReadonlySet<AuditKind> = new Set(["compile", "hit", "denied", "failed", "confirm", "vm"]);

export async function planPrune(options: PlanOptions): Promise<PrunePlan> {
  const { folder, size } = options;
  const judge = await RowJudge.of(options);
  await scanLog(folder, options, (item) => {
    if (item.t === "row") judge.take(item.placed.record);
  });
  const tree = new TileTree();
  const tenants = new Map<string, Leaving>();
  const append = (leaf: Uint8Array) => {
    tree.append(leaf);
    if (tree.size % 65_536 === 0) tree.takeFull();
  };
  await scanLog(folder, options, (item) => {
    if (item.t === "pruned") return item.frame.leaves.forEach(append);
    const { record } = item.placed;
    const leaf = Buffer.from(digestHex(record.leaf), "hex");
    append(leaf);
    const verdict = judge.of(record);
    if (verdict === "stays") return;
    const leaving = leavingOf(tenants, record.row.tenant);
    if (verdict === "held") leaving.held++;
    else leaving.add(record, leaf);
  });
  if (tree.size !== size) throw new HpccError("audit.corrupt", "the audit log changed while it was read");
  const plans = [...tenants].map(([tenant, leaving]) => leaving.plan(tenant));
  return { size, root: Buffer.from(tree.root()), tenants: plans };
}

/** Bytes of a record in its segment. */
function recordBytes({ line, envelope }: AuditRecord): number {
  return encodeRecord(line, encodeEnvelope(envelope), 1).frame.length;
}

class Leaving {
  readonly #ranges = new RangeBuilder();
  readonly #removed = new RemovedRows();
  #bytes = 0;
  held = 0;

  add(record: AuditRecord, leaf: Buffer): void {
    const { sequence } = record.envelope;
    this.#ranges.add(sequence);
    this.#removed.add(sequence, leaf);
    this.#bytes += recordBytes(record);
  }

  plan(tenant: string): TenantPlan {
    const removed = Buffer.from(this.#removed.root());
    const { rows } = this.#removed;
    return { tenant, ranges: this.#ranges.ranges, rows, bytes: this.#bytes, removed, held: this.held };
  }
}

function leavingOf(tenants: Map<string, Leaving>, tenant: string): Leaving {
  const known = tenants.get(tenant);
  if (known !== undefined) return known;
  const leaving = new Leaving();
  tenants.set(tenant, leaving);
  return leaving;
}

/** The oldest row that each tenant with a limit of bytes keeps. */
async function oldestThatFit(options: PlanOptions, weigh: Weigh): Promise<Map<string, number>> {
  const { folder, ruleOf } = options;
  const weights = new Map<string, TenantWeights>();
  await scanLog(folder, options, (item) => {
    if (item.t === "pruned") return;
    const { record } = item.placed;
    const { tenant } = record.row;
    if (!PRUNED_KINDS.has(record.envelope.kind) || (ruleOf(tenant)?.bytes ?? null) === null) return;
    let weight = weights.get(tenant);
    if (weight === undefined) weights.set(tenant, (weight = new TenantWeights()));
    weight.take(record, recordBytes(record));
  });
  const oldest = new Map<string, number>();
  for (const [tenant, weight] of weights) {
    const bytesMax = ruleOf(tenant)!.bytes!;
    oldest.set(tenant, await weight.oldestThatFits(bytesMax, (digest, kind) => weigh(tenant, digest, kind)));
  }
  return oldest;
}

/** Knows the holds, and what is too much; and after all rows were taken, which VMs run or are still spoken of. */
class RowJudge {
  readonly #options: PlanOptions;
  readonly #holds: Holds;
  /** The oldest row that a tenant with a limit of bytes keeps. */
  readonly #oldest: ReadonlyMap<string, number>;
  readonly #spokenOf = new Set<string>();
  readonly #running = new Set<string>();

  private constructor(options: PlanOptions, holds: Holds, oldest: ReadonlyMap<string, number>) {
    this.#options = options;
    this.#holds = holds;
    this.#oldest = oldest;
  }

  static async of(options: PlanOptions): Promise<RowJudge> {
    const { folder, weigh } = options;
    const holds = await scanHolds(folder, options);
    return new RowJudge(options, holds, weigh === null ? new Map() : await oldestThatFit(options, weigh));
  }

  take(record: AuditRecord): void {
    const { row, envelope } = record;
    // No VM outlives its worker.
    if (envelope.kind === "host") this.#running.clear();
    if (envelope.kind === "vm" && row.vm !== null) {
      if (envelope.event === "destroyed") this.#running.delete(row.vm);
      else this.#running.add(row.vm);
    }
    if (this.#byItself(record) !== "goes") for (const vm of vmsOf(record)) this.#spokenOf.add(vm);
  }

  of(record: AuditRecord): "stays" | "held" | "goes" {
    const { vm } = record.row;
    // What a row that stays says of its VM is in the VM's own rows; so is what one will say that is still to come.
    if (record.envelope.kind === "vm" && vm !== null && (this.#spokenOf.has(vm) || this.#running.has(vm)))
      return "stays";
    return this.#byItself(record);
  }

  #byItself(record: AuditRecord): "stays" | "held" | "goes" {
    const { row, envelope } = record;
    if (row.tenant === "-" || !PRUNED_KINDS.has(envelope.kind)) return "stays";
    const rule = this.#options.ruleOf(row.tenant);
    if (rule === null) return "stays";
    const old = rule.ageMs !== null && envelope.endMs < this.#options.nowMs - rule.ageMs;
    const tooMuch = rule.bytes !== null && envelope.sequence < (this.#oldest.get(row.tenant) ?? 0);
    if (!old && !tooMuch) return "stays";
    return this.#holds.hold(record) ? "held" : "goes";
  }
}

/** The VMs that a row names. */
function vmsOf({ row, envelope }: AuditRecord): string[] {
  const named = [row.vm];
  if (envelope.kind === "confirm") named.push(envelope.firstVm);
  if (envelope.kind === "hit") named.push(envelope.confirmedBy);
  if (envelope.kind === "revoke" && envelope.what === "vm") named.push(envelope.value);
  return named.filter((vm) => vm !== null);
}
