// `hpcc audit search`, `tail` and `export`: rows of a log that are wanted, as TSV, JSON lines or CSV. Each is printed as it comes, in the
// order of the log; nothing is held.
import { encodeEnvelope } from "../audit/envelope.ts";
import { checkReach, claimedRows } from "../audit/log-reach.ts";
import { CHAIN_START } from "../audit/read-log.ts";
import { AUDIT_KINDS, noteOf } from "../audit/rows/bodies.ts";
import type { AuditRecord, ChainState } from "../audit/segment.ts";
import { rowsAfter, selectRows } from "../audit/select-rows.ts";
import { logFolder } from "../audit/verify-folder.ts";
import { HpccError } from "../base/errors.ts";

export const FORMATS = ["tsv", "jsonl", "csv"] as const;
export type Format = (typeof FORMATS)[number];

/** What is wanted; null for anything. */
export interface RowFilter {
  readonly tenant: string | null;
  readonly principal: string | null;
  readonly kind: string | null;
  readonly vm: string | null;
  readonly build: string | null;
  /** The image's digest, or the start of its digits; so the source's and the object's. */
  readonly image: string | null;
  readonly source: string | null;
  readonly output: string | null;
  /** Rows that ended from then on, and before then. */
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

export function matches({ row, envelope }: AuditRecord, filter: RowFilter): boolean {
  const is = (wanted: string | null, value: string | null) => wanted === null || wanted === value;
  const starts = (wanted: string | null, value: string | null) =>
    wanted === null ||
    (value !== null && value.slice(value.indexOf(":") + 1).startsWith(wanted.replace(/^sha256:/, "")));
  return (
    is(filter.tenant, row.tenant) &&
    is(filter.principal, "principal" in envelope ? envelope.principal : null) &&
    is(filter.kind, envelope.kind) &&
    is(filter.vm, row.vm) &&
    is(filter.build, "build" in envelope ? envelope.build : null) &&
    starts(filter.image, row.imageDigest) &&
    starts(filter.source, row.sourceDigest) &&
    starts(filter.output, row.outputDigest) &&
    (filter.sinceMs === null || envelope.endMs >= filter.sinceMs) &&
    (filter.untilMs === null || envelope.endMs < filter.untilMs)
  );
}

/** Parses a time of a filter: a date, or a date and a time, UTC where no zone is named. */
export function parseTime(text: string): number {
  const ms = /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d)?)?$/.test(text)
    ? Date.parse(text.includes("T") && !/(Z|[+-]\d\d:\d\d)$/.test(text) ? `${text}Z` : text)
    : Number.NaN;
  // A 30th of February would be taken for the 2nd of March.
  const [date = ""] = text.split("T");
  const isDay = Number.isFinite(ms) && new Date(`${date}T00:00:00Z`).toISOString().startsWith(date);
  if (!isDay) throw new HpccError("argument.invalid", `${text} is no time such as 2027-01-31T12:00:00Z`);
  return ms;
}

export interface Span {
  readonly sinceMs: number | null;
  readonly untilMs: number | null;
}

/** The time that a command line names. Throws `argument.invalid` for one in which nothing can be. */
export function parseSpan({ since, until }: { readonly since?: string; readonly until?: string }): Span {
  const [sinceMs, untilMs] = [since, until].map((text) => (text === undefined ? null : parseTime(text)));
  if (sinceMs != null && untilMs != null && sinceMs >= untilMs)
    throw new HpccError("argument.invalid", `nothing is from ${since} on and before ${until}`);
  return { sinceMs: sinceMs!, untilMs: untilMs! };
}

/** Throws `argument.invalid` for a kind that no row has. */
export function parseKind(text: string): string {
  if (AUDIT_KINDS.includes(text)) return text;
  throw new HpccError("argument.invalid", `no row is of kind ${text}; kinds are ${AUDIT_KINDS.join(", ")}`);
}

const CSV_COLUMNS = [
  "sequence",
  "start",
  "end",
  "kind",
  "note",
  "principal",
  "isolation",
  "life",
  "image_digest",
  "source_digest",
  "flags",
  "output_digest",
  "tenant",
  "worker",
  "vm",
  "duration",
  "exit",
  "row_digest",
  "build",
];

export function header(format: Format): string {
  return format === "csv" ? `${CSV_COLUMNS.join(",")}\r\n` : "";
}

export function formatRow(record: AuditRecord, format: Format): string {
  const { line, envelope, digest } = record;
  switch (format) {
    case "tsv":
      return `${line}\n`;
    case "jsonl":
      return `${JSON.stringify({ row: line, digest, envelope: JSON.parse(encodeEnvelope(envelope)) as unknown })}\n`;
    case "csv": {
      const of = (name: "principal" | "isolation" | "life" | "build") =>
        text((envelope as unknown as Record<string, unknown>)[name]);
      const times = [envelope.startMs, envelope.endMs].map((ms) => new Date(ms).toISOString());
      const own = [of("principal"), of("isolation"), of("life")];
      const cells = [
        String(envelope.sequence),
        ...times,
        envelope.kind,
        noteOf(envelope),
        ...own,
        ...line.split("\t"),
        digest,
        of("build"),
      ];
      return `${cells.map(csvCell).join(",")}\r\n`;
    }
  }
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Quoted where CSV wants it (RFC 4180); a cell that a spreadsheet would run as a formula begins with an apostrophe. */
function csvCell(text: string): string {
  const safe = /^[=+@\t\r]/.test(text) || /^-./.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export interface SearchOptions {
  readonly filter: RowFilter;
  readonly format: Format;
  /** The last so many alone; null for all. */
  readonly last: number | null;
  /** Goes on with rows as they come while it resolves to true. */
  readonly more: (() => Promise<boolean>) | null;
  readonly out: (text: string) => void;
  /** Is told how many rows were read, now and then. */
  readonly onRows?: (rows: number) => void;
  readonly everyRows?: number;
  /** Is told what is wrong with a log that is followed; of any other one it is thrown. */
  readonly damaged?: (error: HpccError) => void;
  /** Is told how many rows were pruned, where some were. */
  readonly pruned?: (rows: number) => void;
}

const EVERY_ROWS = 8192;

/**
 * Prints the rows that are wanted; gives how many there were. Throws `audit.corrupt`, once the good rows are
 * printed, where reading stopped at damage or before the row that the checkpoint says. Where the index of the log answers, no other rows are read.
 */
export async function searchLog(folder: string, options: SearchOptions): Promise<number> {
  const { filter, format, last, more, out, everyRows = EVERY_ROWS } = options;
  const found = await logFolder(folder);
  const claimed = await claimedRows(found);
  out(header(format));
  let state: ChainState = CHAIN_START;
  let count = 0;
  let removed = 0;
  let kept: string[] = [];
  const gone = (rows: number) => void (removed += rows);
  for (let following = false; ; following = true) {
    // What follows a row that was read comes after it, whatever fits.
    const rows = more === null ? selectRows(found, filter, gone) : rowsAfter(found, state, gone);
    let problem: HpccError | null = null;
    const take = (record: AuditRecord) => {
      state = { sequence: record.envelope.sequence, leaf: record.leaf };
      if (state.sequence % everyRows === 0) options.onRows?.(state.sequence);
      if (!matches(record, filter)) return;
      count++;
      const text = formatRow(record, format);
      if (last === null || following) out(text);
      else if (kept.push(text) >= 2 * last + 1) kept = kept.slice(-last);
    };
    try {
      for await (const record of rows) take(record);
      if (!following) await checkReach(found, claimed);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      problem = error;
    }
    if (last !== null && !following) for (const text of last === 0 ? [] : kept.slice(-last)) out(text);
    kept = [];
    if (removed > 0) options.pruned?.(removed);
    removed = 0;
    if (problem !== null && (more === null || following)) throw problem;
    if (problem !== null) options.damaged?.(problem);
    if (more === null || !(await more())) return count;
  }
}
