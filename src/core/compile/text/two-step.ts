// Argument vectors of the two steps of a remote compile: `-E` on the client, the compile of its text in the guest. Pure.
// Must not know where the daemon keeps its files, nor read any. Invocations come with their paths mapped to the view.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { Argument, CompilerFamily, GnuInvocation } from "../grammar/invocation.ts";
import { placeInjected } from "../view/prefix-maps.ts";

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
  /** The rebuilt text as the guest's compiler names it: `Rebuilt.main.name`. */
  readonly sourcePath: ByteString;
  /** The object or assembler text, absolute in the guest. */
  readonly outputPath: ByteString;
  /** Value of `-frandom-seed`, unless the user gave one. */
  readonly randomSeed: ByteString;
  readonly injected: readonly ByteString[];
}

const words = (text: string): readonly ByteString[] => text.split(" ").map(ascii);

const PREPROCESS: Readonly<Record<CompilerFamily, readonly ByteString[]>> = {
  gcc: words("-E -fdirectives-only"),
  clang: words("-E -frewrite-includes"),
};
const COMPILE: Readonly<Record<CompilerFamily, readonly ByteString[]>> = {
  gcc: words("-fpreprocessed -fdirectives-only"),
  clang: [],
};
/** Clang's text leaves macros of the command line to the second step. */
const CLANG_MACROS: ReadonlySet<string> = new Set(["-D", "-U", "-Wp,", "-Xpreprocessor"]);

/** Why an invocation cannot be compiled in two steps, judged by its command line alone; null when it can. */
export function twoStepRefusal(invocation: GnuInvocation): BypassReason | null {
  if (invocation.textRefusal !== null) return invocation.textRefusal.reason;
  const words = invocation.arguments.flatMap((argument) => argument.words);
  if (invocation.family === "clang") {
    // The text has the forced include of `-include`, but not that of `-imacros`.
    if (invocation.arguments.some(({ option }) => /^--?imacros$/.test(option))) return "unfaithful_preprocessing";
    if (words.some((word) => TEXT_POSITIONS.has(word))) return "diagnostics_format";
    // The text does not have the macros of the command line, which the second step gets as they are.
    if (words.some((word) => DATES.test(word))) return "date_time_macro";
    if (words.some((word) => PLACES.test(word))) return "unfaithful_preprocessing";
    return hasFileChecksums(words) ? "debug_file_checksums" : null;
  }
  return words.some((word) => LOST_PRAGMAS.has(word)) ? "unfaithful_preprocessing" : null;
}

/** Options under which GCC loses pragmas in directives-only text, though no predefined macro tells of them. */
const LOST_PRAGMAS: ReadonlySet<string> = new Set(["-fopenacc", "-fopenmp-simd"]);

const DATES = /\b__(?:DATE|TIME|TIMESTAMP)__/;
const PLACES = /\b__(?:BASE_FILE|INCLUDE_LEVEL|COUNTER)__/;

/** Options under which Clang's diagnostics name lines of the text itself. */
const TEXT_POSITIONS: ReadonlySet<string> = new Set([
  "-fdiagnostics-parseable-fixits",
  "-fdiagnostics-print-source-range-info",
]);

/** Options that begin with `-g` and do not ask for debug information. */
const NO_DEBUG_INFO = /^-g(?:0|no-.*|z.*|column-info|strict-dwarf|pubnames|gnu-pubnames|simple-template-names.*)$/;

/**
 * True when Clang writes digests of the source files into the line table, as DWARF 5 does. They are those of files, which
 * the second step does not have.
 */
function hasFileChecksums(words: readonly string[]): boolean {
  let debug = false;
  let version = DWARF_DEFAULT;
  for (const word of words) {
    if (word === "-g0" || word === "-ggdb0") debug = false;
    else if (word.startsWith("-g") && !NO_DEBUG_INFO.test(word)) debug = true;
    const given = /^-gdwarf-?(\d)?$/.exec(word);
    if (given !== null) version = Number(given[1] ?? DWARF_DEFAULT);
  }
  return debug && version >= DWARF_DEFAULT;
}

const DWARF_DEFAULT = 5;

/** argv of the first step, whose paths are those of the view. */
export function preprocessArgv(invocation: GnuInvocation, options: PreprocessOptions): ByteString[] {
  const kept = spelled(invocation.arguments.filter(({ role }) => role === "preprocess" || role === "both"));
  const { before, after } = placeInjected(kept, options.injected);
  return [
    options.compiler,
    ...PREPROCESS[invocation.family],
    ...before,
    ...kept,
    ...after,
    ...dependencyWords(invocation, options.dependencyFile),
    ...words("-x"),
    invocation.language as ByteString,
    invocation.source,
    ...words("-o"),
    options.output,
  ];
}

/** argv of the second step. */
export function compileArgv(invocation: GnuInvocation, options: CompileOptions): ByteString[] {
  const { family } = invocation;
  const kept = spelled(
    invocation.arguments.filter(
      ({ role, option }) =>
        role === "compile" ||
        role === "both" ||
        (family === "clang" && role === "preprocess" && CLANG_MACROS.has(option)),
    ),
  );
  const { before, after } = placeInjected(kept, options.injected);
  const seeded = invocation.arguments.some(({ option }) => option === "-frandom-seed=" || option === "-frandom-seed");
  return [
    options.compiler,
    ascii(invocation.produce === "object" ? "-c" : "-S"),
    ...COMPILE[family],
    ...before,
    ...kept,
    ...after,
    ...(seeded ? [] : [`-frandom-seed=${options.randomSeed}` as ByteString]),
    ...words("-x"),
    invocation.language as ByteString,
    options.sourcePath,
    ...words("-o"),
    options.outputPath,
  ];
}

function spelled(kept: readonly Argument[]): ByteString[] {
  return kept.flatMap((argument) => argument.words);
}

/** The dependency file's options, explicit: `-MD` with `-E -o x.i` alone names the wrong target. */
function dependencyWords({ dependencies }: GnuInvocation, file: ByteString | null): ByteString[] {
  if (dependencies === null || file === null) return [];
  return [
    `-${dependencies.kind}` as ByteString,
    ...words("-MF"),
    file,
    ...dependencies.targets.flatMap(({ text, quoted }) => [ascii(quoted ? "-MQ" : "-MT"), text]),
    ...(dependencies.phony ? words("-MP") : []),
  ];
}

/** What hpcc adds to every compile, and `hpcc inspect` shows; the seed comes on top. `pinned` under the policy that pins the date. */
export function injectedFlags(family: CompilerFamily, pinned = false): ByteString[] {
  // GCC takes a pinned date from SOURCE_DATE_EPOCH; Clang may not, so there a date stays an error.
  const dates = pinned && family === "gcc" ? [] : words("-Werror=date-time");
  const both = [...dates, ...words("-ffile-prefix-map=/hpcc/project=.")];
  return [...both, ...(family === "gcc" ? words("-gno-record-gcc-switches") : [])];
}
