// The one file that says what belongs to the index on disk, and how far in the log it goes. It is replaced as a whole.
import { hash } from "node:crypto";
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from "node:fs";
import { join } from "node:path";
import { isDigest } from "../../core/digest/digest.ts";
import { readPlainFileSync } from "../plain-file.ts";
import type { RecordPlace } from "../read-log.ts";
import { type ChainState, segmentSequence } from "../segment.ts";
import type { RunName } from "./run.ts";
import { IndexDamaged, RUN_ID_BYTES } from "./run-format.ts";

/** Where a reader of the log stands: after the record that it names. */
export interface LogPosition extends ChainState {
  /** The record's place; null before the first one. */
  readonly at: RecordPlace | null;
}

/** When the rows of a segment that were taken ended, first and last, in milliseconds since 1970. */
export interface SegmentSpan {
  readonly segment: string;
  readonly fromMs: number;
  readonly toMs: number;
}

/** How far the index goes, and the spans of all rows up to there. */
export interface BuiltPosition extends LogPosition {
  readonly spans: readonly SegmentSpan[];
}

export interface IndexState {
  readonly built: BuiltPosition;
  /** Newest first. */
  readonly runs: readonly RunName[];
}

export const STATE_FILE = "state";
/** Changes with anything in the index's form. */
const FORM = 2;
const STATE_BYTES_MAX = 16 * 1024 * 1024;
const RUN_NAME = /^[0-9a-f]{16}\.run$/;

/** Null where there is no index. Throws `IndexDamaged` for a state that this version did not write. UNTRUSTED: a disk. */
export function readIndexState(home: string): IndexState | null {
  let text: string;
  try {
    text = readPlainFileSync(join(home, STATE_FILE)).toString("latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new IndexDamaged("its state cannot be read", error);
  }
  const [body = "", sum, rest] = text.split("\n");
  if (text.length > STATE_BYTES_MAX || rest !== "" || sum !== hash("sha256", body, "hex"))
    throw new IndexDamaged("its state is damaged");
  const state = parseState(JSON.parse(body) as Record<string, unknown>);
  if (state === null) throw new IndexDamaged("its state is of another form");
  return state;
}

/** Puts it in place, durable; what it names is durable already. */
export function writeIndexState(home: string, { built, runs }: IndexState): void {
  const named = runs.map(({ name, id, entries, level }) => ({ name, id: id.toString("hex"), entries, level }));
  const body = JSON.stringify({ form: FORM, built, runs: named });
  const path = join(home, STATE_FILE);
  const fd = openSync(`${path}.new`, "w", 0o600);
  try {
    writeSync(fd, `${body}\n${hash("sha256", body, "hex")}\n`);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
  const folder = openSync(home, "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function parseState({ form, built, runs }: Record<string, unknown>): IndexState | null {
  const position = parsePosition(built);
  const { spans } = (built ?? {}) as Record<string, unknown>;
  if (form !== FORM || position === null || !Array.isArray(runs) || !Array.isArray(spans)) return null;
  const parsed = runs.map(parseRun);
  const parsedSpans = spans.map(parseSpan);
  if (parsed.includes(null) || parsedSpans.includes(null)) return null;
  return { built: { ...position, spans: parsedSpans as SegmentSpan[] }, runs: parsed as RunName[] };
}

function parseSpan(value: unknown): SegmentSpan | null {
  const { segment, fromMs, toMs } = (value ?? {}) as Record<string, unknown>;
  if (typeof segment !== "string" || segmentSequence(segment) === null) return null;
  return Number.isSafeInteger(fromMs) && Number.isSafeInteger(toMs)
    ? { segment, fromMs: fromMs as number, toMs: toMs as number }
    : null;
}

function parsePosition(value: unknown): LogPosition | null {
  const { sequence, leaf, at } = (value ?? {}) as Record<string, unknown>;
  if (!isCount(sequence) || typeof leaf !== "string" || !isDigest(leaf)) return null;
  if (at === null) return { sequence, leaf, at };
  const { segment, offset } = (at ?? {}) as Record<string, unknown>;
  if (typeof segment !== "string" || segmentSequence(segment) === null || !isCount(offset)) return null;
  return { sequence, leaf, at: { segment, offset } };
}

function parseRun(value: unknown): RunName | null {
  const { name, id, entries, level } = (value ?? {}) as Record<string, unknown>;
  if (typeof name !== "string" || !RUN_NAME.test(name) || typeof id !== "string") return null;
  const bytes = Buffer.from(id, "hex");
  if (bytes.length !== RUN_ID_BYTES || !isCount(entries) || entries === 0 || !isCount(level)) return null;
  return { name, id: bytes, entries, level };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
