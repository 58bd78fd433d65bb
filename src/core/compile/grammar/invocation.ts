// A GNU-style compile call as the grammar understood it. Produced by gnu-parse.ts, consumed by two-step.ts, path-map.ts and
// the daemon. `words` of all arguments in order are the command line after argv[0], response files expanded.
import type { ByteString } from "../../../base/byte-string.ts";
import type { OutputKind } from "../../action/action.ts";
import type { BypassReason } from "../bypass-reasons.ts";

export type { BypassReason } from "../bypass-reasons.ts";

/** Families with one command line grammar and two ways of preprocessing. */
export type CompilerFamily = "gcc" | "clang";

/** Languages that can be compiled remotely, by the names of `-x`. */
export type Language = "c" | "c++" | "cpp-output" | "c++-cpp-output" | "assembler" | "assembler-with-cpp";

/**
 * What a step an argument belongs to: `preprocess` arguments go to `-E` alone, `compile` ones to the second step alone,
 * `both` to both; `input`, `output`, `dependency` and `mode` ones are made anew for each step; `unused` ones have no effect
 * on a compile (link options of GCC) and go to neither.
 */
export type ArgumentRole = "preprocess" | "compile" | "both" | "input" | "output" | "dependency" | "mode" | "unused";

/**
 * What a value is: `text`; the path of a `directory` or `file`; an `include` name, which the compiler seeks in the working
 * directory and then on the include path; a `prefix_map`, `old=new`, whose left side is a path prefix; a `profile`, the path of a file or
 * of a folder in which the compiler seeks one.
 */
export type ValueKind = "text" | "directory" | "file" | "include" | "prefix_map" | "profile";

export interface Argument {
  readonly role: ArgumentRole;
  /** The words as spelled, one or two (`-I dir`). */
  readonly words: readonly ByteString[];
  /** The canonical option without value: "-I", "-isystem", "-std=". Empty for an input. */
  readonly option: ByteString;
  /** Its value, null for a plain switch. When not null, the last word ends with it. */
  readonly value: ByteString | null;
  readonly valueKind: ValueKind;
  /** True when the value is a path, which must be in view and is mapped. */
  readonly isPath: boolean;
}

export interface DependencyRequest {
  /** `-MD` also lists system headers, `-MMD` does not. */
  readonly kind: "MD" | "MMD";
  /** File to write, as the user spelled it or as the compiler would name it. */
  readonly file: ByteString;
  /** Targets in order: quoted for make (`-MQ`, and the default) or verbatim (`-MT`). Never empty. */
  readonly targets: readonly { readonly text: ByteString; readonly quoted: boolean }[];
  readonly phony: boolean;
}

export interface GnuInvocation {
  readonly family: CompilerFamily;
  /** argv[0] as called. */
  readonly program: ByteString;
  readonly language: Language;
  /** The one source file as spelled. */
  readonly source: ByteString;
  /** The output as spelled, or as the compiler would name it. */
  readonly output: ByteString;
  /** `-c` makes an object, `-S` assembler text. */
  readonly produce: "object" | "assembler";
  /** All arguments in order, response files expanded. */
  readonly arguments: readonly Argument[];
  readonly dependencies: DependencyRequest | null;
  /** Files that the call may write besides the output and the dependency file, as the compiler names them. */
  readonly sideOutputs: readonly SideOutput[];
  /** Names of the output go into outputs, or name side outputs: the guest's output must be called as the caller's. */
  readonly keepsNames: boolean;
  /** Outputs hold paths that no prefix map reaches: they are made with the project at its own path. */
  readonly ownPaths: boolean;
  /** The compiler draws a random number for this call unless it is given a seed. */
  readonly random: boolean;
  /** Why preprocessed text cannot stand for the sources of this call; null when its command line does not forbid it. */
  readonly textRefusal: Refusal | null;
}

/** A file that a call may write besides the output and the dependency file. */
export interface SideOutput {
  /** As the compiler names it: relative to the working directory, or absolute where the output of `-o` is. */
  readonly path: ByteString;
  readonly kind: OutputKind;
}

export interface Refusal {
  readonly reason: BypassReason;
  /** The word that it is about. */
  readonly detail: ByteString | null;
}

export type ParseResult =
  | { readonly kind: "compile"; readonly invocation: GnuInvocation }
  /** Several sources, each compiled for itself, in the order of the call. */
  | { readonly kind: "several"; readonly invocations: readonly GnuInvocation[] }
  | { readonly kind: "bypass"; readonly reason: BypassReason; readonly detail: ByteString | null };

/** The argument with another value, spelled in the same form. */
export function withValue(argument: Argument, value: ByteString): Argument {
  const words = [...argument.words];
  const last = words[words.length - 1] ?? "";
  words[words.length - 1] = (last.slice(0, last.length - (argument.value ?? "").length) + value) as ByteString;
  return { ...argument, words, value };
}
