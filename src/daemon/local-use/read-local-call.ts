// Reads a call of the caller's own compiler: its command line by grammar, and what of its environment the result depends on. UNTRUSTED:
// the caller's argv and environment.
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { FieldWriter } from "../../core/action/fields.ts";
import { type Environment, readEnvironment, terminalAppearance } from "../../core/compile/grammar/environment.ts";
import type { CompilerFamily, GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import { environmentOf, parseCall } from "../call/read-call.ts";
import { realPath } from "../call/real-path.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import { processWay } from "../call/ways.ts";
import { processorDigest } from "./processor.ts";

export interface LocalCall {
  readonly invocation: GnuInvocation;
  /** argv with response files as what they say. */
  readonly words: readonly ByteString[];
  readonly environment: Environment;
  /** Variables that the result depends on. */
  readonly variables: ReadonlyMap<string, ByteString>;
}

/** Compilers run where they are called, so the locale need not be one of the image's. */
const ANY_LOCALE = { hasLocale: () => false, translates: () => false };
/** No step has an environment of its own. */
const NO_SEARCH_PATH = ascii("");
const MATTERS =
  /^(?:LANG|LANGUAGE|LC_[A-Z]+|CPATH|(?:C|CPLUS)_INCLUDE_PATH|SOURCE_DATE_EPOCH|LOCPATH|NLSPATH|OUTPUT_CHARSET|GCONV_PATH)$/;

/** Variables that name folders in which headers are sought. */
const SEARCHED = /^(?:CPATH|(?:C|CPLUS)_INCLUDE_PATH)$/;

const NATIVE = /^-m(?:arch|tune|cpu)=native$/;

/** The family that a compiler seems to be of by its name, or by that of what it is a link to. */
export function guessFamily(path: ByteString): CompilerFamily {
  const base = (name: ByteString) => name.slice(name.lastIndexOf("/") + 1);
  const names = [base(path), base(realPath(path))];
  return names.some((name) => name.includes("clang")) ? "clang" : "gcc";
}

export function readLocalCall(message: CallMessage, family: CompilerFamily): Stage<LocalCall> {
  const parsed = parseCall(message, { path: message.argv[0]!, family });
  if (parsed.kind === "bypass") return parsed;
  const [invocation, another] = parsed.value;
  if (another !== undefined) return bypass("multiple_source_files", another.source);
  const profile = invocation!.arguments.find(({ valueKind }) => valueKind === "profile");
  if (profile !== undefined) return bypass("profile_guided", profile.words[0]);
  // The compiler's options would stand in the text.
  const verbose = invocation!.arguments.some(({ words: [word] }) => word === "-fverbose-asm");
  if (verbose && invocation!.sideOutputs.length > 0) return bypass("recorded_switches", ascii("-fverbose-asm"));
  // GCC puts all of them into the name of a list that it is asked for.
  if (invocation!.arguments.filter(({ option }) => option === "-o" || option === "--output=").length > 1)
    return bypass("bad_compiler_arguments", ascii("-o"));
  const environment = environmentOf(message.environment);
  const own = processPath(message.cwd, invocation!, environment);
  if (own !== null) return bypass(own === invocation!.source ? "standard_input" : "extra_input_file", own);
  const decision = readEnvironment({
    invocation: invocation!,
    environment,
    terminal: false,
    inputColumns: null,
    image: ANY_LOCALE,
    searchPath: NO_SEARCH_PATH,
  });
  if (decision.kind === "bypass") return bypass(decision.reason, decision.detail);
  const variables = new Map([...environment].filter(([name]) => MATTERS.test(name)));
  for (const [name, value] of decision.plan.appearance) variables.set(name, value);
  return next({
    invocation: invocation!,
    words: [message.argv[0]!, ...invocation!.arguments.flatMap(({ words }) => words)],
    environment,
    variables,
  });
}

/** What the call names by the way of a process, where the daemon would find its own; null for nothing. */
function processPath(
  cwd: ByteString,
  { arguments: words }: GnuInvocation,
  environment: Environment,
): ByteString | null {
  const named = words.flatMap(({ isPath, value }) => (isPath && value !== null ? [value] : []));
  const folders = [...environment].flatMap(([name, value]) =>
    SEARCHED.test(name) ? (value.split(":") as ByteString[]) : [],
  );
  const absolute = (path: ByteString) => (path.startsWith("/") ? path : (`${cwd}/${path}` as ByteString));
  const all = [...new Set([...named, ...folders])];
  if (processWay(all.map(absolute)) === null) return null;
  return all.find((path) => processWay([absolute(path)]) !== null) ?? null;
}

export interface CallSurroundings {
  /** The working folder and its spelling, where the result may show them. */
  readonly place: readonly [cwd: ByteString, pwd: ByteString] | null;
  /** What stands at the folders that are searched. */
  readonly folders: string;
  /** What is installed of the caller's locale; empty for none, or for an image's. */
  readonly locale?: string;
}

/** Keys of the results of a call that speaks to a terminal, which depend on its width and on what is asked of it; of others' keys. */
export function keysOnTerminal(keys: readonly Digest[], { terminal, environment }: CallMessage): readonly Digest[] {
  const appearance = terminalAppearance(environmentOf(environment));
  return keys.map((key) => {
    const fields = new FieldWriter()
      .ascii(1, "hpcc.local-call.terminal.v1")
      .digest(2, key)
      .u32(3, terminal.columns ?? 0)
      // GCC asks standard input for the width.
      .u32(4, terminal.stdin ? 1 : 0);
    for (const [name, value] of appearance) fields.record(5, (entry) => entry.byteString(1, name).byteString(2, value));
    return sha256(fields.finish());
  });
}

/** Digest of all that a result depends on beside files. */
export function callDigest(
  { words, variables, invocation }: LocalCall,
  compiler: Digest,
  { place, folders, locale = "" }: CallSurroundings,
): Digest {
  const fields = new FieldWriter().ascii(1, "hpcc.local-call.v1").digest(2, compiler).ascii(3, invocation.family);
  for (const word of words) fields.byteString(4, word);
  for (const [name, value] of [...variables].sort(([a], [b]) => (a < b ? -1 : 1)))
    fields.record(5, (entry) => entry.byteString(1, name as ByteString).byteString(2, value));
  if (words.some((word) => NATIVE.test(word))) fields.digest(8, processorDigest());
  fields.ascii(9, folders);
  if (locale !== "") fields.ascii(10, locale);
  if (place !== null) fields.byteString(6, place[0]).byteString(7, place[1]);
  return sha256(fields.finish());
}
