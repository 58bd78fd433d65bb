// The logger of the programs: one JSON object a line, to stderr or a file. Nothing that a peer said can break a line or
// move a terminal's cursor.
import { openSync, writeSync } from "node:fs";
import type { Clock } from "../clock.ts";
import type { LogFields, Logger } from "../log.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface JsonLoggerOptions {
  /** Takes one line with its line end. */
  readonly write: (line: string) => void;
  readonly level: LogLevel;
  readonly clock: Clock;
  readonly fields?: LogFields;
}

/** Longest text of one field; the rest is cut off. */
const FIELD_LENGTH_MAX = 4096;
const STDERR = 2;

/** A logger of JSON lines. */
export function createJsonLogger(options: JsonLoggerOptions): Logger {
  const enabled = (level: LogLevel) => LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(options.level);
  const log =
    (level: LogLevel) =>
    (event: string, fields: LogFields = {}) => {
      if (!enabled(level)) return;
      const time = new Date(options.clock.wallMs()).toISOString();
      options.write(`${encodeLine({ ...options.fields, ...fields }, { time, level, event })}\n`);
    };
  return {
    debug: log("debug"),
    info: log("info"),
    warn: log("warn"),
    error: log("error"),
    with: (fields) => createJsonLogger({ ...options, fields: { ...options.fields, ...fields } }),
  };
}

/** Time, level and event come first and cannot be set by a field. */
function encodeLine(fields: LogFields, head: Readonly<Record<string, string>>): string {
  const line: Record<string, unknown> = { ...head };
  for (const [name, value] of Object.entries(fields))
    if (!Object.hasOwn(head, name)) line[name] = typeof value === "string" ? value.slice(0, FIELD_LENGTH_MAX) : value;
  // JSON escapes U+0000 to U+001F itself.
  return JSON.stringify(line).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Writes to stderr at once; a log that cannot be written is lost, not the work. */
export function writeStderr(line: string): void {
  append(STDERR, line);
}

/** Appends to a file, which is made 0600. */
export function fileWriter(path: string): (line: string) => void {
  const descriptor = openSync(path, "a", 0o600);
  return (line) => append(descriptor, line);
}

function append(descriptor: number, line: string): void {
  try {
    writeSync(descriptor, line);
  } catch {
    // A full disk or a closed pipe; there is nowhere left to say so.
  }
}
