// What kind of failure a compile in a guest was, by its exit code and the compiler's words. Pure. UNTRUSTED: the words come from a guest.
import type { ByteString } from "../../../base/byte-string.ts";

/**
 * `ordinary`: the compiler refused the source, which is the answer. `date`: it met a date, which policy decides on. `fault`: it crashed,
 * was killed, or missed a file: of those the local compiler has the last word.
 */
export type Failure = "ordinary" | "date" | "fault";

const DATES = [
  // GCC, when it expands a date while SOURCE_DATE_EPOCH holds none.
  "SOURCE_DATE_EPOCH",
  // GCC's and Clang's -Wdate-time.
  "might prevent reproducible builds",
  "macro is not reproducible",
];
const FAULTS = [
  "No such file or directory",
  "no such file or directory",
  "file not found",
  // Clang's assembler.
  "Could not find",
  "cannot open",
  "can't open",
  "unable to open",
  "unable to make temporary file",
  "No space left",
  "Cannot allocate memory",
  "virtual memory exhausted",
  "out of memory",
  "internal compiler error",
  "signal terminated program",
  "PLEASE submit a bug report",
  "cannot execute",
  "unable to execute",
  // GNU's assembler, over its output and over what broke in itself.
  "can't create",
  "can't write",
  "can't close",
  "Internal error",
];

export function failureOf(exitCode: number, stderr: ByteString): Failure {
  if (exitCode !== 1) return "fault";
  if (DATES.some((words) => stderr.includes(words))) return "date";
  return FAULTS.some((words) => stderr.includes(words)) ? "fault" : "ordinary";
}
