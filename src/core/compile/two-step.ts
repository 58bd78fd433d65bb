// Argument vectors of the two steps of a remote compile: `-E` on the client, the compile of its text in the guest. Pure.
// Must not know where the daemon keeps its files, nor read any.
import type { ByteString } from "../../base/byte-string.ts";
import type { BypassReason, GnuInvocation } from "./invocation.ts";

export interface PreprocessOptions {
  /** The compiler's absolute path in the image: argv[0]. */
  readonly compiler: ByteString;
  /** Where the first step writes its text. */
  readonly output: ByteString;
  /** Where it writes the dependency file, when the invocation asks for one. */
  readonly dependencyFile: ByteString | null;
  /** Flags injected into both steps. */
  readonly injected: readonly ByteString[];
}

export interface CompileOptions {
  readonly compiler: ByteString;
  /** The rebuilt text, absolute in the guest (`Rebuilt.main.path`). */
  readonly sourcePath: ByteString;
  /** The object or assembler text, absolute in the guest. */
  readonly outputPath: ByteString;
  /** Value of `-frandom-seed`. */
  readonly randomSeed: ByteString;
  readonly injected: readonly ByteString[];
}

/** Why an invocation cannot be compiled in two steps, judged by its command line alone; null when it can. */
export function twoStepRefusal(_invocation: GnuInvocation): BypassReason | null {
  return null;
}

/** argv of the first step, whose paths are those of the view. */
export function preprocessArgv(_invocation: GnuInvocation, options: PreprocessOptions): ByteString[] {
  return [options.compiler];
}

/** argv of the second step. */
export function compileArgv(_invocation: GnuInvocation, options: CompileOptions): ByteString[] {
  return [options.compiler];
}
