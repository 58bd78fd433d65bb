// What the caller's environment means for a compile: what refuses it, which include paths it adds, which locale messages have, which
// colour settings count. And the environment that a step runs in. Pure: the environment and what is known of the image are arguments.
// UNTRUSTED: the caller's environment.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { CompilerFamily, GnuInvocation, Language } from "./invocation.ts";

export type Environment = ReadonlyMap<string, ByteString>;

/** The two locales in which a remote compile runs. */
export type CompileLocale = "C" | "C.UTF-8";

/** What is known of the image's locales. */
export interface ImageLocales {
  /** Whether the C library of the image has the locale, by the name as given (`en_US.UTF-8`). C and C.UTF-8 are not asked for. */
  hasLocale(name: string): boolean;
  /** Whether the image holds the compiler's, assembler's or C library's messages in the locale's language, by the name as given. */
  translates(name: string): boolean;
}

export interface EnvironmentPlan {
  readonly locale: CompileLocale;
  /** PATH of each step: where the image's compilers seek an assembler that is not their own. */
  readonly searchPath: ByteString;
  /** Variables that add include folders for the language: names and values as given; path-map.ts maps them. */
  readonly includePaths: readonly (readonly [name: ByteString, value: ByteString])[];
  /** The caller's SOURCE_DATE_EPOCH; only a policy that pins time uses it. */
  readonly sourceDateEpoch: ByteString | null;
  /** Terminal and colour settings that the diagnostics depend on, sorted by name; part of the key. */
  readonly appearance: readonly (readonly [name: ByteString, value: ByteString])[];
}

export type EnvironmentDecision =
  | { readonly kind: "plan"; readonly plan: EnvironmentPlan }
  | { readonly kind: "bypass"; readonly reason: BypassReason; readonly detail: ByteString | null };

/** Variables that write files, run or load code, add options, or say what is compiled for. Set, even to nothing, they refuse. */
export const REFUSING: Readonly<Record<CompilerFamily, ReadonlySet<string>>> = {
  gcc: new Set([
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "GCC_COMPARE_DEBUG",
    "GCC_EXTRA_DIAGNOSTIC_OUTPUT",
    "GCC_DIAGNOSTICS_LOG",
    "EXPERIMENTAL_SARIF_SOCKET",
    "CXX_MODULE_MAPPER",
    "GCC_ROOT",
    "CL",
    "_CL_",
  ]),
  clang: new Set([
    "DEPENDENCIES_OUTPUT",
    "SUNPRO_DEPENDENCIES",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "CCC_ADD_ARGS",
    "QA_OVERRIDE_GCC3_OPTIONS",
    "RC_DEBUG_OPTIONS",
    "FORCE_CLANG_DIAGNOSTICS_CRASH",
    "LIBCLANG_DISABLE_CRASH_RECOVERY",
    "SDKROOT",
    "MACOSX_DEPLOYMENT_TARGET",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "TVOS_DEPLOYMENT_TARGET",
    "WATCHOS_DEPLOYMENT_TARGET",
    "XROS_DEPLOYMENT_TARGET",
    "DRIVERKIT_DEPLOYMENT_TARGET",
    // Where the headers of some targets are.
    "SCE_ORBIS_SDK_DIR",
    "SCE_PROSPERO_SDK_DIR",
    "NCC_C_INCLUDE_PATH",
    "NCC_CPLUS_INCLUDE_PATH",
    "XCC_C_INCLUDE_PATH",
    "XCC_CPLUS_INCLUDE_PATH",
    "OBJECT_MODE",
    // LLVM's own: the producer of bitcode, and a file to which directives of an assembler write.
    "LLVM_OVERRIDE_PRODUCER",
    "AS_SECURE_LOG_FILE",
    "CXX_MODULE_MAPPER",
    "CL",
    "_CL_",
  ]),
};
export const REFUSING_PREFIXES: Readonly<Record<CompilerFamily, readonly string[]>> = {
  gcc: ["COLLECT_GCC", "COLLECT_LTO"],
  clang: ["CC_PRINT_", "CC_LOG_", "CLANG_CONFIG_FILE_", "CLANG_NO_DEFAULT_CONFIG", "CLANG_CRASH_", "CLANG_SPAWN_"],
};

const INCLUDE_PATHS: Readonly<Partial<Record<Language, readonly string[]>>> = {
  c: ["CPATH", "C_INCLUDE_PATH"],
  "c++": ["CPATH", "CPLUS_INCLUDE_PATH"],
  "assembler-with-cpp": ["CPATH", "C_INCLUDE_PATH"],
};

/** Read under a terminal; the first three also where colours or links are asked for on the command line. */
const FORCED_APPEARANCE = ["GCC_COLORS", "GCC_URLS", "TERM_URLS"];
const TERMINAL_APPEARANCE = ["CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "NO_COLOR", "TERM"];
const FORCES_APPEARANCE = /^-f(?:diagnostics-color|diagnostics-urls|color-diagnostics|ansi-escape-codes)/;

/** What of an environment decides how diagnostics look on a terminal, sorted by name. */
export function terminalAppearance(environment: Environment): readonly (readonly [ByteString, ByteString])[] {
  return present(environment, [...FORCED_APPEARANCE, ...TERMINAL_APPEARANCE].sort());
}

/** The value that setlocale takes for a category: LC_ALL, the category's own, LANG; empty ones do not count. */
export function categoryLocale(environment: Environment, category: string): string {
  for (const name of ["LC_ALL", category, "LANG"]) {
    const value = environment.get(name);
    if (value !== undefined && value !== "") return value;
  }
  return "C";
}

export function isPlainC(name: string): boolean {
  return name === "C" || name === "POSIX";
}

export function isCUtf8(name: string): boolean {
  return /^C\.utf-?8$/i.test(name);
}

/** Whether a locale's character set is UTF-8 by its name; one that names none is of an older set. */
function isUtf8(name: string): boolean {
  return /\.utf-?8(?:@|$)/i.test(name);
}

/**
 * The locale in which the compiler's messages come out the same, or null when neither does. GCC takes its quotation marks from
 * LC_CTYPE's character set and its language from LC_MESSAGES and LANGUAGE; a locale that the image lacks acts as C.
 */
export function decideLocale(
  environment: Environment,
  family: CompilerFamily,
  image: ImageLocales,
): CompileLocale | null {
  // Clang's messages depend on no locale.
  if (family === "clang") return "C";
  const ctype = categoryLocale(environment, "LC_CTYPE");
  const messages = categoryLocale(environment, "LC_MESSAGES");
  const messagesInC = isPlainC(messages) || (!isCUtf8(messages) && !image.hasLocale(messages));
  if (!messagesInC) {
    const languages = (environment.get("LANGUAGE") ?? "").split(":").filter((language) => language !== "");
    if ([messages, ...languages].some((language) => !isCUtf8(language) && image.translates(language))) return null;
  }
  if (isPlainC(ctype)) return "C";
  if (isCUtf8(ctype)) return "C.UTF-8";
  if (!image.hasLocale(ctype)) return "C";
  return isUtf8(ctype) ? "C.UTF-8" : null;
}

function refusingVariable(environment: Environment, family: CompilerFamily): ByteString | null {
  for (const name of environment.keys()) {
    if (REFUSING[family].has(name)) return name as ByteString;
    if (REFUSING_PREFIXES[family].some((prefix) => name.startsWith(prefix))) return name as ByteString;
  }
  return null;
}

function present(environment: Environment, names: readonly string[]): [ByteString, ByteString][] {
  return names.flatMap((name): [ByteString, ByteString][] => {
    const value = environment.get(name);
    return value === undefined ? [] : [[ascii(name), value]];
  });
}

export interface EnvironmentQuestion {
  readonly invocation: Pick<GnuInvocation, "family" | "language" | "arguments">;
  readonly environment: Environment;
  /** Whether the compiler's standard error is a terminal. */
  readonly terminal: boolean;
  /** Width of the terminal that standard input is; null when it is none or has none. */
  readonly inputColumns: number | null;
  readonly image: ImageLocales;
  /** The image's PATH. */
  readonly searchPath: ByteString;
}

/** Reads the caller's environment for one call. */
export function readEnvironment(question: EnvironmentQuestion): EnvironmentDecision {
  const { invocation, environment, terminal } = question;
  const refusing = refusingVariable(environment, invocation.family);
  if (refusing !== null) return { kind: "bypass", reason: "unsupported_environment_variable", detail: refusing };
  const locale = decideLocale(environment, invocation.family, question.image);
  if (locale === null) {
    const detail = ascii(categoryLocale(environment, "LC_MESSAGES"));
    return { kind: "bypass", reason: "unsupported_locale", detail };
  }
  const forced = invocation.arguments.some((argument) => FORCES_APPEARANCE.test(argument.words[0] ?? ""));
  const names = [...(terminal || forced ? FORCED_APPEARANCE : []), ...(terminal ? TERMINAL_APPEARANCE : [])];
  return {
    kind: "plan",
    plan: {
      locale,
      searchPath: question.searchPath,
      includePaths: present(environment, INCLUDE_PATHS[invocation.language] ?? []),
      sourceDateEpoch: environment.get("SOURCE_DATE_EPOCH") ?? null,
      appearance: withColumns(present(environment, names.sort()), question),
    },
  };
}

/** GCC asks standard input for the width of standard error's terminal, and a step has none: COLUMNS says it instead. */
function withColumns(
  appearance: [ByteString, ByteString][],
  { invocation, terminal, inputColumns }: EnvironmentQuestion,
): [ByteString, ByteString][] {
  if (invocation.family !== "gcc" || !terminal || inputColumns === null) return appearance;
  const others = appearance.filter(([name]) => name !== "COLUMNS");
  const given = appearance.find(([name]) => name === "COLUMNS")?.[1];
  if (given !== undefined && Number.parseInt(given, 10) > 0) return appearance;
  const columns: [ByteString, ByteString] = [ascii("COLUMNS"), ascii(String(inputColumns))];
  return [...others, columns].sort(([a], [b]) => (a < b ? -1 : 1));
}

export interface StepEnvironmentOptions {
  /** Mapped include paths, for the preprocessing step alone. */
  readonly includePaths?: readonly (readonly [name: ByteString, value: ByteString])[];
  /** The epoch under the policy that pins time. */
  readonly pinnedEpoch?: ByteString;
}

/** The whole environment of a step, sorted by name: nothing of the caller's but what the plan holds. */
export function stepEnvironment(
  plan: Pick<EnvironmentPlan, "locale" | "appearance" | "searchPath">,
  options: StepEnvironmentOptions = {},
): (readonly [name: ByteString, value: ByteString])[] {
  const locale = ascii(plan.locale);
  const all: (readonly [ByteString, ByteString])[] = [
    [ascii("HOME"), ascii("/nonexistent")],
    [ascii("LANG"), locale],
    [ascii("LC_ALL"), locale],
    [ascii("PATH"), plan.searchPath],
    [ascii("TZ"), ascii("UTC")],
    ...plan.appearance,
    ...(options.includePaths ?? []),
  ];
  if (options.pinnedEpoch !== undefined) all.push([ascii("SOURCE_DATE_EPOCH"), options.pinnedEpoch]);
  return all.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
