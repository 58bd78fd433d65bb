// One row of the corpus's tables, from which cases.ts makes a case for each compiler.
import type { BypassReason } from "../../src/core/compile/bypass-reasons.ts";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";

/**
 * What the text form comes to. `equal`: compiled in the guest, all as in one step. `listed`: compiled in the guest, and words or exit
 * code differ as docs/fidelity.md lists. `object`: the same, and the object differs. Otherwise the reason for which it is compiled
 * locally.
 */
export type TextExpectation = "equal" | "listed" | "object" | BypassReason;

/** What the default form comes to: compiled in the guest, or the reason for which it is compiled locally. */
export type FilesExpectation = "remote" | BypassReason;

export interface Row {
  /** Unique but for the flags; a folder below `sources/` when `files` does not say all. */
  readonly folder: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly flags?: string;
  /** What the text form comes to with GCC, where that is not `equal`; null for no case with this compiler. */
  readonly gcc?: TextExpectation | null;
  readonly clang?: TextExpectation | null;
  /** What the default form comes to with both compilers, or with one, where that is not `remote`. */
  readonly local?: BypassReason | Partial<Record<CompilerFamily, BypassReason>>;
  /** Compilers that have nothing to say. */
  readonly quiet?: CompilerFamily | "both";
  /** The source as it is named, when it is not the main file that the folder holds. */
  readonly source?: string;
  readonly cwd?: string;
  /** Programs of GCC and Clang to call, when not those of the source's language. */
  readonly drivers?: readonly [gcc: string, clang: string];
  readonly variant?: boolean;
}
