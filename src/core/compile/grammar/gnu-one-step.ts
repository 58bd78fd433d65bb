// Argument vectors of a call that is compiled in one step from its files: the listing of these files on the client, and the call's own
// command line in the guest. Pure. Invocations come with their paths mapped to the view.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { placeInjected } from "../view/prefix-maps.ts";
import { PROJECT_ROOT } from "../view/view.ts";
import type { CompilerFamily, DependencyRequest, GnuInvocation } from "./invocation.ts";

export interface InjectedOptions {
  readonly family: CompilerFamily;
  /** Whether the project stands at its own path, as without hpcc. */
  readonly ownPaths: boolean;
  /** Whether SOURCE_DATE_EPOCH sets the date, rather than that a date is an error. */
  readonly pinned: boolean;
}

/** What hpcc adds to a compile from files, and `hpcc inspect` shows; a seed comes on top. */
export function oneStepInjected({ family, ownPaths, pinned }: InjectedOptions): ByteString[] {
  // GCC records its options in some outputs; a date is an error to it by SOURCE_DATE_EPOCH, too.
  const dates = family === "gcc" && (pinned || ownPaths) ? [] : [ascii("-Werror=date-time")];
  if (ownPaths) return dates;
  const maps = [`-ffile-prefix-map=${PROJECT_ROOT}=.` as ByteString];
  // The seed and the map would be recorded as the producer's options.
  return [...dates, ...maps, ...(family === "gcc" ? [ascii("-gno-record-gcc-switches")] : [])];
}

export interface ListingOptions {
  /** The compiler's absolute path in the image: argv[0]. */
  readonly compiler: ByteString;
  /** Where the list is written. */
  readonly file: ByteString;
  /** `all`: with system headers (`-M`); `own`: without (`-MM`). */
  readonly headers: "all" | "own";
  /** Whether each header entered is also named on standard error. */
  readonly tree: boolean;
  readonly injected: readonly ByteString[];
}

/** argv that lists the files which a call reads, as a dependency file with the call's own targets. */
export function listingArgv(invocation: GnuInvocation, options: ListingOptions): ByteString[] {
  const kept = invocation.arguments.filter(
    ({ role, option }) =>
      role === "preprocess" || role === "both" || role === "input" || (role === "mode" && !PRODUCES.has(option)),
  );
  const words = kept.flatMap((argument) => argument.words);
  const { before, after } = placeInjected(words, options.injected);
  const request = invocation.dependencies;
  const targets = request?.targets ?? [{ text: ascii("listing"), quoted: false }];
  return [
    options.compiler,
    ascii(options.headers === "all" ? "-M" : "-MM"),
    ascii("-MF"),
    options.file,
    ...targets.flatMap(({ text, quoted }) => [ascii(quoted ? "-MQ" : "-MT"), text]),
    ...(request?.phony === true ? [ascii("-MP")] : []),
    ...(options.tree ? [ascii("-H")] : []),
    ...before,
    ...withFlags(words, after),
  ];
}

const PRODUCES: ReadonlySet<string> = new Set(["-c", "-S", "--compile", "--assemble"]);

export interface OneStepOptions {
  readonly compiler: ByteString;
  /** The output as the guest's compiler is told: the caller's name of it, or one that nothing embeds. */
  readonly outputPath: ByteString;
  /** Value of `-frandom-seed`; null for none. */
  readonly randomSeed: ByteString | null;
  /** Where the guest writes the dependency file; null where the list on the client has told it. */
  readonly dependencyFile: ByteString | null;
  readonly injected: readonly ByteString[];
}

/** The call's own command line with the paths of the view, without the dependency file's options. */
export function oneStepArgv(invocation: GnuInvocation, options: OneStepOptions): ByteString[] {
  const words: ByteString[] = [];
  let named = false;
  for (const argument of invocation.arguments) {
    if (argument.role === "dependency" || argument.role === "unused") continue;
    if (argument.role === "output") {
      words.push(ascii("-o"), options.outputPath);
      named = true;
    } else words.push(...argument.words);
  }
  const { before, after } = placeInjected(words, options.injected);
  const seeded = invocation.arguments.some(({ option }) => option === "-frandom-seed=" || option === "-frandom-seed");
  const flags = [
    ...after,
    ...(seeded || options.randomSeed === null ? [] : [`-frandom-seed=${options.randomSeed}` as ByteString]),
    ...(named ? [] : [ascii("-o"), options.outputPath]),
    ...dependencyWords(invocation.dependencies, options.dependencyFile),
  ];
  return [options.compiler, ...before, ...withFlags(words, flags)];
}

function dependencyWords(request: DependencyRequest | null, file: ByteString | null): ByteString[] {
  if (request === null || file === null) return [];
  const targets = request.targets.flatMap(({ text, quoted }) => [ascii(quoted ? "-MQ" : "-MT"), text]);
  return [ascii(`-${request.kind}`), ascii("-MF"), file, ...targets, ...(request.phony ? [ascii("-MP")] : [])];
}

/** Puts flags behind words, but before `--`, after which everything is a file. */
function withFlags(words: readonly ByteString[], flags: readonly ByteString[]): ByteString[] {
  const end = words.indexOf("--" as ByteString);
  return end < 0 ? [...words, ...flags] : [...words.slice(0, end), ...flags, ...words.slice(end)];
}

/**
 * Whether one list tells both all headers and those that are not the system's. GCC names what it enters (`-H`), but not what the command
 * line includes; under `-H` Clang also lists the system's.
 */
export function listsBoth(invocation: GnuInvocation): boolean {
  return invocation.family === "gcc" && !hasForcedIncludes(invocation);
}

/** Whether the command line itself includes files (`-include`, `-imacros`). */
export function hasForcedIncludes({ arguments: words }: GnuInvocation): boolean {
  return words.some(({ option }) => /^--?(?:include|imacros)$/.test(option));
}

/** Headers that GCC's `-H` named: a line of dots, a space, the name. Other lines are its words. UNTRUSTED: a checkout's names. */
export function enteredHeaders(text: ByteString): ByteString[] {
  const names = new Set<ByteString>();
  for (const line of text.split("\n")) {
    let dots = 0;
    while (line.charCodeAt(dots) === DOT) dots++;
    if (dots > 0 && line.charAt(dots) === " ") names.add(line.slice(dots + 1) as ByteString);
  }
  return [...names];
}

const DOT = 0x2e;
