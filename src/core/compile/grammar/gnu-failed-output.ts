// What a compile that an error of the source ended does to a plain file that stood at its output. Held against the real compilers in
// gnu-failed-output.test.ts. Pure. UNTRUSTED: the compiler's words come from a guest.
import type { ByteString } from "../../../base/byte-string.ts";
import { baseName } from "./gnu-names.ts";
import type { GnuInvocation } from "./invocation.ts";

/** `unknown`: it depends on where the compile stopped. */
export type FailedOutput = "stays" | "removed" | "unknown";

/** What GNU's assembler begins with; it removes what it cannot finish, unless it is told to keep it (`-Z`). */
const ASSEMBLER_SPOKE = /^(?:.*: )?Assembler messages:$/m;
/** An error with a place in a source: the compiler proper has run. A driver's error has none, and removes nothing. */
const LOCATED_ERROR = /:\d+:\d+: (?:fatal )?error: /;
// biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with it
const COLOUR = /\x1b\[[0-9;]*[mK]/g;

export interface FailedCompile {
  readonly invocation: Pick<GnuInvocation, "arguments" | "family" | "produce" | "sideOutputs">;
  /** The compiler's path, by which its driver calls itself. */
  readonly program: ByteString;
  readonly stderr: ByteString;
}

export function failedOutput({ invocation, program, stderr }: FailedCompile): FailedOutput {
  const { family, produce, sideOutputs } = invocation;
  if (sideOutputs.length > 0) return "unknown";
  const has = (...options: readonly string[]) => invocation.arguments.some(({ option }) => options.includes(option));
  if (family === "gcc" && produce === "object") {
    if (ASSEMBLER_SPOKE.test(stderr)) return has("-Wa,", "-Xassembler") ? "unknown" : "removed";
    // The assembler, which would replace it, has not begun; with a pipe it has.
    if (!has("-pipe")) return "stays";
  }
  if (has("-no-integrated-as", "-fno-integrated-as")) return "unknown";
  const words = stderr.replaceAll(COLOUR, "");
  const driver = `${baseName(program).split(".", 1)[0]}`;
  const isDrivers = (line: string) => line.startsWith(driver) && line.includes("error: ");
  return LOCATED_ERROR.test(words) && !words.split("\n").some(isDrivers) ? "removed" : "unknown";
}
