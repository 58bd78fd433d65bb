// What is executed in the guest. With the source's digest this is all that determines a result. Pure values and their
// rules; the wire's form is in src/wire/worker.
import type { ByteString } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { NumberTable } from "../../base/number-table.ts";
import type { Digest } from "../digest/digest.ts";
import { isJobFolder, isJobPath, isNormalPath } from "./guest-path.ts";

/** What an output file is to the compiler; `object` (also assembler text) is what an audit row's output_digest names. */
export type OutputKind =
  | "object"
  | "dwo"
  | "gcno"
  | "stack-usage"
  | "callgraph"
  /** The assembler's or the compiler's listing. */
  | "listing"
  /** A file of -save-temps. */
  | "temporary"
  | "dump"
  | "time-trace"
  | "precompiled-header"
  | "optimization-record"
  /** Diagnostics that go to a file. */
  | "diagnostics";

export const OUTPUT_KINDS = new NumberTable<OutputKind>({
  object: 1,
  dwo: 2,
  gcno: 3,
  "stack-usage": 4,
  callgraph: 5,
  listing: 6,
  temporary: 7,
  dump: 8,
  "time-trace": 9,
  "precompiled-header": 10,
  "optimization-record": 11,
  diagnostics: 12,
});

/** `default`: date and time are compiled locally; `strict`: they fail; `pin`: SOURCE_DATE_EPOCH sets them. */
export type DeterminismPolicy = "default" | "strict" | "pin";

export const DETERMINISM_POLICIES = new NumberTable<DeterminismPolicy>({ default: 1, strict: 2, pin: 3 });

export interface OutputFile {
  /** Absolute path in the guest, where a job's files may be. */
  readonly path: ByteString;
  /** True when an execution with exit code 0 is wrong without it. */
  readonly required: boolean;
  readonly kind: OutputKind;
}

export interface Action {
  readonly imageDigest: Digest;
  /** As executed, the absolute path of the compiler in the image first. */
  readonly argv: readonly ByteString[];
  /** The whole environment, "NAME=value", sorted by bytes, each name once. */
  readonly environment: readonly ByteString[];
  /** Absolute path in the guest, where a job's folders may be. */
  readonly cwd: ByteString;
  readonly outputs: readonly OutputFile[];
  /** Width of the terminal that stderr shall look like; null for none. */
  readonly terminalColumns: number | null;
  readonly determinism: DeterminismPolicy;
}

const ARGUMENTS_MAX = 65_536;
const ENVIRONMENT_MAX = 256;
export const OUTPUTS_MAX = 64;
/** All outputs' paths together: an audit row names each, and a character may take six bytes there. */
const OUTPUT_PATHS_BYTES_MAX = 6 * 1024;
const TERMINAL_COLUMNS_MAX = 10_000;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*=/;

/** Returns the action if it keeps the rules above, else throws `argument.invalid`. UNTRUSTED: clients. */
export function checkAction(action: Action): Action {
  const require = (condition: boolean, problem: string) => {
    if (!condition) throw new HpccError("argument.invalid", `the action ${problem}`);
  };
  const { argv, environment, outputs, terminalColumns } = action;
  require(argv.length >= 1 && argv.length <= ARGUMENTS_MAX, `must have 1 to ${ARGUMENTS_MAX} arguments`);
  require(isNormalPath(argv[0]!), "must name its program by a normal absolute path");
  require(![...argv, ...environment].some((text) => text.includes("\0")), "has a NUL byte in an argument or variable");
  require(environment.length <= ENVIRONMENT_MAX, `has more than ${ENVIRONMENT_MAX} variables`);
  require(environment.every((variable) => VARIABLE.test(variable)), "has a variable that is not NAME=value");
  const names = environment.map((variable) => variable.slice(0, variable.indexOf("=")));
  require(new Set(names).size === names.length, "has a variable twice");
  require(environment.every((text, i) => i === 0 || environment[i - 1]! < text), "has an environment out of order");
  require(isJobFolder(action.cwd), "has a working directory that is not a job's folder");
  require(outputs.length <= OUTPUTS_MAX, `has more than ${OUTPUTS_MAX} outputs`);
  const pathBytes = outputs.reduce((sum, { path }) => sum + path.length, 0);
  require(pathBytes <=
    OUTPUT_PATHS_BYTES_MAX, `has output paths of more than ${OUTPUT_PATHS_BYTES_MAX} bytes together`);
  require(outputs.every((output) => isJobPath(output.path)), "has an output that is not below a job's folder");
  require(new Set(outputs.map((output) => output.path)).size === outputs.length, "has an output twice");
  require(outputs.filter((output) => output.kind === "object").length <= 1, "has more than one object");
  require(terminalColumns === null ||
    (Number.isInteger(terminalColumns) &&
      terminalColumns >= 1 &&
      terminalColumns <= TERMINAL_COLUMNS_MAX), `has a terminal that is not 1 to ${TERMINAL_COLUMNS_MAX} columns wide`);
  return action;
}

/** Sorts an environment as an action wants it. */
export function sortEnvironment(environment: readonly ByteString[]): ByteString[] {
  return [...environment].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
