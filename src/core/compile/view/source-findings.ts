// Gathers what a scan of a source text finds: names, each once, and flags. Pure.
import type { ByteString } from "../../../base/byte-string.ts";

export interface SpelledName {
  readonly name: ByteString;
  readonly quoted: boolean;
}

export interface AssemblerRead {
  readonly directive: "incbin" | "include";
  readonly name: ByteString;
}

export interface SourceScan {
  /** Names of `#include`, `#include_next` and `#import` in any branch, active or not, as spelled between the delimiters, each once. */
  readonly includes: readonly SpelledName[];
  /** Operands of `__has_include`, `__has_include_next` and `__has_embed`. */
  readonly tests: readonly SpelledName[];
  /** Names of `#embed`, and those of `assemblerReads`. */
  readonly embeds: readonly ByteString[];
  /** Of `.incbin "..."` and `.include "..."`, in assembler text or inside string literals. */
  readonly assemblerReads: readonly AssemblerRead[];
  /** Names in macro definitions that a computed include may mean: each `"..."` and `<...>` in the replacement list. */
  readonly definitions: readonly ByteString[];
  /** Macros that stand for `__has_include`. */
  readonly testMacros: readonly string[];
  /** Words in code of which, with those of other texts, `##` could make the names of date macros and operators. */
  readonly nameParts: readonly string[];
  /** Macros that are the whole operand of an `#include`. */
  readonly includeMacros: readonly string[];
  /** Whether the operand of an `#include` is other than a name or one macro. */
  readonly oddInclude: boolean;
  /** Whether a macro with operands is, so that the name may be made of parts. */
  readonly madeInclude: boolean;
  /** Whether macros make the operand of an `#include`, of a `__has_include` or its like, or of an `#embed`. */
  readonly computedInclude: boolean;
  readonly computedTest: boolean;
  readonly computedEmbed: boolean;
  /** Whether the operand of an `.incbin` or `.include` is no plain string, or macros may make the directive. */
  readonly computedAssemblerRead: boolean;
  /** Whether `__DATE__`, `__TIME__` or `__TIMESTAMP__` stands in code, or parts of one that pasting could join. */
  readonly dates: boolean;
  /** The same of `__TIMESTAMP__` alone. */
  readonly timestamp: boolean;
  /** Whether a pragma can change predefined macros: of targets or optimization, or a `_Pragma` whose operand is no literal. */
  readonly macroPragma: boolean;
  /** Whether a pragma names an input that nothing else lists. */
  readonly pragmaDependency: boolean;
  /** Whether the text imports, or belongs to, a C++ module. */
  readonly modules: boolean;
  /** Whether `##` stands in the text. */
  readonly pastes: boolean;
}

export type Flag = { [K in keyof SourceScan]: SourceScan[K] extends boolean ? K : never }[keyof SourceScan];

/** No file has a longer path (PATH_MAX, in bytes). */
const NAME_MAX = 4096;

export class Findings {
  readonly #includes = new Map<string, SpelledName>();
  readonly #tests = new Map<string, SpelledName>();
  readonly #embeds = new Set<ByteString>();
  readonly #reads = new Map<string, AssemblerRead>();
  readonly #definitions = new Set<ByteString>();
  readonly #testMacros = new Set<string>();
  readonly #nameParts = new Set<string>();
  readonly #includeMacros = new Set<string>();
  readonly #flags: Record<Flag, boolean> = {
    oddInclude: false,
    madeInclude: false,
    computedInclude: false,
    computedTest: false,
    computedEmbed: false,
    computedAssemblerRead: false,
    dates: false,
    timestamp: false,
    macroPragma: false,
    pragmaDependency: false,
    modules: false,
    pastes: false,
  };
  #budget: number;

  /** `nameBytesMax` bounds the names' lengths together: more are not gathered, and everything is taken as computed. */
  constructor(nameBytesMax: number) {
    this.#budget = nameBytesMax;
  }

  flag(name: Flag): void {
    this.#flags[name] = true;
  }

  include(text: Buffer, from: number, to: number, quoted: boolean): void {
    const name = this.#name(text, from, to);
    if (name !== null) this.#includes.set(`${quoted ? '"' : "<"}${name}`, { name, quoted });
  }

  test(text: Buffer, from: number, to: number, quoted: boolean): void {
    const name = this.#name(text, from, to);
    if (name !== null) this.#tests.set(`${quoted ? '"' : "<"}${name}`, { name, quoted });
  }

  embed(text: Buffer, from: number, to: number): void {
    const name = this.#name(text, from, to);
    if (name !== null) this.#embeds.add(name);
  }

  assemblerRead(directive: AssemblerRead["directive"], text: Buffer, from: number, to: number): void {
    const name = this.#name(text, from, to);
    if (name === null) return;
    this.#reads.set(`${directive} ${name}`, { directive, name });
    this.#embeds.add(name);
  }

  definition(text: Buffer, from: number, to: number): void {
    const name = this.#name(text, from, to);
    if (name !== null) this.#definitions.add(name);
  }

  testMacro(name: string): void {
    this.#testMacros.add(name);
  }

  namePart(word: string): void {
    this.#nameParts.add(word);
  }

  includeMacro(name: string): void {
    this.#includeMacros.add(name);
  }

  result(): SourceScan {
    return {
      includes: [...this.#includes.values()],
      tests: [...this.#tests.values()],
      embeds: [...this.#embeds],
      assemblerReads: [...this.#reads.values()],
      definitions: [...this.#definitions],
      testMacros: [...this.#testMacros],
      nameParts: [...this.#nameParts],
      includeMacros: [...this.#includeMacros],
      ...this.#flags,
    };
  }

  /** Null for what can name no file. */
  #name(text: Buffer, from: number, to: number): ByteString | null {
    if (to - from > NAME_MAX || to <= from) return null;
    this.#budget -= to - from;
    if (this.#budget < 0) {
      for (const name of Object.keys(this.#flags) as Flag[]) this.#flags[name] = true;
      return null;
    }
    return text.toString("latin1", from, to) as ByteString;
  }
}
