// What rows come to for whoever has to answer for a site: who compiled what where, how isolated, and what went wrong. Rows go in one
// by one; what is kept of them is bounded. Pure. UNTRUSTED: rows; whoever shows the report escapes all of it.
import { ISOLATIONS, type Isolation } from "../../core/isolation.ts";
import { LIVES, type Life } from "../../core/life.ts";
import { decodeFlags } from "../flags.ts";
import type { AuditRow } from "../row.ts";
import { type BodyOfKind, type EnvelopeBody, noteOf } from "../rows/bodies.ts";
import type { AuditRecord } from "../segment.ts";
import { Groups, Names, Newest, type Some } from "./tally.ts";

/** How jobs of some group ended. */
export interface JobCounts {
  readonly names: readonly string[];
  jobs: number;
  compiles: number;
  hits: number;
  denied: number;
  failed: number;
  firstMs: number;
  lastMs: number;
  readonly workers: Names;
  readonly images: Names;
  readonly principals: Names;
}

/** Jobs that ended alike. */
export interface Ends {
  readonly names: readonly string[];
  jobs: number;
  lastMs: number;
}

/** A row that is worth a line of its own. */
export interface Event {
  readonly worker: string;
  readonly row: number;
  readonly ms: number;
  readonly tenant: string;
  readonly image: string | null;
  readonly vm: string | null;
  readonly note: string;
}

export interface HostState {
  readonly worker: string;
  ms: number;
  isolation: string;
  starts: number;
  findings: readonly { readonly name: string; readonly status: string; readonly found: string }[];
}

export interface ReportData {
  /** Rows that were counted, and the times of the first and the last one; null for none. */
  readonly rows: number;
  readonly firstMs: number | null;
  readonly lastMs: number | null;
  readonly totals: JobCounts;
  readonly isolation: readonly { readonly isolation: Isolation; readonly lives: Readonly<Record<Life, number>> }[];
  readonly days: Some<JobCounts>;
  readonly clients: Some<JobCounts>;
  readonly workers: Some<JobCounts>;
  readonly compilers: Some<JobCounts>;
  readonly builds: Some<JobCounts>;
  readonly denials: Some<Ends>;
  readonly failures: Some<Ends>;
  readonly machines: Some<Ends>;
  readonly breaches: Some<Event>;
  readonly confirmed: { readonly equal: number; readonly different: Some<Event> };
  readonly revocations: Some<Event>;
  readonly policies: Some<Event>;
  /** What was removed, what must not be, torn ends and keys. */
  readonly upkeep: Some<Event>;
  readonly hosts: Some<HostState>;
}

export interface ReportFilter {
  readonly tenant: string | null;
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

/** Whether a row is counted. What is about no tenant is about all of them. */
export function isReported({ row, envelope }: AuditRecord, { tenant, sinceMs, untilMs }: ReportFilter): boolean {
  return (
    (tenant === null || row.tenant === tenant || row.tenant === "-") &&
    (sinceMs === null || envelope.endMs >= sinceMs) &&
    (untilMs === null || envelope.endMs < untilMs)
  );
}

type JobBody = BodyOfKind<"compile" | "hit" | "denied" | "failed">;

export class ReportBuilder {
  readonly #countMax: number;
  #rows = 0;
  #firstMs: number | null = null;
  #lastMs: number | null = null;
  readonly #totals = jobCounts([]);
  readonly #isolation = new Map<string, number>();
  readonly #days = new Groups(jobCounts);
  readonly #clients = new Groups(jobCounts);
  readonly #workers = new Groups(jobCounts);
  readonly #compilers = new Groups(jobCounts);
  readonly #builds = new Groups(jobCounts);
  readonly #denials = new Groups(ends);
  readonly #failures = new Groups(ends);
  readonly #machines = new Groups(ends);
  readonly #hosts = new Groups(hostState);
  #equal = 0;
  readonly #lists: Record<"breaches" | "different" | "revocations" | "policies" | "upkeep", Newest<Event>>;

  /** Each list of the report has so many items at most. */
  constructor(countMax: number) {
    this.#countMax = countMax;
    const list = () => new Newest<Event>(countMax);
    this.#lists = { breaches: list(), different: list(), revocations: list(), policies: list(), upkeep: list() };
  }

  take(record: AuditRecord): void {
    const { row, envelope } = record;
    this.#rows += 1;
    this.#firstMs = Math.min(this.#firstMs ?? envelope.endMs, envelope.endMs);
    this.#lastMs = Math.max(this.#lastMs ?? envelope.endMs, envelope.endMs);
    switch (envelope.kind) {
      case "compile":
      case "hit":
      case "denied":
      case "failed":
        this.#job(row, envelope);
        return;
      case "confirm":
        if (envelope.outcome === "equal") this.#equal += 1;
        else this.#lists.different.add(eventOf(record));
        return;
      case "vm":
        this.#machine(record, envelope);
        return;
      case "host":
        takeHost(this.#hosts.of([row.worker]), envelope);
        return;
      case "revoke":
        this.#lists.revocations.add(eventOf(record));
        return;
      case "policy":
        this.#lists.policies.add(eventOf(record));
        return;
      case "log":
      case "prune":
      case "hold":
        this.#lists.upkeep.add(eventOf(record));
        return;
    }
  }

  #job(row: AuditRow, body: JobBody): void {
    const { principal, build } = body;
    const groups = [
      this.#totals,
      this.#days.of([new Date(body.endMs).toISOString().slice(0, 10)]),
      this.#clients.of([row.tenant, principal]),
      this.#workers.of([row.worker]),
      ...(build === null ? [] : [this.#builds.of([build, principal])]),
      ...(row.imageDigest === null ? [] : [this.#compilers.of([row.imageDigest, programOf(row.flags)])]),
    ];
    for (const group of groups) countJob(group, row, body);
    if (body.kind === "denied") countEnd(this.#denials.of([body.code, row.tenant, principal]), body.endMs);
    if (body.kind === "failed") countEnd(this.#failures.of([body.code, row.tenant, row.worker]), body.endMs);
    if (body.kind !== "compile" && body.kind !== "hit") return;
    const key = `${body.isolation} ${body.life}`;
    this.#isolation.set(key, (this.#isolation.get(key) ?? 0) + 1);
  }

  #machine(record: AuditRecord, body: BodyOfKind<"vm">): void {
    const what = body.event === "destroyed" ? `destroyed: ${body.reason}` : body.event;
    countEnd(this.#machines.of([what, record.row.worker]), body.endMs);
    if (body.event === "destroyed" && body.reason === "breach") this.#lists.breaches.add(eventOf(record));
  }

  finish(): ReportData {
    const first = <T extends { readonly jobs: number }>(groups: Groups<T>) =>
      groups.first(this.#countMax, (a, b) => b.jobs - a.jobs);
    const latest = (a: JobCounts, b: JobCounts) => b.lastMs - a.lastMs;
    return {
      rows: this.#rows,
      firstMs: this.#firstMs,
      lastMs: this.#lastMs,
      totals: this.#totals,
      isolation: ISOLATIONS.toReversed().map((isolation) => ({
        isolation,
        lives: Object.fromEntries(
          LIVES.map((life) => [life, this.#isolation.get(`${isolation} ${life}`) ?? 0]),
        ) as Record<Life, number>,
      })),
      days: this.#days.first(this.#countMax, latest),
      clients: first(this.#clients),
      workers: first(this.#workers),
      compilers: first(this.#compilers),
      builds: this.#builds.first(this.#countMax, latest),
      denials: first(this.#denials),
      failures: first(this.#failures),
      machines: first(this.#machines),
      breaches: this.#lists.breaches.some,
      confirmed: { equal: this.#equal, different: this.#lists.different.some },
      revocations: this.#lists.revocations.some,
      policies: this.#lists.policies.some,
      upkeep: this.#lists.upkeep.some,
      hosts: this.#hosts.first(this.#countMax, (a, b) => (a.worker < b.worker ? -1 : 1)),
    };
  }
}

function jobCounts(names: readonly string[]): JobCounts {
  const counts = { jobs: 0, compiles: 0, hits: 0, denied: 0, failed: 0, firstMs: 0, lastMs: 0 };
  return { names, ...counts, workers: new Names(), images: new Names(), principals: new Names() };
}

function countJob(group: JobCounts, row: AuditRow, { kind, principal, endMs }: JobBody): void {
  if (group.jobs === 0) group.firstMs = endMs;
  group.jobs += 1;
  if (kind === "compile") group.compiles += 1;
  else if (kind === "hit") group.hits += 1;
  else group[kind] += 1;
  group.firstMs = Math.min(group.firstMs, endMs);
  group.lastMs = Math.max(group.lastMs, endMs);
  group.workers.add(row.worker);
  group.images.add(row.imageDigest);
  group.principals.add(principal);
}

function ends(names: readonly string[]): Ends {
  return { names, jobs: 0, lastMs: 0 };
}

function countEnd(group: Ends, ms: number): void {
  group.jobs += 1;
  group.lastMs = Math.max(group.lastMs, ms);
}

function hostState([worker = ""]: readonly string[]): HostState {
  return { worker, ms: 0, isolation: "", starts: 0, findings: [] };
}

/** The newest start counts. */
function takeHost(host: HostState, { endMs, isolation, findings }: BodyOfKind<"host">): void {
  host.starts += 1;
  if (endMs < host.ms) return;
  Object.assign(host, { ms: endMs, isolation, findings });
}

function eventOf({ row, envelope }: AuditRecord): Event {
  return {
    worker: row.worker,
    row: envelope.sequence,
    ms: envelope.endMs,
    tenant: row.tenant,
    image: row.imageDigest,
    vm: row.vm,
    note: told(envelope),
  };
}

function told(body: EnvelopeBody): string {
  if (body.kind === "confirm") return `first compiled in ${body.firstVm}`;
  return noteOf(body);
}

/** The compiler as it was called in the image; "" where the row does not hold the command itself. */
function programOf(flags: string | null): string {
  if (flags === null || !flags.startsWith("[")) return "";
  return decodeFlags(flags).argv[0] ?? "";
}
