// The audit row: nine tab-separated columns, a public interface (docs/specs/audit-log.md). Pure.
import { HpccError } from "../base/errors.ts";
import { type Digest, isDigest, sha256 } from "../core/digest/digest.ts";

export interface AuditRow {
  /** Null (a "-") where a job did not say, or for a row about no image. */
  readonly imageDigest: Digest | null;
  readonly sourceDigest: Digest | null;
  /** What `encodeFlags` made; the digest of a blob with it when it is too long for a row; null for a row about no command. */
  readonly flags: string | Digest | null;
  /** The object's digest; null when there is none. */
  readonly outputDigest: Digest | null;
  readonly tenant: string;
  readonly worker: string;
  /** The VM that compiled, also for a hit. */
  readonly vm: string | null;
  /** Duration of the job on the worker in microseconds. */
  readonly durationUs: number;
  /** Exit code of the compiler; null when none ran. */
  readonly exit: number | null;
}

/** Longest row in bytes, without its line end. */
export const ROW_LENGTH_MAX = 64 * 1024 - 1;
/** Flags longer than this go to a blob, so that a row with all its columns and its envelope fit a record. */
export const INLINE_FLAGS_LENGTH_MAX = 48 * 1024;

const NONE = "-";
const COLUMNS = 9;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127}$/;
const NUMBER = /^(0|[1-9][0-9]{0,15})$/;
const FLAGS = /^\[[ -~]*\]$/;

const DIGEST_COLUMN = "(?:-|sha256:[0-9a-f]{64})";
const NAME_COLUMN = "(?:-|[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,127})";
const NUMBER_COLUMN = "(?:0|[1-9][0-9]{0,15})";
const COLUMN_PATTERNS = [
  DIGEST_COLUMN,
  DIGEST_COLUMN,
  `(?:${DIGEST_COLUMN}|\\[[ -~]*\\])`,
  DIGEST_COLUMN,
  NAME_COLUMN,
  NAME_COLUMN,
  NAME_COLUMN,
  NUMBER_COLUMN,
  `(?:-|${NUMBER_COLUMN})`,
];
/** What `decodeRow` reads, but for its length, in a fraction of the time. */
export const ROW_PATTERN = COLUMN_PATTERNS.join("\\t");

/** The row's line, without line end. Throws when a value does not fit its column: that is a bug of the caller. */
export function encodeRow(row: AuditRow): string {
  const line = [
    row.imageDigest ?? NONE,
    row.sourceDigest ?? NONE,
    row.flags ?? NONE,
    row.outputDigest ?? NONE,
    row.tenant,
    row.worker,
    row.vm ?? NONE,
    String(row.durationUs),
    row.exit === null ? NONE : String(row.exit),
  ].join("\t");
  decodeRow(line);
  return line;
}

/** Reads a row's line; throws `audit.corrupt` for anything that `encodeRow` does not write. UNTRUSTED: a log, a worker. */
export function decodeRow(line: string): AuditRow {
  const columns = line.split("\t");
  if (line.length > ROW_LENGTH_MAX || columns.length !== COLUMNS) throw corrupt("is not a line of nine columns");
  const [image, source, flags, output, tenant, worker, vm, duration, exit] = columns as [string, ...string[]];
  return {
    imageDigest: digestColumn(image),
    sourceDigest: digestColumn(source!),
    flags: flagsColumn(flags!),
    outputDigest: digestColumn(output!),
    tenant: nameColumn(tenant!),
    worker: nameColumn(worker!),
    vm: vm === NONE ? null : nameColumn(vm!),
    durationUs: numberColumn(duration!),
    exit: exit === NONE ? null : numberColumn(exit!),
  };
}

/** SHA-256 of a row's line, by which it is found again. */
export function rowDigest(line: string): Digest {
  return sha256(Buffer.from(line, "latin1"));
}

function digestColumn(text: string): Digest | null {
  if (text === NONE) return null;
  if (!isDigest(text)) throw corrupt("has a column that is no digest");
  return text;
}

function flagsColumn(text: string): string | null {
  if (text === NONE) return null;
  if (!isDigest(text) && !FLAGS.test(text)) throw corrupt("has flags that are no JSON array of printable ASCII");
  return text;
}

function nameColumn(text: string): string {
  if (!NAME.test(text) && text !== NONE) throw corrupt("has a name with a character that no name has");
  return text;
}

function numberColumn(text: string): number {
  if (!NUMBER.test(text)) throw corrupt("has a column that is no number");
  return Number(text);
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `an audit row ${problem}`);
}

/** A row with nothing in it, of which the builders of rows take what they need. */
export function emptyRow(worker: string): AuditRow {
  return {
    imageDigest: null,
    sourceDigest: null,
    flags: null,
    outputDigest: null,
    tenant: NONE,
    worker,
    vm: null,
    durationUs: 0,
    exit: null,
  };
}
