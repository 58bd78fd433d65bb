// Removes rows from a log, in steps of which each is durable before the next: the signed stubs and the numbers of the rows that go, a row
// of kind `prune` for each tenant, the rows themselves, what they alone needed, and last the numbers. Cut off before the rows of kind
// `prune`, nothing was done; after them, `finishPrunes` goes on where it stopped.
import { HpccError } from "../../base/errors.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { NoteSigner } from "../../core/note/signed-note.ts";
import type { AuditLog } from "../audit-log.ts";
import { parsePruneName, pruneName } from "../pruned-frame.ts";
import { signStub, stubText } from "../pruned-stub.ts";
import { decodePart, listSegments, readSegment } from "../read-log.ts";
import { encodeRanges, parseRanges } from "../removed-ranges.ts";
import { emptyRow } from "../row.ts";
import { segmentSequence } from "../segment.ts";
import type { PrunePlan, TenantPlan } from "./plan.ts";
import { removeRows } from "./remove-rows.ts";
import {
  dropStub,
  finishStub,
  listPrunes,
  type PruneDisk,
  removeLeftovers,
  type StubOnDisk,
  writeStubs,
} from "./stub-files.ts";

export interface PruneParts {
  readonly folder: string;
  readonly log: AuditLog;
  readonly worker: string;
  readonly signer: NoteSigner;
  readonly disk: PruneDisk;
  /** Once it aborts, the rest is left to `finishPrunes`. */
  readonly signal: AbortSignal;
  /** Removes what no row needs any more, of these tenants. */
  readonly sweep: (tenants: readonly string[]) => Promise<void>;
}

export interface PruneReason {
  readonly cause: "operator" | "policy";
  readonly askedBy: string;
  /** Why, of one tenant. */
  readonly why: (tenant: string) => string;
  readonly policy: Digest | null;
  readonly nowMs: number;
}

/** Removes what a plan says. Throws before anything is removed, or leaves the rest to `finishPrunes`. */
export async function pruneLog(plan: PrunePlan, reason: PruneReason, parts: PruneParts): Promise<void> {
  const { folder, log, disk } = parts;
  const tenants = plan.tenants.filter(({ rows }) => rows > 0);
  if (tenants.length === 0) return;
  const stubs = tenants.map((tenant) => stubOf(tenant, plan, reason, parts.signer));
  await writeStubs(folder, stubs, disk);
  log.beginSegment();
  const said = tenants.map(async (tenant, at) => sayPrune(tenant, stubs[at]!, plan, reason, parts));
  const failed = (await Promise.allSettled(said)).find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") {
    // Of a log that cannot be synced nobody knows what it says: its next start finds out.
    if (log.failure === null) await finish(parts, await dropUnsaid(parts, stubs));
    throw failed.reason;
  }
  await finish(parts, stubs);
}

function stubOf(plan: TenantPlan, { size, root }: PrunePlan, reason: PruneReason, signer: NoteSigner): StubOnDisk {
  const { tenant, rows, ranges, removed } = plan;
  const [first, last] = [ranges[0]![0], ranges.at(-1)![1]];
  const words = { whenMs: reason.nowMs, by: reason.askedBy, why: reason.why(tenant) };
  const note = signStub({ tenant, size, root, first, last, rows, removed, ...words }, signer);
  return { name: pruneName({ size, tenant }), note: Buffer.from(note), ranges: Buffer.from(encodeRanges(ranges)) };
}

async function sayPrune(
  { tenant, ranges, rows, bytes, removed }: TenantPlan,
  { note }: StubOnDisk,
  { size }: PrunePlan,
  { cause, askedBy, why, policy, nowMs }: PruneReason,
  { log, worker }: PruneParts,
): Promise<void> {
  await log.append(
    { ...emptyRow(worker), tenant },
    {
      kind: "prune",
      event: "rows",
      startMs: nowMs,
      endMs: nowMs,
      cause,
      askedBy: stubText(askedBy),
      reason: stubText(why(tenant)),
      policy,
      size,
      first: ranges[0]![0],
      last: ranges.at(-1)![1],
      rows,
      bytes,
      removed: `sha256:${removed.toString("hex")}` as Digest,
      stub: sha256(note),
    },
  );
}

/** Finishes what was cut off, and forgets what was never said. Gives the tenants whose rows it removed. Throws for a log that has failed. */
export async function finishPrunes(parts: PruneParts): Promise<string[]> {
  // What can be read of it may not be durable: its next start finds out.
  if (parts.log.failure !== null) throw parts.log.failure;
  const open = (await listPrunes(parts.folder)).filter(({ ranges }) => ranges !== null);
  const said = open.length === 0 ? [] : await dropUnsaid(parts, open);
  await finish(parts, said);
  await removeLeftovers(parts.folder, parts.disk);
  return said.map(({ name }) => parsePruneName(name)!.tenant);
}

async function finish({ folder, disk, signal, sweep }: PruneParts, stubs: readonly StubOnDisk[]): Promise<void> {
  if (stubs.length === 0) return;
  const prunes = stubs.map(({ name, ranges }) => {
    const id = parsePruneName(name);
    if (id === null || ranges === null) throw new Error("bug: a stub without rows");
    return { id, ranges: parseRanges(ranges.toString("latin1")) };
  });
  await removeRows(folder, prunes, { disk, signal });
  await sweep(prunes.map(({ id }) => id.tenant));
  for (const { name } of stubs) await finishStub(folder, name, disk);
}

/** Removes the stubs that no row of the log speaks of; gives the others. */
async function dropUnsaid({ folder, disk }: PruneParts, stubs: readonly StubOnDisk[]): Promise<StubOnDisk[]> {
  const sizes = stubs.map(({ name }) => parsePruneName(name)!.size);
  const said = await saidStubs(folder, Math.min(...sizes));
  const kept: StubOnDisk[] = [];
  for (const stub of stubs)
    if (said.has(sha256(stub.note))) kept.push(stub);
    else await dropStub(folder, stub.name, disk);
  return kept;
}

/** Digests of the stubs that rows after a number speak of. Throws `audit.corrupt` where one of them may be damaged. */
async function saidStubs(folder: string, after: number): Promise<Set<Digest>> {
  const said = new Set<Digest>();
  const segments = await listSegments(folder);
  for (const [at, segment] of segments.entries()) {
    const next = segments[at + 1];
    if (next !== undefined && segmentSequence(next)! <= after + 1) continue;
    const bytes = await readSegment(folder, segment);
    let end = 0;
    for (let part = decodePart(bytes, 0); part !== null; part = decodePart(bytes, end)) {
      end = part.end;
      if (!("record" in part)) continue;
      const { envelope } = part.record;
      if (envelope.kind === "prune" && envelope.event === "rows") said.add(envelope.stub);
    }
    // Rows are being written at the end of the last one.
    if (next !== undefined && end < bytes.length)
      throw new HpccError("audit.corrupt", `${segment} is damaged at byte ${end}`);
  }
  return said;
}
