// A GNU-style compile call as the grammar understood it. Produced by gnu-parse.ts, consumed by two-step.ts.
import type { ByteString } from "../../base/byte-string.ts";

/** Families with one command line grammar and two ways of preprocessing. */
export type CompilerFamily = "gcc" | "clang";

/** Languages that can be compiled remotely, by the names of `-x`. */
export type Language = "c" | "c++" | "cpp-output" | "c++-cpp-output" | "assembler" | "assembler-with-cpp";

/**
 * What a step an argument belongs to: `preprocess` arguments go to `-E` alone, `compile` ones to the second step alone,
 * `both` to both; `input`, `output`, `dependency` and `mode` ones are made anew for each step.
 */
export type ArgumentRole = "preprocess" | "compile" | "both" | "input" | "output" | "dependency" | "mode";

export interface Argument {
  readonly role: ArgumentRole;
  /** The words as spelled, one or two (`-I dir`). */
  readonly words: readonly ByteString[];
  /** The canonical option without value: "-I", "-isystem", "-std=". Empty for an input. */
  readonly option: ByteString;
  /** Its value, null for a plain switch. */
  readonly value: ByteString | null;
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
}

/** Why a call is not compiled remotely; the closed list is in docs/bypass-reasons.md. */
export type BypassReason = string & { readonly __bypass?: never };

export type ParseResult =
  | { readonly kind: "compile"; readonly invocation: GnuInvocation }
  | { readonly kind: "bypass"; readonly reason: BypassReason; readonly detail: ByteString | null };
